"""The benchmark runs, its floor counts what the scan really does, and the pages show what it has measured."""

import importlib.util
import json
import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.paths import ROOT

pytest.importorskip("resource", reason="the benchmark measures memory with it, which Windows does not have")
from tests.benchmarks import __main__ as command
from tests.benchmarks import machine, models, rows, sides, table, timing
from titans import cost

TOY = {"batch": 1, "tokens": 16, "dim": 8, "chunk": 4}
WITH_THEIRS = importlib.util.find_spec("titans_pytorch") is not None
ONE_OF_EACH = [row for row in {row.name: row for row in rows.ROWS}.values() if WITH_THEIRS or not row.theirs]


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.name)
def test_every_row_of_the_benchmark_can_be_measured(row, monkeypatch):
    monkeypatch.setattr(models, "compiled", lambda model: model)  # compiling takes a minute, and a C++ compiler
    sizes = TOY | ({"tokens": 64, "few": 16} if "few" in row.sizes else {})
    result = row.measure(replace(row, sizes=sizes), 1)
    assert result["ours"] > 0
    assert result["other"] > 0
    assert result["ratio"] == pytest.approx(
        result["other"] / result["ours"] if row.at_least else result["ours"] / result["other"]
    )


def test_the_floor_has_the_matrix_products_of_the_scan():
    sizes = {"batch": 2, "tokens": 64, "dim": 32, "chunk": 8}
    in_place = {torch.ops.aten.baddbmm_: lambda total, a, b, **_: 2 * math.prod(a) * b[-1]}
    flops = []
    for run in (sides.ScanInputs(sizes).train_step, sides.floor(**sizes)):
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            run()
        flops.append(counter.get_total_flops())
    ours, floor = flops
    assert floor <= ours < 1.05 * floor  # ours multiplies the triangles of gates besides


@pytest.mark.parametrize("sizes", [TOY, TOY | {"batch": 2, "tokens": 40, "dim": 16}])
def test_the_floor_of_a_model_is_what_its_training_costs(sizes):
    """By arithmetic (`titans.cost`), which knows nothing of the code that is measured."""
    products = sides.products_alone(models.our_training(sizes))
    with FlopCounterMode(display=False) as counter:
        products()
    costs = cost(models.our_model(sizes).config, sizes["tokens"], sizes["batch"])
    assert counter.get_total_flops() == costs.training


def test_a_ratio_is_met_on_the_right_side_of_its_target():
    more, less = (replace(rows.ROWS[0], target=2, at_least=at_least) for at_least in (True, False))
    assert (more.met(2.5), more.met(1.5), less.met(2.5), less.met(1.5)) == (True, False, False, True)


def test_running_out_of_memory_is_a_result():
    assert timing.in_own_process(_allocate, 2**35, memory=2**34) == timing.OUT_OF_MEMORY


def _allocate(size: int) -> int:
    return len(bytearray(size))


def test_the_pages_show_the_results():
    results = json.loads(command.RESULTS.read_text(encoding="utf-8"))
    assert set(machine.facts()) < set(results["machine"])
    measured, known = (
        [(of(row), row_sizes(row)) for row in part]
        for part, of, row_sizes in (
            (results["rows"], lambda record: record["name"], lambda record: record["sizes"]),
            (rows.ROWS, lambda row: row.name, lambda row: row.sizes),
        )
    )
    assert measured == [row for row in known if row in measured]  # in order; `--update` adds those not measured yet
    assert len(measured) > 20
    for name, (start, language) in table.PAGES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        assert table.replace_section(page, start, table.section(results, start, language)) == page


def test_the_front_page_shows_the_worst_and_the_best():
    of_one, *others = table.FRONT_WHAT
    records = [{"name": of_one, "ratio": ratio, "at_least": True} for ratio in (2.0, None, 0.5, 3.0)]
    records += [{"name": name, "ratio": ratio, "at_least": False} for name in others for ratio in (2.0, 0.5)]
    assert [record["ratio"] for record in table.extremes(records)] == [
        0.5,
        3.0,
        *(2.0, 0.5) * len(others),
    ]
