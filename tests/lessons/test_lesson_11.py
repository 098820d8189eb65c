"""Lesson 11: its exercises as they stand in it, and the figures that it repeats are those of the recipes' cards."""

from __future__ import annotations

import re

import pytest
import torch
from torch.func import grad

from tests.lessons.builder import build
from tests.lessons.cells import exercise_cells, run
from tests.paths import SOURCES
from titans.lesson.kit.cards import card
from titans.lesson.lesson_11 import exercises
from titans.recurrence import surprise

torch.set_num_threads(1)
SOURCE = SOURCES / "11_after_titans.py"
CELLS = {param.values[0]: param.values[1:] for param in exercise_cells("11")}


def handed(step, values):
    """theta and values as products of these functions of beta and of what is kept."""
    return lambda beta, alpha, v: (step(beta, 1 - alpha), alpha, v * values(beta, 1 - alpha)[:, None])


WRONG = [
    ("same gates", handed(lambda beta, keep: beta / 2, lambda beta, keep: torch.ones_like(keep))),
    ("nothing changed", lambda beta, alpha, v: (beta, alpha, v)),
    ("factor 2", handed(lambda beta, keep: beta * keep, lambda beta, keep: 1 / keep)),
    ("values as they are", handed(lambda beta, keep: beta * keep / 2, lambda beta, keep: torch.ones_like(keep))),
    ("keep for alpha", lambda beta, alpha, v: (beta * (1 - alpha) / 2, 1 - alpha, v / (1 - alpha)[:, None])),
]


@pytest.mark.parametrize(("mistake", "answer"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(mistake, answer):
    verdict = exercises.GATED_DELTA.check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


def test_both_exercises_stand_in_the_lesson():
    assert list(CELLS) == ["GATED_DELTA", "PROJECT"]


def test_a_stub_is_not_attempted_and_the_solution_passes():
    stub, solution = CELLS["GATED_DELTA"]
    assert exercises.GATED_DELTA.check(run(stub, exercises)).outcome == "todo"
    assert exercises.GATED_DELTA.check(run(solution, exercises)).outcome == "passed"


@pytest.mark.parametrize(("which", "outcome"), [(0, "todo"), (1, "passed")])
def test_the_projects_stub_is_not_attempted_and_its_solution_passes(which, outcome):
    names = {"torch": torch, "grad": grad, "surprise": surprise, "exercises": exercises}
    for code in (cell.source for cell in build.read_source(SOURCE) if cell.cell_type == "code"):
        if re.match(r"(def (descend|huber)|class (Default|Window))\b", code):
            exec(code, names)
    exec(CELLS["PROJECT"][which], names)
    assert exercises.PROJECT.check(names["Mine"](), names["gates"], seed=1000).outcome == outcome


FOUND = [  # a phrase of the lesson; the recipe, run and tokens of its card
    ("56 tokens later in 99.7 %", "recall-live", "mac", "56", 99.7),
    ("97.4 % are left after 65,536", "recall-long", "matrix", "65536", 97.4),
    ("64 pairs of 32 features, 99.0 %", "recall-many", "deep", "64", 99.0),
    ("99.0 % against 69.8 %", "recall-many", "matrix", "64", 69.8),
    ("99.5 % against a guess among three", "two-hops", "mac", "40", 99.5),
    ("scattered ones are answered in 21 %", "recall-scattered", "deep, told in one stretch", "56 scattered", 21.1),
    ("17.4 % are left at 4,096 tokens", "chunks", "chunk 64", "4096", 17.4),
    ("chunks of 16 keep 99.5 %", "chunks", "chunk 16", "4096", 99.5),
    ("longer training brings 74.7 %", "chunks", "chunk 64, trained longer", "4096", 74.7),
    ("keeps 10.4 % at 4,096 tokens", "recall-scattered", "deep, all layers forget", "4096", 10.4),
    ("in the last layer alone it keeps 86.2 %", "recall-scattered", "deep", "4096", 86.2),
]


@pytest.mark.parametrize(("phrase", "recipe", "trained", "tokens", "percent"), FOUND)
def test_what_this_course_found_is_on_the_cards(phrase, recipe, trained, tokens, percent):
    prose = " ".join(cell.source for cell in build.read_source(SOURCE) if cell.metadata.get("lang") == "en")
    assert phrase in " ".join(prose.split())
    assert 100 * card(recipe)["runs"][trained]["right"][tokens]["median"] == pytest.approx(percent, abs=0.06)


def test_needles_are_found_as_far_as_the_lesson_says():
    found = {
        variant: card("needle")["runs"][f"{variant} in noise"]["right"] for variant in ("mac", "mag", "mal", "lmm")
    }
    assert found["mac"][str(64 * 256)]["worst"] == 1
    assert all(found[variant][str(16 * 256)]["median"] > 0.7 for variant in found)


def test_overwriting_works_by_the_correction_alone_and_by_momentum_alone():
    runs = card("recall-retold")["runs"]
    assert min(runs[name]["right"]["56"]["worst"] for name in ("correction", "momentum")) > 0.95
