"""Lesson 11's tables of decisions and misprints: what they say is so, and DECISIONS.md and code say the same."""

import inspect
import re
from importlib import import_module

import pytest

from tests.paths import NOTEBOOKS, ROOT
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.lesson_11.decisions import DECISIONS, MISPRINTS, Trial, decision_table, misprint_table, plain

PAGES = ("DECISIONS.md", "DECISIONS_ja.md")
TEXTS = [(NOTEBOOKS / name).read_text(encoding="utf-8") for name in PAGES]
HEADINGS = ("## Misprints in the paper", "## 論文の誤植")
TRIALS = {
    f"{row}.{place}": trial
    for row, trials in [(d.number, d.trials) for d in DECISIONS]
    + [(f"misprint {number}", misprint.trials) for number, misprint in enumerate(MISPRINTS)]
    for place, trial in enumerate(trials)
}


@pytest.fixture(autouse=True)
def english_afterwards():
    yield
    speak("en")


def named(path: str) -> object:
    """The object of a dotted name."""
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: object = import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


def cites(source: str, number: str) -> bool:
    return re.search(rf"\b{number}\b", source) is not None


def test_decisions_are_numbered_without_a_gap():
    assert [decision.number for decision in DECISIONS] == [f"D{n}" for n in range(1, len(DECISIONS) + 1)]
    assert all(decision.trials for decision in DECISIONS)
    assert all(misprint.trials for misprint in MISPRINTS)


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.number)
def test_the_code_that_makes_a_decision_cites_its_number(decision):
    assert cites(inspect.getsource(named(decision.code)), decision.number)


def test_a_number_that_is_not_cited_is_noticed():
    source = inspect.getsource(named("titans.recurrence.recurrent_scan"))
    assert cites(source, "D10")
    assert cites(source, "D1")
    assert not cites(source.replace("D10", "").replace("(D1)", ""), "D1")


def test_every_number_that_the_code_cites_has_a_row_and_every_row_is_cited():
    paths = [path for path in (ROOT / "titans").rglob("*.py") if path.parent.name != "lesson_11"]
    sources = [path.read_text(encoding="utf-8") for path in paths]
    cited = {number for source in sources for number in re.findall(r"\bD[1-9]\d*\b", source)}
    assert cited == {decision.number for decision in DECISIONS}


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_comes_out_as_decided_and_would_not_otherwise(name):
    assert TRIALS[name].holds(), TRIALS[name].run()


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_gives_the_same_numbers_again(name):
    assert TRIALS[name].run() == TRIALS[name].run()


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_a_trial_that_decides_nothing_does_not_hold(numbers):
    assert not Trial(("", ""), lambda: numbers).holds()


@pytest.mark.parametrize("place", range(2), ids=PAGES)
def test_the_page_has_these_decisions_in_these_words(place):
    rows = re.findall(r"^\| (D\d+) \| (.+?) \| (.+?) \|$", TEXTS[place], flags=re.MULTILINE)
    assert rows == [(d.number, d.question[place], d.decision[place]) for d in DECISIONS]


@pytest.mark.parametrize("place", range(2), ids=PAGES)
def test_the_page_has_these_misprints_in_these_words(place):
    _, _, part = TEXTS[place].partition(HEADINGS[place])
    bullets = [bullet.strip().replace("\n  ", " ") for bullet in re.split(r"^- ", part, flags=re.MULTILINE)[1:]]
    assert bullets == [misprint.text[place] for misprint in MISPRINTS]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_tables_fit_and_speak_the_reader_s_language(language):
    speak(language)
    table = decision_table() + "\n" + misprint_table()
    assert max(map(columns, table.splitlines())) <= 80  # a Japanese full stop may hang over
    assert "$" not in table
    assert "\\" not in table
    first = plain(DECISIONS[4].question[language == "ja"])
    assert f"D5   {first}\n     {DECISIONS[4].code}\n" in table


def test_some_rows_alone():
    table = decision_table("D2", "D16")
    assert re.findall(r"^D\d+", table, flags=re.MULTILINE) == ["D2", "D16"]
    with pytest.raises(ValueError, match=r"numbers must be among .*D16.*, got .*D17"):
        decision_table("D1", "D17")


def test_no_japanese_words_are_left_in_english():
    japanese = [d.question[1] + d.decision[1] + "".join(trial.what[1] for trial in d.trials) for d in DECISIONS]
    japanese += [misprint.text[1] for misprint in MISPRINTS]
    assert [text for text in japanese if not re.search("[ぁ-ん]", text)] == []
