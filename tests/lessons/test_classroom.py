"""notebooks/classroom.toml has something for each lesson that stands, in both languages, and its minutes are those that
the lessons state."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, SOURCES
from titans.lesson.kit.progress import CHECK

LESSONS = {path.name[:2]: path for path in sorted(SOURCES.glob("[0-9][0-9]_*.py"))}
CLASSROOM = tomllib.loads((NOTEBOOKS / "classroom.toml").read_text(encoding="utf-8"))["lesson"]
LANGUAGES = ("en", "ja")
KEYS = {"before", "section", "exercise", "short45", "short90"}
NEAR = 0.1  # how far a sum of minutes may be from what the lesson states
SHORT = {"short45": 45, "short90": 90}


def sections(path: Path) -> list[int]:
    """The numbers of a source's English headings, in their order."""
    prose = [cell.source for cell in build.read_source(path) if cell.metadata.get("lang") == "en"]
    return [int(number) for number in re.findall(r"^## (\d+)\. ", "\n".join(prose), re.MULTILINE)]


def checks(path: Path) -> list[str]:
    """The names of a source's checks, each once, in their order."""
    return list(dict.fromkeys(CHECK.findall(path.read_text(encoding="utf-8"))))


def stated(path: Path) -> tuple[int, int]:
    """How many minutes a lesson says that it takes: to read, and with the exercises."""
    read, both, _ = build.STATED["en"].search(path.read_text(encoding="utf-8")).groups()
    return int(read), int(both)


def minutes(of: dict[str, Any], numbers: list[int], names: list[str]) -> int:
    """Of these sections and exercises together."""
    each = {section["number"]: section["minutes"] for section in of["section"]}
    return sum(each[number] for number in numbers) + sum(of["exercise"][name]["minutes"] for name in names)


def wrong(number: str, of: dict[str, Any]) -> list[str]:
    """What one language of one lesson lacks, or has and should not."""
    path, found = LESSONS[number], []
    numbers, names = [section["number"] for section in of["section"]], list(of["exercise"])
    if set(of) != KEYS:
        found.append(f"its keys are {sorted(of)}")
    if not 2 <= len(of["before"]) <= 3:
        found.append(f"{len(of['before'])} questions before it")
    if numbers != sections(path):
        found.append(f"sections {numbers}, in the source {sections(path)}")
    if names != checks(path):
        found.append(f"exercises {names}, in the source {checks(path)}")
    for name, have, want in zip(
        ("to read", "with the exercises"),
        (minutes(of, numbers, []), minutes(of, numbers, names)),
        stated(path),
        strict=True,
    ):
        if abs(have - want) > NEAR * want:
            found.append(f"{have} minutes {name}, and the lesson says {want}")
    for name, most in SHORT.items():
        chosen = of[name]
        if unknown := [*set(chosen["sections"]) - set(numbers), *set(chosen["exercises"]) - set(names)]:
            found.append(f"{name} names {unknown}")
        elif minutes(of, chosen["sections"], chosen["exercises"]) > most:
            found.append(f"{name} takes longer")
    texts = [*of["before"], *(each.get("note", "-") for each in of["section"])]
    texts += [each["note"] for each in (*of["exercise"].values(), of["short45"], of["short90"])]
    if any(not text or text != " ".join(text.split()) for text in texts):
        found.append("a text is empty, or has stray spaces")
    return found


