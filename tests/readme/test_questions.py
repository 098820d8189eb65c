"""The page of questions that people ask: both languages ask the same, and every place that an answer names is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, ROOT
from titans.lesson.kit.cards import card

PAGES = {"en": NOTEBOOKS / "QUESTIONS.md", "ja": NOTEBOOKS / "QUESTIONS_ja.md"}
TEXTS = {language: path.read_text(encoding="utf-8") for language, path in PAGES.items()}
READMES = {"en": "README.md", "ja": "README_ja.md"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
SECTION = re.compile(r"(?<!\*)\*([^*]+)\*(?!\*)")

# What is asked in public, a word or two of each in both languages, in the order of the page.
ASKED = {
    "segment and chunk": "セグメント、チャンク",
    "per head": "ヘッドごと",
    "forgetting": "忘却",
    "from zero": "ゼロや乱数",
    "before or after": "書く前ですか、後",
    "which order": "どの順序",
    "shorter than a chunk": "チャンクより短い",
    "NaN": "NaN",
    "back-propagate": "誤差逆伝播",
    "persistent tokens": "永続トークン",
    "How much memory": "メモリはどれだけ",
    "passage is repeated": "文章をくり返す",
    "reset the memory": "メモリをリセット",
    "where does it not": "働かない",
}


def answers(text: str) -> dict[str, tuple[str, str]]:
    """Question: its answer, and the line of places."""
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        question, _, rest = part.partition("\n")
        answer, _, places = rest.partition("\n→ ")
        found[question] = answer.strip(), places.strip()
    return found


def headings(path: Path) -> list[str]:
    """Of a notebook or a page, without their marks."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def nowhere(places: str, folder: Path = NOTEBOOKS) -> Iterator[str]:
    """What a line of places names and is not there: files, anchors, names in code, sections of lessons."""
    links = list(LINK.finditer(places))
    for number, link in enumerate(links, 1):
        label, target = link.groups()
        behind = places[link.end() : links[number].start() if number < len(links) else None].replace("\n", " ")
        if target.startswith("http"):
            continue
        name, _, where = target.partition("#")
        path = (folder / name).resolve()
        if not path.is_file():
            yield target
            continue
        if where and where not in map(anchor, headings(path)):
            yield target
        if path.suffix == ".py" and not re.search(
            rf"\b(class|def) {label.strip('`')}\b", path.read_text(encoding="utf-8")
        ):
            yield f"{label} in {name}"
        if path.suffix == ".ipynb":
            sections = SECTION.findall(behind)
            yield from ([] if sections else [f"no section of {name}"])
            yield from (f"{section} in {name}" for section in sections if section not in headings(path))


@pytest.mark.parametrize("place", range(2), ids=PAGES)
def test_every_question_is_there_in_order(place):
    asked = [(known, *ASKED[known].splitlines())[place] for known in ASKED]
    questions = list(answers([*TEXTS.values()][place]))
    assert len(questions) == len(asked)
    assert [word for word, question in zip(asked, questions, strict=True) if word not in question] == []


def test_both_languages_have_the_same_equations_and_headings():
    english, japanese = map(build.structure, TEXTS.values())
    for kind in ("equations", "heading levels"):
        assert english[kind] == japanese[kind]


def test_both_languages_name_the_same_places_for_each_question():
    english, japanese = (
        [
            [
                (target.split("#")[0].replace("_ja.md", ".md").replace("ja/", "en/"))
                for _, target in LINK.findall(places)
            ]
            for _, places in answers(text).values()
        ]
        for text in TEXTS.values()
    )
    assert english == japanese


def test_both_languages_cite_the_same_decisions_for_each_question():
    english, japanese = (
        [sorted(re.findall(r"\bD\d+", answer, flags=re.ASCII)) for answer, _ in answers(text).values()]
        for text in TEXTS.values()
    )
    assert english == japanese


@pytest.mark.parametrize("language", PAGES)
def test_every_place_is_there_and_in_the_reader_s_language(language):
    other = {"en": "(ja/", "ja": "(en/"}[language]
    for question, (answer, places) in answers(TEXTS[language]).items():
        assert len(answer) > 50, question
        assert LINK.search(places), question
        assert other not in places, question
        assert [*nowhere(places), *nowhere(answer)] == [], question


@pytest.mark.parametrize(
    "place",
    [
        "[Lesson 99](en/99_nothing.ipynb), *1. Nothing*",
        "[Lesson 07](en/07_mac.ipynb), *8. Answers*",
        "[Lesson 07](en/07_mac.ipynb)",
        "[README](../README.md#nothing)",
        "[`Nothing`](../titans/blocks.py)",
    ],
)
def test_a_place_that_is_not_there_is_found(place):
    assert len(list(nowhere(place))) == 1


def test_the_figures_are_those_of_the_shipped_models():
    live, needle = card("recall-live")["runs"], card("needle")["runs"]
    assert needle["mac in noise"]["right"]["16384"]["worst"] == 1
    shares = [f"{100 * live[name]['right']['56']['median']:.1f}" for name in ("mac", "attention")]
    for text in TEXTS.values():
        *_, (answer, _) = answers(text).values()
        assert re.findall(r"([\d.]+) ?%", answer) == shares


@pytest.mark.parametrize("language", PAGES)
def test_the_readme_leads_to_the_page(language):
    readme = (ROOT / READMES[language]).read_text(encoding="utf-8")
    assert f"](notebooks/{PAGES[language].name})" in readme
