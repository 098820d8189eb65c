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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from titans.attention import KeysValues, Seen
from titans.blocks import MAC, MixerTable
from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.config import VARIANTS, TitansConfig
from titans.corpus import Text, bits, bits_anew, by_place
from titans.model import TitansLM
from titans.tasks import (
    MixedRecall,
    Needle,
    Recall,
    RetoldRecall,
    ScatteredRecall,
    Task,
    TwoFactsCurriculum,
    TwoHopsCurriculum,
    VariedRecall,
)
from titans.text_measures import fading, inside, reach
from titans.training import Reading, Run, share_right, train

SEEDS = (0, 1, 2)
ANEW = 512  # bytes of text after which a state may begin anew, when it is measured what it is worth
STORED = torch.float16


@dataclass(frozen=True)
class Recipe:
    """What is trained, and what is measured.

    about: what it shows. runs: models by name. rows: of the test. seeds: of the training.
    measured: tokens between telling and asking, each a test; or, if `between` is given, pairs told
        so long before.
    scattered: whether each is measured once more with the pairs scattered in those tokens.
    parts: by name of a run, MAC with a part left out or changed, which it has in place of MAC.
    whole: a run whose trained models are measured once more, each time with what another run was trained without taken
        from them: its part of the card is "after".
    """

    about: str
    runs: dict[str, Run]
    measured: tuple[int, ...]
    rows: int = 64
    seeds: tuple[int, ...] = SEEDS
    between: int | None = None
    scattered: bool = False
    parts: dict[str, type[MAC]] = field(default_factory=dict)
    whole: str | None = None
    result = "right"  # its name on the card: shares of right answers

    def mixers(self, run: str) -> MixerTable:
        """What makes a mixer in a run, in place of the variant's own."""
        return {"mac": self.parts[run]} if run in self.parts else {}

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

    def names(self, task: Task) -> set[str]:
        """The names of the results."""
        return set(self.tests(task))

    def measure(self, run: Run, model: TitansLM) -> dict[str, dict[str, float]]:
        """The result of each test, under its name on the card."""
        return {"right": {name: share_right(model, *test, self.rows) for name, test in self.tests(run.task).items()}}

    def ships(self, run: str) -> bool:
        """Whether the first seed's checkpoint of a run comes with the package."""
        return True


@dataclass(frozen=True)
class TextRecipe(Recipe):
    """Runs that read real text; measured are the bits that a byte of the held-out files costs, by its place in the
    file: up to each of `measured`, and behind the one before it. Only files with so many bytes are read. For MAC once
    more with a state that begins anew every `ANEW` bytes ("anew"), and with one in which what has been written since
    M_0 is halved every `ANEW` bytes ("halved"); and what is inside, and how far it reaches, see `titans.text_measures`.

    shipped: runs whose first seed's checkpoint comes with the package.
    """

    shipped: tuple[str, ...] = ()
    result = "bits"

    def names(self, task: Task) -> set[str]:
        return {str(end) for end in self.measured}

    def measure(self, run: Run, model: TitansLM) -> dict[str, dict[str, float]]:
        assert isinstance(run.task, Text)
        files = torch.stack(list(run.task.long_files(self.measured[-1]).values()))
        found = {"bits": by_place(bits(model, files), self.measured)}
        if run.config.variant == "mac":
            found["anew"] = by_place(bits_anew(model, files, ANEW), self.measured)
            found["halved"] = by_place(fading(model, files, ANEW, 0.5), self.measured)
            found["inside"] = inside(model, files, ANEW)
            found["reach"] = reach(model, files)
        return found

    def ships(self, run: str) -> bool:
        return run in self.shipped


def small(task: Task, **changes: Any) -> TitansConfig:
    """One block with a matrix memory, as wide as the recipes need."""
    basis = TitansConfig(
        vocab_size=task.vocab_size, dim=64, layers=1, heads=2, segment_len=16, window=16, chunk_size=16, memory_depth=1
    )
    return replace(basis, **changes)


def changed(run: Run, **changes: Any) -> Run:
    """The same run of another configuration."""
    return replace(run, config=replace(run.config, **changes))


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


class WithoutContext(MAC):
    """MAC whose attention sees no h: it reads its memory once, at the end."""

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        return self.attention(q, (x,), seen, prefix, self.window)


class WithoutAttention(MAC):
    """MAC that writes x itself, and so has no use for h either."""

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return x


