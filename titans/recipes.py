"""Recipes: which models are trained on what, over which seeds, and what is measured. `python -m
titans.recipes NAME`.

Every run and seed leaves a checkpoint; the recipe leaves a card, a JSON file with the results of
all of them, their median and the worst. The checkpoints of the first seed come with the package,
whatever came out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.config import VARIANTS, TitansConfig
from titans.tasks import MixedRecall, Needle, Recall, RetoldRecall, ScatteredRecall, Task, VariedRecall
from titans.training import Run, share_right, train

SEEDS = (0, 1, 2)
STORED = torch.float16


@dataclass(frozen=True)
class Recipe:
    """What is trained, and what is measured.

    about: what it shows. runs: models by name. rows: of the test.
    measured: tokens between telling and asking, each a test; or, if `between` is given, pairs told
        so long before.
    scattered: whether each is measured once more with the pairs scattered in those tokens.
    """

    about: str
    runs: dict[str, Run]
    measured: tuple[int, ...]
    rows: int = 64
    between: int | None = None
    scattered: bool = False

    def tests(self, task: Task) -> dict[str, tuple[Task, int]]:
        """What is measured, by the name that the card has for it: a task, and the tokens between."""
        if self.between is not None:
            assert isinstance(task, Recall)
            return {str(n): (replace(task, pairs=n), self.between) for n in self.measured}
        found = {str(n): (task, n) for n in self.measured}
        if self.scattered:
            assert isinstance(task, Recall)
            scattered = ScatteredRecall(task.pairs, task.keys, task.values, task.noise)
            found |= {f"{n} scattered": (scattered, n) for n in self.measured}
        return found


def small(task: Recall | Needle, **changes: Any) -> TitansConfig:
    """One block with a matrix memory, as wide as the recipes need."""
    basis = TitansConfig(
        vocab_size=task.vocab_size, dim=64, layers=1, heads=2, segment_len=16, window=16, chunk_size=16, memory_depth=1
    )
    return replace(basis, **changes)


RECALL = Recall()
LIVE = Run(small(RECALL), RECALL, between=(24, 56), goal=0.995)
# 256 tokens in all: six pairs are told in 12, and asked for in 12.
LONG = Run(small(RECALL, forgetting=False), RECALL, between=(24, 232), steps=800)
MIXED = Run(small(RECALL), MixedRecall(), between=(24, 56))
MANY_PAIRS = VariedRecall(pairs=48, keys=64)
MANY = Run(small(MANY_PAIRS, dim=32, forgetting=False), MANY_PAIRS, between=(24, 56), steps=1200)
BOTH = replace(LONG, task=MixedRecall(), steps=1600)  # with 800, one seed of three has not learned it yet
# The memory alone. All that is read fits into one chunk of 256, so that nothing written corrects what is written after
# it; in chunks of 4 it does.
ALONE = {"variant": "lmm", "chunk_size": 256, "momentum": False, "forgetting": False}
RETOLD = Run(small(RECALL, **ALONE), RetoldRecall(), between=(24, 56), steps=600)
OVERWRITING: dict[str, dict[str, Any]] = {
    "none": {},
    "correction": {"chunk_size": 4},
    "momentum": {"momentum": True},
    "forgetting": {"forgetting": True},
    "all three": {"chunk_size": 4, "momentum": True, "forgetting": True},
}
NEEDLE = {
    kind: Run(small(Needle(kind), forgetting=False), Needle(kind), between=(16, 208)) for kind in ("noise", "text")
}
DEEP: dict[str, Any] = {"memory_depth": 2}
ABLATED: dict[str, dict[str, Any]] = {
    "full": {},
    "matrix memory": {"memory_depth": 1},
    "no convolution": {"conv_width": 1},
    "no momentum": {"momentum": False},
    "no forgetting": {"forgetting": False},
    "all layers forget": {"forget_layers": "all"},
    "no persistent tokens": {"persistent_tokens": 0},
    "no memory": {"variant": "attention"},
}


def changed(run: Run, **changes: Any) -> Run:
    """The same run of another configuration."""
    return replace(run, config=replace(run.config, **changes))


RECIPES = {
    "recall-live": Recipe(
        "Six pairs are told and asked for beyond the attention segment, with the memory and without it.",
        {"mac": LIVE, "attention": changed(LIVE, variant="attention")},
        measured=(24, 56),
    ),
    "recall-long": Recipe(
        "Trained with at most 256 tokens in all, tested with up to 262,144 in between; nothing is forgotten.",
        {"matrix": LONG, "deep": replace(changed(LONG, **DEEP), task=VariedRecall(RECALL.pairs))},
        measured=(256, 1024, 4096, 16384, 65536, 262144),
        rows=32,
    ),
    "recall-both": Recipe(
        "Pairs told in one stretch, and pairs scattered in the noise; trained on both, with at most 256 tokens in all; "
        "nothing is forgotten.",
        {"matrix": BOTH},
        measured=(256, 1024, 4096, 16384, 65536),
        rows=32,
        scattered=True,
    ),
    "recall-many": Recipe(
        "More and more pairs of 64 keys, of which a matrix of 32 x 32 holds 32 at most; trained with 2 to 48.",
        {"matrix": MANY, "deep": changed(MANY, **DEEP)},
        measured=(6, 12, 24, 32, 48, 64),
        between=40,
    ),
    "recall-scattered": Recipe(
        "Pairs told in one stretch, and pairs scattered in the noise; trained on both, with 24 to 56 tokens of noise.",
        {
            "matrix": MIXED,
            "deep": changed(MIXED, **DEEP),
            "deep, all layers forget": changed(MIXED, **DEEP, forget_layers="all"),
            "deep, no forgetting": changed(MIXED, **DEEP, forgetting=False),
            "deep, no momentum": changed(MIXED, **DEEP, momentum=False),
            "deep, told in one stretch": replace(changed(MIXED, **DEEP), task=VariedRecall()),
        },
        measured=(56, 1024, 4096),
        scattered=True,
    ),
    "chunks": Recipe(
        "Recall by MAC, whose gradients are all taken at the weights with which a chunk of 1, 16 or 64 tokens begins; "
        "trained with 24 to 56 tokens in between, and with up to 232.",
        {f"chunk {size}": changed(LIVE, chunk_size=size) for size in (1, 16, 64)}
        | {
            f"chunk {size}, trained longer": replace(changed(LIVE, chunk_size=size), between=LONG.between, steps=600)
            for size in (16, 64)
        },
        measured=(56, 1024, 4096),
    ),
    "recall-retold": Recipe(
        "Six pairs are told, then all six keys again with other values, and the newest are asked for; the memory "
        "alone, with one way to overwrite, with none, or with all three.",
        {name: changed(RETOLD, **changes) for name, changes in OVERWRITING.items()},
        measured=(24, 56, 200),
    ),
    "needle": Recipe(
        "A pass-key of four digits in noise and in text, every variant, trained with at most 256 tokens; all four "
        "digits must be right. Nothing is forgotten, but in one run of MAC.",
        {
            **{
                f"{variant} in {kind}": changed(run, variant=variant)
                for kind, run in NEEDLE.items()
                for variant in VARIANTS
            },
            "mac that forgets in noise": changed(NEEDLE["noise"], forgetting=True),
        },
        measured=(256, 1024, 4096, 16384, 65536),
        rows=32,
    ),
    "ablation": Recipe(
        "The paper's ablation on recall: MAC with a memory of depth 2, one part left out at a time.",
        {name: changed(LIVE, **(DEEP | changes)) for name, changes in ABLATED.items()},
        measured=(56, 1024, 4096),
    ),
}


def carry_out(name: str, recipe: Recipe, seeds: tuple[int, ...], runs: list[str], folder: Path) -> dict[str, Any]:
    """Train and measure what `folder` does not hold yet, and write the card. Interrupted, it goes
    on where it was."""
    results: dict[str, list[dict[str, Any]]] = {}
    for run_name in runs:
        for seed in seeds:
            print(f"{name}: {run_name}, seed {seed}", file=sys.stderr)
            path = folder / checkpoint_name(run_name, seed, seeds)
            results.setdefault(run_name, []).append(_one(recipe, recipe.runs[run_name], seed, path))
    card = {
        "recipe": name,
        "about": recipe.about,
        "seeds": list(seeds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "titans": version("titans-step-by-step"),
        },
        "runs": {run_name: summary(found) for run_name, found in results.items()},
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def checkpoint_name(run: str, seed: int, seeds: tuple[int, ...]) -> str:
    """The first seed's file bears the name of the run alone."""
    name = run.replace(",", "").replace(" ", "-")
    return f"{name}.safetensors" if seed == seeds[0] else f"{name}.seed{seed}.safetensors"


