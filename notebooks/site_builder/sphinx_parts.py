"""What Sphinx is taught: mathematics without a network, search in Japanese, places that both languages share."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import sphinx.search
from docutils import nodes
from py_mini_racer import MiniRacer
from sphinx.application import Sphinx
from sphinx.search import SearchLanguage
from sphinx.writers.html5 import HTML5Translator

KATEX = Path(__file__).resolve().parents[1] / "site" / "vendor" / "katex" / "katex.min.js"
BLOCK = "[\\u3005-\\u30ff\\u3400-\\u9fff\\uff66-\\uff9f]"  # letters of words that no blank parts
LONG = 60  # letters of a table's cell


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


def mark_long_cells(app: Sphinx, document: nodes.document) -> None:
    """A cell of a table that holds sentences is told apart, so that it gets room for them."""
    for entry in document.findall(nodes.entry):
        if len(entry.astext()) > LONG:
            entry["classes"].append("long")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("katex", (inline, None), (block, None))
    app.config.html_math_renderer = "katex"  # type: ignore[attr-defined]
    sphinx.search.languages["ja"] = Pairs
    app.connect("doctree-read", number_sections)
    app.connect("doctree-read", mark_long_cells)
    return {"parallel_read_safe": True}