class StrongContext(MAC):
    """MAC whose h is as large as x from the start, not faint: what it can be used for is found sooner."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        nn.init.ones_(self.norm.weight)


WHOLE = changed(MIXED, **DEEP)
PARTS = {"no attention": WithoutAttention, "no h": WithoutContext}
ABLATED: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("full", *PARTS)},
    "matrix memory": {"memory_depth": 1},
    "no convolution": {"conv_width": 1},
    "no momentum": {"momentum": False},
    "no forgetting": {"forgetting": False},
    "all layers forget": {"forget_layers": "all"},
    "no persistent tokens": {"persistent_tokens": 0},
    "no memory": {"variant": "attention"},
}


def hops(end_first: bool = False, things: int = 16, **changes: Any) -> Run:
    """A segment of four tokens, so that few h compete for a token's attention; nothing that is told fits into it."""
    task = TwoHopsCurriculum(chains=3, things=things, end_first=end_first)
    config = small(task, segment_len=4, window=4, persistent_tokens=0)
    return Run(replace(config, **changes), task, between=(24, 40), steps=1600)


TEXT = {"dim": 128, "layers": 2, "heads": 4, "segment_len": 64, "window": 64, "memory_layers": (2,)}
TEXT_STEPS = 1600


def of_text(files: tuple[str, ...] = ()) -> TextRecipe:
    """Language models of one size, 4,096 bytes a step, of Python's standard library or of files.

    A window of 512 is where a step of attention takes as long as one of MAC, and as many operations; attention in
    segments takes 1 / 2.1 of that.
    """
    task = Text(files)
    mac = small(task, **TEXT)
    attention = replace(mac, variant="attention", memory_layers=None)

    def single(config: TitansConfig, steps: int = TEXT_STEPS, tokens: int = 512) -> Run:
        return Run(config, task, (tokens, tokens), steps, rows=4096 // tokens, warm_up=50)

    return TextRecipe(
        "The source of Python's standard library, byte by byte: MAC, trained on stretches of 1 to 16 pieces of 512 "
        "bytes with the state carried, and on single pieces; and without a memory: attention in segments of 64, for as "
        "many steps and for as long, and in a window of 512.",
        {
            "mac": Reading(mac, task, (512, 512), TEXT_STEPS, rows=8, warm_up=50),
            "mac, single pieces": single(mac),
            "attention": single(attention),
            "attention, as long": single(attention, round(2.1 * TEXT_STEPS)),
            "window of 512": single(replace(attention, sliding=True, window=512), tokens=1024),
        },
        measured=(64, 256, 1024, 4096, 16384),
        shipped=("mac",),
    )


RECIPES: dict[str, Recipe] = {
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
    "needle-parts": Recipe(
        "MAC's needles in noise, trained without attention, so that the memory and its gate are left, and without h.",
        {f"mac, {part}": NEEDLE["noise"] for part in PARTS},
        measured=(4096, 16384),
        rows=16,
        seeds=(0, 1, 2, 3, 4),
        parts={f"mac, {part}": kind for part, kind in PARTS.items()},
    ),
    "two-facts": Recipe(
        "Four pairs are told, and the sum of two values is asked for, or whether they are the same; the memory alone, "
        "which is read once a token.",
        {
            f"lmm, {of}": Run(small(task, variant="lmm"), task, between=(24, 40), steps=800)
            for of in ("sum", "same")
            for task in [TwoFactsCurriculum(of)]
        },
        measured=(40, 1024),
    ),
    "two-hops": Recipe(
        "a leads to b and b to c, told apart; asked is where a leads to in two steps. Three chains, a's facts told "
        "first; in the last two runs b's. One layer, but for one run.",
        {
            "mac": hops(),
            "mac, faint h": hops(),
            "mac, no h": hops(),
            "mac, no h, 8 things": hops(things=8),
            "mag": hops(variant="mag"),
            "mal": hops(variant="mal"),
            "lmm": hops(variant="lmm"),
            "lmm, two layers": hops(variant="lmm", layers=2),
            "lmm, end first": hops(True, variant="lmm"),
            "lmm, end first, one chunk": hops(True, variant="lmm", chunk_size=256),
        },
        measured=(40, 128),
        parts={
            "mac": StrongContext,
            "mac, no h": WithoutContext,
            "mac, no h, 8 things": WithoutContext,
        },
    ),
    "ablation": Recipe(
        "The paper's ablation on recall, pairs told in one stretch or scattered: MAC with a memory of depth 2, "
        "trained with one part left out at a time; and the whole model without that part after its training.",
        {name: changed(WHOLE, **changes) for name, changes in ABLATED.items()},
        measured=(56, 1024, 4096),
        rows=32,
        scattered=True,
        parts=PARTS,
        whole="full",
    ),
    "text": of_text(),
}


def carry_out(name: str, recipe: Recipe, seeds: tuple[int, ...], runs: list[str], folder: Path) -> dict[str, Any]:
    """Train and measure what `folder` does not hold yet, and write the card. Interrupted, it goes
    on where it was."""
    results: dict[str, list[dict[str, Any]]] = {}
    for run_name in runs:
        for seed in seeds:
            print(f"{name}: {run_name}, seed {seed}", file=sys.stderr)
            path = folder / checkpoint_name(run_name, seed, seeds)
            whole = (
                folder / checkpoint_name(recipe.whole, seed, seeds) if recipe.whole not in (None, run_name) else None
            )
            results.setdefault(run_name, []).append(_one(recipe, run_name, seed, path, whole))
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


def _one(recipe: Recipe, name: str, seed: int, path: Path, whole: Path | None) -> dict[str, Any]:
    """Facts about one trained model: from its checkpoint, or from training it.

    whole: the checkpoint that is measured once more without what this run was trained without.
    """
    run, mixers = recipe.runs[name], recipe.mixers(name)
    if path.exists():
        _, facts, _ = load_checkpoint(path, mixers=mixers)
        if facts.get("run") == run.identity(seed) and facts[recipe.result].keys() == recipe.names(run.task):
            return facts
    trained = train(run, seed, path.with_suffix(".unfinished"), mixers=mixers)
    for parameter in trained.model.parameters():
        parameter.data.copy_(parameter.to(STORED))  # what is measured is what is stored
    facts = {"run": run.identity(seed), "seed": seed, "steps": trained.steps, "seconds": round(trained.seconds, 1)}
    facts |= recipe.measure(run, trained.model)
    if whole is not None and (model := without(load_checkpoint(whole)[0], run.config, mixers)) is not None:
        facts["after"] = recipe.measure(run, model)[recipe.result]
    facts["history"] = [(step, round(loss, 4), share) for step, loss, share in trained.history]
    save_checkpoint(path, trained.model, facts, dtype=STORED)
    return facts


def without(model: TitansLM, config: TitansConfig, mixers: MixerTable) -> TitansLM | None:
    """A trained model's weights in a model of another configuration: of its convolutions the last taps, and its first
    persistent tokens. None where a memory of another shape has no use for them."""
    other, weights = TitansLM(config, mixers), model.state_dict()
    for name, tensor in other.state_dict().items():
        taken = weights[name]
        if name.endswith("conv.weight"):
            taken = taken[..., taken.shape[-1] - tensor.shape[-1] :]
        if name.endswith("persistent"):
            taken = taken[: len(tensor)]
        if taken.shape != tensor.shape:
            return None
        tensor.copy_(taken)
    return other


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Results of all seeds side by side; for right answers the median and the worst too."""
    card: dict[str, Any] = {name: [facts[name] for facts in found] for name in ("steps", "seconds")}
    for kind, worst in (
        ("right", min),
        ("after", min),
        ("bits", max),
        ("anew", max),
        ("halved", max),
        ("inside", max),
        ("reach", max),
    ):
        if kind in found[0]:
            card[kind] = {test: _spread([facts[kind][test] for facts in found], worst) for test in found[0][kind]}
    return card


def _spread(results: list[float], worst: Callable[[list[float]], float]) -> dict[str, Any]:
    results = [round(result, 4) for result in results]
    return {"each": results, "median": statistics.median(results), "worst": worst(results)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m titans.recipes", description=__doc__)
    parser.add_argument("recipe", choices=RECIPES, metavar="RECIPE", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--runs", nargs="+", metavar="RUN", help="only these of the recipe's models")
    parser.add_argument("--file", nargs="+", type=Path, help="text of your own, for the recipe text")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: the recipe's own")
    parser.add_argument(
        "--out", type=Path, default=Path("checkpoints"), help="folder to write to (default: %(default)s)"
    )
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    if options.file:
        if not isinstance(recipe, TextRecipe):
            parser.error(f"--file is for the recipe text, got {options.recipe}")
        recipe = of_text(tuple(map(str, options.file)))
    runs = options.runs or list(recipe.runs)
    if unknown := set(runs) - set(recipe.runs):
        parser.error(f"--runs must be among {', '.join(recipe.runs)}, got {', '.join(sorted(unknown))}")
    try:
        card = carry_out(
            options.recipe, recipe, tuple(options.seeds or recipe.seeds), runs, options.out / options.recipe
        )
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    for name, result in card["runs"].items():
        form, what = (".1%", "right after so many tokens") if recipe.result == "right" else (".3f", "bits a byte up to")
        found = ", ".join(
            f"{test}: {each['median']:{form}} (worst {each['worst']:{form}})"
            for test, each in result[recipe.result].items()
        )
        print(f"{name}: {max(result['seconds']):.0f} s at most; {what}: {found}")


if __name__ == "__main__":
    main()
