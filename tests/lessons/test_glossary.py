"""One word for each idea: where English text uses a term of notebooks/glossary.tsv, its Japanese uses the glossary's.

The glossary's columns, a slash between alternatives:

    english      the term in the forms in which it occurs
    japanese     its translation first, then what may stand for it: a verb's stem, what Japanese says instead
    never        what must occur nowhere (regular expressions): other translations, other spellings
    introduced   yes: where a lesson first uses the translation, the English stands behind it in parentheses
    other sense  English phrases in which the word is not the term
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest

from tests.lessons.builder import build
from tests.paths import PAGES, ROOT, japanese

SOURCES = sorted((ROOT / "notebooks" / "src").glob("[0-9][0-9]_*.py"))
HELPERS = sorted((ROOT / "titans" / "lesson").rglob("*.py"))
KANA = re.compile("[ぁ-んァ-ヶ]")


class Term(NamedTuple):
    english: tuple[str, ...]
    japanese: tuple[str, ...]
    never: tuple[str, ...]
    introduced: tuple[str, ...]
    other_sense: tuple[str, ...]


def read_glossary() -> list[Term]:
    with (ROOT / "notebooks" / "glossary.tsv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t", restval="")]
    columns = ("english", "japanese", "never", "introduced", "other sense")
    return [Term(*(tuple(filter(None, row[key].split("/"))) for key in columns)) for row in rows]


TERMS = read_glossary()
FORMS = {form.lower(): term for term in TERMS for form in term.english}
# "persistent memory" is found before, and not also as, "memory".
LONGEST_FIRST = "|".join(map(re.escape, sorted(FORMS, key=len, reverse=True)))
USE = re.compile(rf"(?<![\w-])({LONGEST_FIRST})(?![\w-])", re.IGNORECASE)


def prose(text: str) -> str:
    """A text without code, equations, links' targets, tags, generated tables, emphasis, and references."""
    text = re.split(r"^## References", text, flags=re.MULTILINE)[0]
    generated = r"<!-- (?:recipe|benchmark)\b.*?<!-- /\w+ -->"
    rest = rf"{generated}|```.*?```|`[^`\n]*`|\$\$.+?\$\$|\$[^$]+\$|\]\([^)]*\)|<[^>]*>"
    return " ".join(re.sub(rest, " ", text, flags=re.DOTALL).replace("*", "").split())


def used(english: str) -> list[Term]:
    """The terms of an English text."""
    for phrase in (phrase for term in TERMS for phrase in term.other_sense):
        english = english.replace(phrase, " ")
    return list(dict.fromkeys(FORMS[form.lower()] for form in USE.findall(prose(english))))


def untranslated(english: str, japanese: str) -> list[str]:
    """The terms of an English text for which its translation does not have the glossary's word."""
    return [term.english[0] for term in used(english) if not any(word in japanese for word in term.japanese)]


def forbidden(japanese: str) -> list[str]:
    return [match[0] for term in TERMS for word in term.never for match in re.finditer(word, japanese)]


def not_introduced(english: str, japanese: str) -> list[str]:
    """The terms whose first use in a Japanese lesson, headings and the map of lessons aside, lacks the English."""
    japanese = prose(re.sub(r"^(#+ |\| [01]\d \|).*", "", japanese, flags=re.MULTILINE))
    found = []
    for term in (term for term in used(english) if term.introduced and term.japanese[0] in japanese):
        behind = japanese.partition(term.japanese[0])[2]
        if not re.match(rf"[^（。]{{0,2}}（[^）]*\b({'|'.join(map(re.escape, term.english))})\b", behind):
            found.append(term.english[0])
    return found


def lesson(source) -> list[tuple[str, str]]:
    cells = build.with_originals(build.read_source(source))
    return [(original.source, cell.source) for cell, original in cells if original is not None]


def sections() -> list[tuple[str, str]]:
    """The front page and the pages behind it, section by section."""
    pairs = []
    for page in PAGES:
        texts = (path.read_text(encoding="utf-8") for path in (page, japanese(page)))
        bare = (re.sub("```.*?```", "", text, flags=re.DOTALL) for text in texts)
        pairs += zip(*(re.split(r"^#+ ", text, flags=re.MULTILINE) for text in bare), strict=True)
    return pairs