def shape(value: Any) -> Any:
    """Numbers, names and which texts there are, without what the texts say."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return value if isinstance(value, int) or re.fullmatch("[A-Z_]+|check_[a-z_]+", value) else "text"


def test_every_lesson_that_stands_has_both_languages():
    assert list(CLASSROOM) == list(LESSONS)
    assert {number: tuple(languages) for number, languages in CLASSROOM.items()} == dict.fromkeys(LESSONS, LANGUAGES)


@pytest.mark.parametrize("number", LESSONS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_sections_and_exercises_are_the_lessons_and_their_minutes_add_up(number, language):
    assert wrong(number, CLASSROOM[number][language]) == []


@pytest.mark.parametrize("number", LESSONS)
def test_both_languages_have_the_same_numbers(number):
    assert shape(CLASSROOM[number]["en"]) == shape(CLASSROOM[number]["ja"])


@pytest.mark.parametrize("number", LESSONS)
def test_the_longer_choice_holds_the_shorter_one(number):
    of = CLASSROOM[number]["en"]
    for key in ("sections", "exercises"):
        assert set(of["short45"][key]) <= set(of["short90"][key])


def test_japanese_is_japanese():
    for languages in CLASSROOM.values():
        for text in re.findall(r"(?:note'?: |')([^']*)'", str(languages["en"])):
            assert not re.search("[ぁ-んァ-ヶ]", text)
        for text in [*languages["ja"]["before"], *(each.get("note", "の") for each in languages["ja"]["section"])]:
            assert re.search("[ぁ-んァ-ヶ]", text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda of: of["section"].pop(), "in the source"),
        (lambda of: of["section"][0].update(minutes=20), "minutes to read"),
        (lambda of: of["exercise"]["UPDATE"].update(minutes=40), "minutes with the exercises"),
        (lambda of: of["short45"]["sections"].extend([6, 7, 8]), "short45 takes longer"),
        (lambda of: of["short90"]["exercises"].append("NONE"), "short90 names"),
        (lambda of: of["before"].clear(), "0 questions"),
        (lambda of: of["section"][0].update(note=""), "a text is empty"),
    ],
)
def test_what_is_wrong_is_found(change, complaint):
    of = copy.deepcopy(CLASSROOM["03"]["en"])
    change(of)
    assert any(complaint in each for each in wrong("03", of))


# --- The guides, and the folder's README ------------------------------------------------------------------------------

GUIDES = {"en": NOTEBOOKS / "GUIDE.md", "ja": NOTEBOOKS / "GUIDE_ja.md"}
FOLDER = {"en": NOTEBOOKS / "README.md", "ja": NOTEBOOKS / "README_ja.md"}


def rows(text: str) -> list[list[str]]:
    """The cells of all rows of a text's tables."""
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)]


def title(path: Path, language: str) -> str:
    """A lesson's title, without what follows a colon."""
    prose = (cell.source for cell in build.read_source(path) if cell.metadata.get("lang") == language)
    return next(re.search(r"^# \d\d · ([^:：\n]+)", text)[1] for text in prose if text.startswith("# "))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_guide_lists_twelve_lessons_as_they_are(language):
    listed = {
        row[0]: row[1:] for row in rows(GUIDES[language].read_text(encoding="utf-8")) if re.fullmatch(r"\d\d", row[0])
    }
    assert sorted(listed) == sorted(LESSONS)
    for number, path in LESSONS.items():
        name, _, *both = listed[number]
        assert name == f"[{title(path, language)}]({language}/{path.stem}.ipynb)"
        assert tuple(map(int, both)) == stated(path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_workshop_gives_each_lesson_its_time(language):
    slots = {}
    for slot, what, *_ in rows(GUIDES[language].read_text(encoding="utf-8")):
        time, number = re.fullmatch(r"(\d\d):(\d\d)–(\d\d):(\d\d)", slot), re.search(r"(?<!\d)\d\d$", what)
        if time and number:
            first, last = (60 * int(time[n]) + int(time[n + 1]) for n in (1, 3))
            slots[number[0]] = last - first
    assert slots == {number: stated(path)[1] for number, path in LESSONS.items()}


@pytest.mark.parametrize("pair", [GUIDES, FOLDER])
def test_both_languages_have_the_same_tables_and_commands(pair):
    english, japanese = (pair[language].read_text(encoding="utf-8") for language in LANGUAGES)
    assert [len(row) for row in rows(english)] == [len(row) for row in rows(japanese)]
    for what in (r"^python .*$", r"`(?:python|--)[^`]*`", r"\d\d:\d\d–\d\d:\d\d", r"^#+ "):
        assert re.findall(what, english, re.MULTILINE) == re.findall(what, japanese, re.MULTILINE)


@pytest.mark.parametrize("path", [*GUIDES.values(), *FOLDER.values()], ids=lambda path: path.name)
def test_what_is_linked_is_there(path):
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", path.read_text(encoding="utf-8"))
    assert links
    for file, place in links:
        target = NOTEBOOKS / file
        assert target.exists(), file
        if place:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert place in [heading.lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", FOLDER.values(), ids=lambda path: path.name)
def test_the_folders_readme_is_short_and_names_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    named = {name for row in rows(text) for name in re.findall(r"[\w.]+\.\w+|\w+/", row[0])}
    assert all((NOTEBOOKS / name).exists() for name in named)
