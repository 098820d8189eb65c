"""What Sphinx is taught: mathematics without a network, search in Japanese, places that both languages share."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from statistics import mean

import sphinx.search
from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.search import SearchLanguage
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).resolve().parents[1] / "site" / "vendor" / "katex" / "katex.min.js"
BLOCK = "[\\u3005-\\u30ff\\u3400-\\u9fff\\uff66-\\uff9f]"  # letters of words that no blank parts
LONG, READ = 60, 36  # letters of a cell that needs room; those of a column, in the mean, that is read as sentences
FIGURES = re.compile(r"[≥≤]?[ \d].{0,24}|–")  # a cell that is not to be broken
SYMBOL, SHORT = re.compile(r"\\\w+|[^\s{}_^\\]"), 16  # of a formula; how many a short one has
OPENING, CLOSING = "（(「『“‘[", "、。，．,.;:!?？！）)」』”’]"


# --- Mathematics ------------------------------------------------------------------------------------------------------


@cache
def katex() -> MiniRacer:
    engine = MiniRacer()
    engine.eval(KATEX.read_text(encoding="utf-8"))
    return engine


@cache
def rendered(tex: str, display: bool) -> str:
    """A formula as HTML, with MathML for those who listen. One that KaTeX does not read is an error."""
    return katex().call("katex.renderToString", tex, {"displayMode": display, "strict": "error"})


def inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(rendered(node.astext(), False))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math-block">{rendered(node.astext(), True)}</div>\n')
    raise nodes.SkipNode


# --- Search -----------------------------------------------------------------------------------------------------------


class Pairs(SearchLanguage):
    """Japanese, in which no blank parts words: every two letters that follow one another are a word of the index, and
    of what is asked. Words of the Latin alphabet stay whole."""

    lang, language_name = "ja", "Japanese"
    js_splitter_code = f"""
function splitQuery(query) {{
  const words = query.toLowerCase().match(/{BLOCK}+|[\\p{{L}}\\p{{N}}_]+?(?={BLOCK}|[^\\p{{L}}\\p{{N}}_]|$)/gu) || [];
  const pairs = (word) => Array.from({{ length: word.length - 1 }}, (_, i) => word.slice(i, i + 2));
  return words.flatMap((word) => (/{BLOCK}/.test(word) && word.length > 1 ? pairs(word) : [word]));
}}
"""

    def split(self, text: str) -> list[str]:
        found = []
        for word in re.findall(rf"{BLOCK}+|(?:(?!{BLOCK})\w)+", text):
            paired = re.match(BLOCK, word) and len(word) > 1
            found += [word[i : i + 2] for i in range(len(word) - 1)] if paired else [word]
        return found

    def word_filter(self, word: str) -> bool:
        return len(word) > 1


# --- Pages ------------------------------------------------------------------------------------------------------------


def number_sections(app: Sphinx, document: nodes.document) -> None:
    """A second anchor for every section, its number in the page: the same in both languages, whatever it is called."""
    for number, section in enumerate(document.findall(nodes.section)):
        section["ids"].append(f"section-{number}")


def mark_tables(app: Sphinx, document: nodes.document) -> None:
    """Cells that hold sentences, or figures, are told apart; and so is a table to be read, not compared."""
    for table in document.findall(nodes.table):
        columns = list(zip(*(row for body in table.findall(nodes.tbody) for row in body), strict=True))
        figures = [mean(bool(FIGURES.fullmatch(entry.astext())) for entry in column) > 0.5 for column in columns]
        for column, counted in zip(columns, figures, strict=True):
            read = 2 * sum(figures) <= len(columns) and mean(width(entry) for entry in column) > READ
            table["classes"] += ["sentences"] * read
            for entry in column:
                entry["classes"] += ["long"] * (read or width(entry) > LONG) + ["figures"] * counted


def width(entry: nodes.entry) -> int:
    """Of a cell's text, in letters; a Japanese one is as wide as two."""
    return sum(2 if letter > "\u2e80" else 1 for letter in entry.astext())


def hold_together(app: Sphinx, document: nodes.document) -> None:
    """A short formula and the comma behind it, or the bracket before it, stand on one line."""
    for math in list(document.findall(nodes.math)):
        if len(SYMBOL.findall(math.astext())) > SHORT:
            continue
        parent, place = math.parent, math.parent.index(math)
        before, after = (parent[at] if 0 <= at < len(parent) else None for at in (place - 1, place + 1))
        opening = str(before)[-1:] if isinstance(before, nodes.Text) and str(before)[-1:] in OPENING else ""
        closing = str(after)[:1] if isinstance(after, nodes.Text) and str(after)[:1] in CLOSING else ""
        if not opening + closing:
            continue
        if opening:
            parent.replace(before, nodes.Text(str(before)[:-1]))
        if closing:
            parent.replace(after, nodes.Text(str(after)[1:]))
        group = nodes.inline(classes=["together"])
        parent.replace(math, group)
        group += [nodes.Text(opening), math, nodes.Text(closing)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (inline, None), (block, None))
    app.config.html_math_renderer = "katex"  # type: ignore[attr-defined]
    sphinx.search.languages["ja"] = Pairs
    app.connect("doctree-read", number_sections)
    app.connect("doctree-read", mark_tables)
    app.connect("doctree-read", hold_together)
    return {"parallel_read_safe": True}
