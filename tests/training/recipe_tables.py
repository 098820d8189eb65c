"""The tables of results, from the cards of the shipped checkpoints: `python -m tests.training.recipe_tables`."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from tests.paths import ROOT
from titans.checkpoints import SHIPPED
from titans.recipes import RECIPES

PAGES = {"notebooks/RESULTS.md": "en", "notebooks/RESULTS_ja.md": "ja", "README.md": "en", "README_ja.md": "ja"}
MARKED = re.compile(  # a recipe; and which models of it, if not all, under which names: "mac = MAC; mag = MAG"
    r"(<!-- recipe: (?P<name>[\w-]+)(?:; rows: (?P<rows>[^>]+))? -->\n).*?(<!-- /recipe -->)", re.DOTALL
)
LAYOUTS = {"en": " scattered", "ja": "（分散）"}
HEADS = {"en": ("model", "seconds of training"), "ja": ("モデル", "訓練時間（秒）")}


def cards() -> dict[str, dict[str, Any]]:
    """The card of every recipe that is shipped."""
    paths = {name: SHIPPED / name / "card.json" for name in RECIPES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def column(name: str, language: str) -> str:
    """The head of a column: a number of tokens, and the layout of the task where it is another."""
    number, _, layout = name.partition(" ")
    return f"{int(number):,}" + (LAYOUTS[language] if layout else "")


def table(card: dict[str, Any], language: str) -> str:
    """A row a model: the seconds that its training took, and the share of right answers or the bits a byte, median and
    (worst) seed."""
    if card["recipe"] == "text":
        return _text_table(card, language)
    betweens = next(iter(card["runs"].values()))["right"]
    rows = [[*HEADS[language], *(column(name, language) for name in betweens)]]
    rows.append(["---"] + ["--:"] * (len(betweens) + 1))
    for name, run in card["runs"].items():
        shares = (f"{100 * share['median']:.1f} ({100 * share['worst']:.1f})" for share in run["right"].values())
        rows.append([name, f"{min(run['seconds']):.0f}–{max(run['seconds']):.0f}", *shares])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _text_table(card: dict[str, Any], language: str) -> str:
    """The same for bits a byte; MAC's once more with a state that begins anew."""
    anew = {"en": ", begun anew", "ja": "（512バイトごとに新しく）"}[language]
    ends = card["runs"]["mac"]["bits"]
    rows = [[*HEADS[language], *(f"–{int(end):,}" for end in ends)], ["---"] + ["--:"] * (len(ends) + 1)]
    for name, run in card["runs"].items():
        for kind, more in (("bits", ""), ("anew", anew)):
            if kind in run:
                costs = (f"{cost['median']:.2f} ({cost['worst']:.2f})" for cost in run[kind].values())
                rows.append([name + more, f"{min(run['seconds']):.0f}–{max(run['seconds']):.0f}", *costs])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def with_tables(text: str, language: str) -> str:
    """The page with a table between the markers of each recipe that it has."""
    known = cards()

    def filled(found: re.Match[str]) -> str:
        card = known[found["name"]]
        rows = (row.partition(" = ") for row in (found["rows"] or "").split("; ") if row)
        chosen = card | {"runs": {name: card["runs"][model] for model, _, name in rows} or card["runs"]}
        return f"{found[1]}{table(chosen, language)}\n{found[4]}"

    return MARKED.sub(filled, text)


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser("python -m tests.training.recipe_tables", description=__doc__).parse_args(arguments)
    for file, language in PAGES.items():
        path = ROOT / file
        path.write_text(with_tables(path.read_text(encoding="utf-8"), language), encoding="utf-8")


if __name__ == "__main__":
    main()
