"""What is carried from call to call: saved, loaded, moved, cut from the graph, and never changed in place."""

from __future__ import annotations

import os
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.proofs import proofs
from tests.proofs.strategies import Case, make
from titans import DeepMemory, MemoryState, NeuralMemory, chunked_scan, recurrent_scan
from titans.state import OLD_FORMATS

FACTS = ("place_in_chunk", "chunk_size", "signature", "rule")


def scanned(tokens: int) -> tuple[proofs.Problem, MemoryState]:
    problem = make(Case(tokens=11, chunk_size=4, fresh=True))
    return problem, proofs.run(chunked_scan, problem, slice(0, tokens))[1]


def assert_identical(one: MemoryState, other: MemoryState) -> None:
    assert one.tensors().keys() == other.tensors().keys()
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[name]), name
        assert tensor.dtype == other.tensors()[name].dtype
    assert [getattr(one, fact) for fact in FACTS] == [getattr(other, fact) for fact in FACTS]


@pytest.mark.parametrize("tokens", [4, 6], ids=["at a chunk's border", "inside a chunk"])
def test_D10_a_saved_state_is_read_back_bit_for_bit_and_goes_on_as_if_never_saved(tmp_path, tokens):
    problem, state = scanned(tokens)
    state.save(tmp_path / "state.safetensors")
    loaded = MemoryState.load(tmp_path / "state.safetensors")
    assert_identical(loaded, state)
    for scan in (chunked_scan, recurrent_scan):
        kept, _ = proofs.run(scan, problem, slice(tokens, 11), state)
        back, _ = proofs.run(scan, problem, slice(tokens, 11), loaded)
        assert torch.equal(kept, back)


def test_a_fresh_state_is_saved_row_by_row(tmp_path):
    """M_0 is one tensor that all rows see; in the file each row has its own."""
    state = DeepMemory(3, heads=2).initial_state(4)
    state.save(tmp_path / "state")
    assert_identical(MemoryState.load(str(tmp_path / "state")), state)


def test_D10_a_layers_state_is_saved_with_what_its_convolutions_need(tmp_path):
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, chunk_size=4)
    x = torch.randn(2, 9, 8)
    whole, _ = layer(x)
    _, state = layer(x[:, :6])
    state.save(tmp_path / "state")
    loaded = MemoryState.load(tmp_path / "state")
    assert_identical(loaded, state)
    rest, _ = layer(x[:, 6:], loaded)
    proofs.assert_same({"y": rest}, {"y": whole[:, 6:]}, 1e-5)


@pytest.mark.parametrize("tokens", [4, 6])
def test_detach_keeps_the_numbers_and_leaves_the_graph(tokens):
    _, state = scanned(tokens)
    assert any(tensor.requires_grad for tensor in state.tensors().values())
    cut = state.detach()
    assert_identical(cut, state)
    everything = (*cut.weights, *cut.momentum, *cut.chunk_weights)
    assert not any(tensor.requires_grad for tensor in everything)


def test_to_casts_every_tensor_and_keeps_the_place():
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, chunk_size=4)
    _, state = layer(torch.randn(2, 6, 8))
    double = state.to(torch.float64)
    everything = (*double.weights, *double.momentum, *double.chunk_weights, double.recent)
    assert all(tensor.dtype == torch.float64 for tensor in everything)
    assert [getattr(double, fact) for fact in FACTS] == [getattr(state, fact) for fact in FACTS]
    assert_identical(double.to(torch.float32), state)


def test_between_chunks_the_chunk_start_is_the_memory_itself():
    _, state = scanned(8)
    assert state.place_in_chunk == 0
    for start, weight in zip(state.chunk_weights, state.weights, strict=True):
        assert start.data_ptr() == weight.data_ptr()
        assert torch.equal(start, weight)
    assert set(state.tensors()) == {"weights.0", "weights.1", "rule_state.0", "rule_state.1"}
    _, inside = scanned(9)
    assert inside.place_in_chunk == 1
    assert set(inside.tensors()) == set(state.tensors()) | {"chunk_weights.0", "chunk_weights.1"}
    for start, weight in zip(inside.chunk_weights, state.weights, strict=True):
        assert torch.equal(start, weight)


@pytest.mark.parametrize("scan", [chunked_scan, recurrent_scan])
def test_a_scan_returns_a_new_state_and_leaves_the_old_one_as_it_was(scan):
    problem, state = scanned(6)
    before = {name: tensor.detach().clone() for name, tensor in state.tensors().items()}
    _, after = proofs.run(scan, problem, slice(6, 11), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    assert (state.place_in_chunk, after.place_in_chunk) == (2, 3)
    with pytest.raises(FrozenInstanceError):
        state.place_in_chunk = 3


def half_written(tensors, path, metadata):
    Path(path).write_bytes(b"half")
    raise OSError("disk full")


def not_replaced(old, new):
    raise OSError("disk full")


@pytest.mark.parametrize(("name", "broken"), [("titans.files.save_file", half_written), ("os.replace", not_replaced)])
def test_a_state_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, broken):
    """Whatever safetensors does: its older versions write in the place of the old file."""
    path, (_, state) = tmp_path / "state", scanned(6)
    state.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(name, broken)
    with pytest.raises(OSError, match="disk full"):
        scanned(9)[1].save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_goes_on_leading_to_the_file_that_is_written(tmp_path):
    path, link = tmp_path / "state", tmp_path / "link"
    scanned(6)[1].save(path)
    link.symlink_to(path)
    scanned(9)[1].save(link)
    assert link.is_symlink()
    assert_identical(MemoryState.load(path), scanned(9)[1])


def test_a_loaded_state_does_not_lie_in_its_file(tmp_path):
    """Which may be written anew, or cut off, while the state is in use."""
    path, (_, state) = tmp_path / "state", scanned(6)
    state.save(path)
    loaded = MemoryState.load(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert_identical(loaded, state)


def test_numbers_of_numpy_among_the_facts_are_saved_as_pythons_own(tmp_path):
    _, state = scanned(6)
    replace(state, place_in_chunk=np.int64(2), chunk_size=np.int32(4)).save(tmp_path / "state")
    loaded = MemoryState.load(tmp_path / "state")
    assert_identical(loaded, state)
    assert (type(loaded.place_in_chunk), type(loaded.chunk_size)) == (int, int)


def test_a_file_of_the_old_format_says_what_to_do(tmp_path):
    _, state = scanned(6)
    state.save(tmp_path / "state")
    with safe_open(tmp_path / "state", framework="pt") as file:
        metadata = file.metadata()
    save_file(state.detach().tensors(), tmp_path / "old", metadata=metadata | {"format": OLD_FORMATS[0]})
    with pytest.raises(ValueError, match=r"written by an older version \(titans-state-1\).* read the text again"):
        MemoryState.load(tmp_path / "old")


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_a_saved_state_may_be_read_by_whoever_a_new_file_may_and_keeps_its_mode(tmp_path):
    _, state = NeuralMemory(4)(torch.randn(1, 3, 4))
    plain, path = tmp_path / "plain", tmp_path / "state.safetensors"
    plain.touch()
    state.save(path)
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    state.save(path)
    assert path.stat().st_mode & 0o777 == 0o640
