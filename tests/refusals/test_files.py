"""Files of states and checkpoints that were damaged, edited or crafted: one clear ValueError refuses each, soon."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from tests.proofs.model_proofs import VARIANTS, make_model, random_tokens
from tests.refusals.edits import attempt, parts_of, survivors
from tests.refusals.refused import refused
from titans import DeepMemory, Gates, MemoryState, ModelState, NeuralMemory, TitansConfig, TitansLM, chunked_scan
from titans.checkpoints import SHIPPED, load_checkpoint, save_checkpoint
from titans.state import State

EDITS = 1600
SMALL = TitansConfig(vocab_size=7, dim=8, layers=2, heads=2, segment_len=4, chunk_size=3)


# ---- Damage ----------------------------------------------------------------------------------------------------------


def make_state(path):
    torch.manual_seed(0)
    NeuralMemory(8)(torch.randn(2, 5, 8))[1].save(path)


def make_checkpoint(path):
    torch.manual_seed(0)
    save_checkpoint(path, TitansLM(SMALL), {"steps": 3}, {"more": torch.arange(3.0)}, dtype=torch.float16)


each_file = pytest.mark.parametrize(
    ("make", "load"), [(make_state, MemoryState.load), (make_checkpoint, load_checkpoint)]
)


@each_file
def test_a_flipped_bit_is_noticed(tmp_path, make, load):
    """In the tensors, wherever; and in the text, where it leaves a file that can be parsed."""
    path = tmp_path / "file"
    make(path)
    load(path)
    whole = path.read_bytes()
    begin, generator = 8 + int.from_bytes(whole[:8], "little"), random.Random(0)
    for place in [begin, len(whole) - 1, *(generator.randrange(begin, len(whole)) for _ in range(30))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        refused(ValueError, lambda: load(path), "path must be a file as it was written", str(path), "checksum")
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[generator.randrange(begin)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        _, error = attempt(lambda: load(path))
        if error is None:  # nothing is changed but that the checksum has lost its name
            assert b'"sha256"' not in damaged
        else:
            assert type(error) is ValueError
            assert str(path) in str(error)


@each_file
def test_whatever_is_edited_without_a_new_checksum_is_noticed(tmp_path, make, load):
    path = tmp_path / "file"
    make(path)
    tensors, texts = parts_of(path)
    first = sorted(tensors)[0]
    for changed, more in (
        (tensors | {first: tensors[first] + 1}, {}),
        (tensors | {first: tensors[first].double()}, {}),
        (tensors | {first: tensors[first].flatten()}, {}),
        ({name: tensor for name, tensor in tensors.items() if name != first}, {}),
        (tensors, {"facts": texts["facts"].replace("3", "4").replace("5", "6")}),
        (tensors, {"sha256": "0" * 64}),
    ):
        save_file(changed, path, metadata=texts | more)
        refused(ValueError, lambda: load(path), "path must be a file as it was written", str(path))
    save_file(tensors, path, metadata=texts)  # by another program, perhaps in another order
    load(path)


@each_file
def test_a_file_from_before_there_were_checksums_is_read(tmp_path, make, load):
    path = tmp_path / "file"
    make(path)
    tensors, texts = parts_of(path)
    save_file(tensors, path, metadata={name: text for name, text in texts.items() if name != "sha256"})
    load(path)


def test_shipped_checkpoints_from_before_there_were_checksums_load():
    before = [path for path in sorted(SHIPPED.glob("*/*.safetensors")) if "sha256" not in parts_of(path)[1]]
    load_checkpoint(before[0])


# ---- Edited facts of states ------------------------------------------------------------------------------------------


def scan_on(state: MemoryState | None) -> MemoryState:
    torch.manual_seed(0)
    memory = DeepMemory(4, heads=2)
    x, gate = torch.randn(2, 2, 5, 4)[:, :, : 1 if state else 5], torch.full((2, 2, 5), 0.1)[:, :, : 1 if state else 5]
    start = memory.initial_state(2) if state is None else state
    return chunked_scan(memory, start, x, x, x, Gates(gate, gate, gate), chunk_size=3)[1]


def layer_on(state: State | None) -> State:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, chunk_size=3)(torch.randn(2, 1 if state else 5, 8), state)[1]


def model_on(variant: str, **options) -> Callable[[State | None], State]:
    model = make_model(variant, **options).requires_grad_(False)
    return lambda state: model(random_tokens(model, 2, 1 if state else 6), state).state


KINDS = {
    "memory": scan_on,
    "layer": layer_on,
    **{variant: model_on(variant) for variant in VARIANTS},
    "mac, sliding": model_on("mac", sliding=True, window=6),
    "mac, memory in one layer": model_on("mac", memory_layers=(2,)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_edit_of_a_states_facts_is_one_clear_error_or_gives_the_same_kind_of_state(tmp_path, kind):
    go_on = KINDS[kind]
    state = go_on(None)
    same = survivors(tmp_path / "state", state, EDITS // len(KINDS), 0, type(state).load, go_on)
    assert same <= 0.05 * EDITS / len(KINDS)  # what swaps two tensors of one size, which only a checksum notices


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors_of_other_sizes_places_and_dtypes_are_refused_by_name(tmp_path, variant):
    """A file may name them all rightly, and yet hold others."""
    go_on, path = model_on(variant), tmp_path / "state"
    go_on(None).save(path)
    tensors, texts = parts_of(path)
    del texts["sha256"]
    for name, tensor in tensors.items():
        for wrong in (tensor[:1], tensor[..., :1], tensor[..., 0], tensor.sum(), tensor.float(), tensor[..., None]):
            save_file(
                tensors | {name: wrong.clone()}, path, metadata={"format": texts["format"], "facts": texts["facts"]}
            )
            with pytest.raises(ValueError, match="state"):
                go_on(ModelState.load(path))


# ---- Crafted checkpoints ---------------------------------------------------------------------------------------------

HUGE = 10**6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": HUGE}, "tensors are too few for layers=1000000 and memory_depth=2"),
        ({"memory_depth": HUGE}, "tensors are too few for layers=2 and memory_depth=1000000"),
        ({"layers": 3}, "blocks.2.ffn.W_1.weight and 27 more must have shape [16, 8], got None"),
        ({"dim": HUGE}, "must have shape"),
        ({"vocab_size": 10**12}, "embedding.weight and 1 more must have shape [1000000000000, 8], got [7, 8]"),
        ({"persistent_tokens": 10**12}, "persistent"),
        ({"memory_expansion": 10**9}, "memory.memory.weights"),
        ({"ffn_expansion": 1e12}, "ffn.W_1.weight"),
        ({"ffn_expansion": 1e308}, "path must be a checkpoint of this version"),
        ({"dim_head": 10**30}, "path must be a checkpoint of this version"),
        ({"heads": HUGE, "dim_head": HUGE}, "attention.W_"),
        ({"conv_width": 10**9}, "conv.weight"),
        ({"memory_tokens": 10**12}, "memory_queries"),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_hold_what_its_configuration_says_is_refused_at_once(tmp_path, changes, message):
    """Before a model of that size is built, whose numbers no machine may hold."""
    path = tmp_path / "model"
    save_checkpoint(path, TitansLM(SMALL), {})
    tensors, texts = parts_of(path)
    config = json.dumps(json.loads(texts["config"]) | changes)
    save_file(tensors, path, metadata={"format": texts["format"], "config": config, "facts": "{}"})
    made: list[torch.Tensor] = []
    hook = register_module_parameter_registration_hook(lambda module, name, parameter: made.append(parameter))
    try:
        refused(ValueError, lambda: load_checkpoint(path), "path must be a checkpoint of this version", message)
    finally:
        hook.remove()
    assert len(made) <= 2 * len(tensors)
    assert all(parameter.is_meta for parameter in made)