def alt_texts_and_messages() -> Iterator[tuple[str, str]]:
    """In the lessons' helpers, alt= and alt_ja=, and an argument in English that is followed by one in Japanese."""
    calls = [node for path in HELPERS for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    for call in (node for node in calls if isinstance(node, ast.Call)):
        named = {keyword.arg: words(keyword.value) for keyword in call.keywords}
        if "alt_ja" in named:
            yield named["alt"], named["alt_ja"]
        yield from ((en, ja) for en, ja in pairwise(map(words, call.args)) if KANA.search(ja) and not KANA.search(en))


def words(node: ast.expr) -> str:
    """The constant parts of a string or an f-string."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "…".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_lessons_use_the_words_of_the_glossary(source):
    wrong = {english.splitlines()[0]: untranslated(english, japanese) for english, japanese in lesson(source)}
    assert {cell: terms for cell, terms in wrong.items() if terms} == {}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_lessons_give_the_english_where_a_term_is_new(source):
    assert not_introduced(*("\n\n".join(texts) for texts in zip(*lesson(source), strict=True))) == []


def test_pages_alt_texts_and_messages_use_the_words_of_the_glossary():
    pairs = [*sections(), *alt_texts_and_messages()]
    assert len(pairs) > 100
    assert [(terms, ja[:60]) for en, ja in pairs if (terms := untranslated(en, ja))] == []


@pytest.mark.parametrize(
    "path", [*SOURCES, *HELPERS, *map(japanese, PAGES)], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_words_that_the_glossary_rules_out_occur_nowhere(path):
    assert forbidden(path.read_text(encoding="utf-8")) == []


def test_the_glossary_does_not_contradict_itself():
    forms = [form.lower() for term in TERMS for form in term.english]
    assert forms == [*dict.fromkeys(forms)]
    assert [term.english[0] for term in TERMS] == sorted((term.english[0] for term in TERMS), key=str.lower)
    assert [term for term in TERMS if not term.japanese or forbidden("、".join(term.japanese))] == []


def test_every_other_sense_is_still_met():
    texts = [en for source in SOURCES for en, _ in lesson(source)] + [en for en, _ in alt_texts_and_messages()]
    text = "\n".join([*texts, *(page.read_text(encoding="utf-8") for page in PAGES)])
    assert [phrase for term in TERMS for phrase in term.other_sense if phrase not in text] == []


BROKEN = {
    "another word": ("Surprise is a gradient.", "サプライズは勾配です。", ["surprise"]),
    "left in English": ("What the gates do.", "gates の働き。", ["gate"]),
    "left out": ("The *step size* and the momentum.", "モーメンタムです。", ["step size"]),
    "a long term is not its last word": ("Persistent memory.", "メモリです。", ["persistent memory"]),
    "split over two lines": ("Read with a sliding\nwindow.", "読みます。", ["sliding window"]),
    "in code and equations": ("`memory` of $\\text{state}$, see [this](memory.md).", "これを見ます。", []),
    "another sense": ("Try it in your head.", "暗算してください。", []),
}


@pytest.mark.parametrize(("english", "japanese", "terms"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_translation_is_caught(english, japanese, terms):
    assert untranslated(english, japanese) == terms


def test_one_lesson_with_one_word_exchanged_is_caught():
    pairs = lesson(next(source for source in SOURCES if source.stem.startswith("03")))
    exchanged = [(english, japanese.replace("驚", "サプライズ")) for english, japanese in pairs]
    assert {term for pair in exchanged for term in untranslated(*pair)} >= {"surprise", "momentary surprise"}
    assert forbidden(exchanged[0][1])


def test_a_term_without_its_english_is_caught():
    english, japanese = "# Memory\nA memory has a state.", "# メモリ\nメモリ（memory）には状態（state）があります。"
    assert not_introduced(english, japanese) == []
    assert not_introduced(english, japanese.replace("（memory）", "")) == ["memory"]
    assert not_introduced(english, japanese.replace("メモリ（memory）", "メモリです。メモリ（memory）")) == ["memory"]