def _one(recipe: Recipe, run: Run, seed: int, path: Path) -> dict[str, Any]:
    """Facts about one trained model: from its checkpoint, or from training it."""
    tests = recipe.tests(run.task)
    if path.exists():
        _, facts, _ = load_checkpoint(path)
        if facts.get("run") == run.identity(seed) and facts["right"].keys() == tests.keys():
            return facts
    trained = train(run, seed, path.with_suffix(".unfinished"))
    for parameter in trained.model.parameters():
        parameter.data.copy_(parameter.to(STORED))  # what is measured is what is stored
    right = {name: share_right(trained.model, *test, recipe.rows) for name, test in tests.items()}
    facts = {"run": run.identity(seed), "seed": seed, "steps": trained.steps, "seconds": round(trained.seconds, 1)}
    facts |= {"right": right, "history": trained.history}
    save_checkpoint(path, trained.model, facts, dtype=STORED)
    return facts


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of all seeds side by side; for right answers the median and the worst too."""
    right = {}
    for between in found[0]["right"]:
        shares = [round(facts["right"][between], 4) for facts in found]
        right[between] = {"each": shares, "median": statistics.median(shares), "worst": min(shares)}
    return {"steps": [f["steps"] for f in found], "seconds": [f["seconds"] for f in found], "right": right}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m titans.recipes", description=__doc__)
    parser.add_argument("recipe", choices=RECIPES, metavar="RECIPE", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="only these of the recipe's models")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("checkpoints"), help="folder to write to (default: %(default)s)"
    )
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    runs = options.runs or list(recipe.runs)
    if unknown := set(runs) - set(recipe.runs):
        parser.error(f"--runs must be among {', '.join(recipe.runs)}, got {', '.join(sorted(unknown))}")
    try:
        card = carry_out(options.recipe, recipe, tuple(options.seeds), runs, options.out / options.recipe)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    for name, result in card["runs"].items():
        shares = ", ".join(f"{b}: {s['median']:.1%} (worst {s['worst']:.1%})" for b, s in result["right"].items())
        print(f"{name}: {max(result['seconds']):.0f} s at most; right after so many tokens: {shares}")


if __name__ == "__main__":
    main()
