"""A number is a number, whichever library made it, and is kept as Python's own; choices and tensors have one form."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.proofs.model_proofs import make_model, random_tokens
from tests.refusals.refused import INF, NAN, refused
from titans import DeepMemory, Gates, NeuralMemory, TitansConfig, TitansLM, chunked_scan, recurrent_scan
from titans.tasks import Needle, Recall, Task, VariedRecall, drifting_regression
from titans.training import Run, share_right, train

CONFIG = TitansConfig(vocab_size=12, dim=8, layers=1, heads=1, segment_len=4, chunk_size=4, memory_depth=1)
RUN = Run(CONFIG, Recall(pairs=2, keys=4, values=4, noise=4), between=(4, 8), steps=2, rows=2, warm_up=1)
WHOLE, REAL = (np.int64, np.int32, np.int8, np.uint8), (np.float64, np.float32, np.float16, Fraction)


def of_numpy(record, **others):
    """The same dataclass with numpy's numbers in the place of Python's."""
    kinds = {int: np.int64, float: np.float64}
    changes = {name: kinds[type(value)](value) for name, value in vars(record).items() if type(value) in kinds}
    return replace(record, **(changes | others))


# ---- Numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers_of_any_kind_make_the_same_configuration(kind):
    given = {name: kind(value) for name, value in asdict(CONFIG).items() if type(value) is int}
    made = TitansConfig(**given, memory_layers=(kind(1),))
    assert (made, made.signature) == (plain := replace(CONFIG, memory_layers=(1,)), plain.signature)
    assert repr(made) == repr(plain)
    assert TitansLM(made).initial_state(kind(2)).batch == 2


@pytest.mark.parametrize("kind", REAL)
def test_numbers_of_any_kind_make_the_same_configuration(kind):
    made = TitansConfig(ffn_expansion=kind(1.5), max_step=kind(0.5), dropout=kind(0.25))
    assert repr(made) == repr(TitansConfig(ffn_expansion=1.5, max_step=0.5, dropout=0.25))


@pytest.mark.parametrize("task", [Recall(2, 4, 4, 4), VariedRecall(3, 4, 4, 4), Needle(digits=2, before=3)], ids=repr)
def test_numbers_of_numpy_make_the_same_task(task):
    assert repr(of_numpy(task)) == repr(task)


def test_numbers_of_numpy_make_the_same_run_and_the_same_training():
    """Its text too, by which an unfinished training is known again."""
    numbers = {"between": (np.int64(4), np.int64(8)), "goal": np.float64(0.5), "clip": np.float32(1)}
    made, plain = of_numpy(RUN, config=of_numpy(CONFIG), task=of_numpy(RUN.task), **numbers), replace(RUN, goal=0.5)
    assert made.identity(np.int64(3)) == plain.identity(3)
    one, other = (train(run, seed, progress=False).model for run, seed in ((made, np.int64(3)), (plain, 3)))
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    numbers = {"between": np.int64(5), "rows": np.int64(4), "seed": np.int64(1), "piece": np.int64(2)}
    assert share_right(one, RUN.task, **numbers) == share_right(one, RUN.task, 5, rows=4, seed=1, piece=2)


def test_whole_numbers_stay_whole_where_numbers_are_asked_for():
    """So the text of a run is what it was."""
    assert "learning_rate=1," in replace(RUN, learning_rate=1).identity(0)
    assert "clip=1.0," in RUN.identity(0)


def test_generation_takes_numbers_of_numpy():
    model = make_model()
    tokens = random_tokens(model, 2, 3)
    options = {"temperature": 0.5, "top_k": 3, "top_p": 0.75, "stop_token": 2, "seed": 4}
    numpys = {name: np.float32(x) if isinstance(x, float) else np.int64(x) for name, x in options.items()}
    assert torch.equal(model.generate(tokens, np.int64(5), **numpys)[0], model.generate(tokens, 5, **options)[0])


def test_numbers_of_numpy_make_the_same_memory_and_layer():
    """Their signatures too, by which states are known again."""
    sizes = {"dim": 8, "heads": 2, "depth": 3, "expansion": 2}
    numpys = {name: np.int64(value) for name, value in sizes.items()}
    assert DeepMemory(**numpys).signature == DeepMemory(**sizes).signature
    numbers = {"chunk_size": np.int64(3), "conv_width": np.int8(2), "max_step": np.float32(1)}
    layer, x = NeuralMemory(**numpys, **numbers), torch.randn(1, 5, 8)
    state = layer(x)[1]
    assert layer.memory.signature == NeuralMemory(**sizes).memory.signature
    assert type(state.chunk_size) is type(state.place_in_chunk) is int


@pytest.mark.parametrize("scan", [chunked_scan, recurrent_scan])
def test_scans_take_numbers_of_numpy(scan):
    memory = DeepMemory(4)
    q, k, v = torch.randn(3, 1, 1, 5, 4)
    gates = Gates(*torch.rand(3, 1, 1, 5))
    want, _ = scan(memory, memory.initial_state(1), q, k, v, gates, 2, 0.5)
    assert torch.equal(
        scan(memory, memory.initial_state(np.int64(1)), q, k, v, gates, np.int64(2), np.float32(0.5))[0], want
    )


@pytest.mark.parametrize("value", [np.True_, np.float64(2), np.array([2]), torch.tensor(2), 2 + 0j])
def test_what_is_no_whole_number_is_refused(value):
    refused(TypeError, lambda: TitansConfig(dim=value), f"dim must be an integer, got {value!r}")


@pytest.mark.parametrize("value", [np.True_, np.array([0.5]), torch.tensor(0.5), 1j])
def test_what_is_no_number_is_refused(value):
    refused(TypeError, lambda: TitansConfig(max_step=value), f"max_step must be a number, got {value!r}")


@pytest.mark.parametrize("value", [np.float32(NAN), np.float64(INF), np.float16(-1), 10**400])
def test_a_number_of_any_kind_out_of_range_is_refused(value):
    refused(ValueError, lambda: TitansConfig(max_step=value), "max_step must be finite and greater than 0")


# ---- Choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[], {}, ["gelu"], set(), np.array(["gelu"]), torch.ones(2)], ids=repr)
def test_a_choice_that_cannot_be_looked_up_is_refused(value):
    refused(ValueError, lambda: DeepMemory(4, activation=value), "activation must be one of 'gelu', ", f"got {value!r}")
    refused(ValueError, lambda: TitansConfig(value), "variant must be one of 'mac', ", f"got {value!r}")
    refused(ValueError, lambda: Needle(value), "kind must be one of 'noise', 'text'", f"got {value!r}")


# ---- Tensors ---------------------------------------------------------------------------------------------------------

NESTED = [torch.ones(3, 8), torch.ones(2, 8)]
NOT_DENSE = {
    "torch.sparse_coo": lambda: torch.ones(2, 3, 8).to_sparse(),
    "torch.sparse_csr": lambda: torch.ones(2, 8).to_sparse_csr(),
    "torch._mkldnn": lambda: torch.ones(2, 3, 8).to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor(NESTED),
    "torch.jagged": lambda: torch.nested.nested_tensor(NESTED, layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch: some of these are prototypes
@pytest.mark.parametrize("came", NOT_DENSE)
def test_tensors_that_are_not_dense_are_refused(came):
    wrong = NOT_DENSE[came]()
    message = f"must be a dense tensor (torch.strided), got a {came} one"
    layer, memory, model = NeuralMemory(8), DeepMemory(8), make_model()
    tokens, good = random_tokens(model, 2, 3), torch.ones(2, 1, 3, 8)
    gates, start = Gates(*torch.full((3, 2, 1, 3), 0.1)), memory.initial_state(2)
    refused(TypeError, lambda: layer(wrong), f"x {message}")
    refused(TypeError, lambda: memory.read(start.weights, wrong), f"x {message}")
    refused(TypeError, lambda: model(wrong), f"tokens {message}")
    refused(TypeError, lambda: model(tokens, labels=wrong), f"labels {message}")
    refused(TypeError, lambda: start.select(wrong), f"rows {message}")
    for scan in (chunked_scan, recurrent_scan):
        refused(TypeError, lambda scan=scan: scan(memory, start, good, wrong, good, gates), f"k {message}")
        bad = gates._replace(eta=wrong)
        words = f"gates.eta {message}"
        refused(TypeError, lambda scan=scan, bad=bad: scan(memory, start, good, good, good, bad), words)
        for part in ("weights", "chunk_weights", "rule_state"):
            state = replace(start, **{part: (*start.weights[:-1], wrong)})
            words = f"state.{part} {message}"
            refused(TypeError, lambda scan=scan, state=state: scan(memory, state, good, good, good, gates), words)
    state = model(tokens).state
    layers = (replace(state.layers[0], recent=wrong), *state.layers[1:])
    refused(TypeError, lambda: model(tokens, replace(state, layers=layers)), f"state.layers.0.recent {message}")


# ---- Runs, streams and labels ----------------------------------------------------------------------------------------


class Nothing(Task):
    """A task without a vocabulary."""


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"config": None}, TypeError, "config must be a TitansConfig, got NoneType"),
        ({"config": asdict(CONFIG)}, TypeError, "config must be a TitansConfig, got dict"),
        ({"task": None}, TypeError, "task must be a Task, got NoneType"),
        ({"task": Recall}, TypeError, "task must be a Task, got type"),
        ({"task": Nothing()}, TypeError, "task.vocab_size must be an integer, got None"),
        ({"between": 5}, TypeError, "between must be two numbers, got 5"),
        ({"between": None}, TypeError, "between must be two numbers, got None"),
        ({"between": "48"}, TypeError, "between must be two numbers, got '48'"),
        ({"between": (4,)}, ValueError, "between must be two numbers, 0 <= from <= to, got (4,)"),
        ({"between": (4, 5, 6)}, ValueError, "between must be two numbers, 0 <= from <= to, got (4, 5, 6)"),
        ({"between": (4.0, 8)}, TypeError, "between must be an integer, got 4.0"),
        ({"between": (True, 8)}, TypeError, "between must be an integer, got True"),
        ({"between": (-1, 8)}, ValueError, "between must be at least 0, got -1"),
    ],
    ids=str,
)
def test_a_run_refuses_a_configuration_task_or_time_of_a_wrong_kind(changes, kind, message):
    refused(kind, lambda: replace(RUN, **changes), message)


def test_training_refuses_a_wrong_seed():
    refused(TypeError, lambda: train(RUN, 1.5, progress=False), "seed must be an integer, got 1.5")
    refused(ValueError, lambda: train(RUN, -1, progress=False), "seed must be at least 0, got -1")


def test_a_stream_refuses_wrong_noise():
    random = torch.Generator()
    for value in (NAN, INF, -0.5):
        words = f"noise must be finite and at least 0, got {value}"
        refused(ValueError, lambda value=value: drifting_regression(1, 2, 3, random, noise=value), words)
    for value in (None, "0", True):
        words = f"noise must be a number, got {value!r}"
        refused(TypeError, lambda value=value: drifting_regression(1, 2, 3, random, noise=value), words)


def test_labels_that_are_booleans_are_refused():
    """They were taken as tokens 0 and 1."""
    model = make_model()
    tokens = random_tokens(model, 2, 3)
    words = "labels (but for -100) must be int64 or int32, got torch.bool"
    refused(TypeError, lambda: model(tokens, labels=tokens > 2), words)
