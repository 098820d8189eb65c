"""Text byte by byte: what is held out, what a stretch is, and bits that do not depend on how the text is cut."""

import math

import pytest
import torch
import torch.nn.functional as F

from titans import TitansConfig, TitansLM
from titans.corpus import Text, as_bytes, bits, by_place, is_held_out

TEXT = Text()


@pytest.fixture(scope="module")
def model() -> TitansLM:
    torch.manual_seed(0)
    return TitansLM(TitansConfig(dim=16, layers=1, heads=1, segment_len=8, chunk_size=4, memory_depth=1)).double()


def test_the_standard_library_is_there_and_one_file_in_eight_is_held_out():
    train, held = TEXT.part("train"), TEXT.part("held out")
    assert sum(map(len, train.values())) > 4e6
    assert 0.05 < len(held) / (len(train) + len(held)) < 0.25
    assert not train.keys() & held.keys()
    assert all(file.dtype is torch.uint8 for file in held.values())


def test_what_is_held_out_depends_on_the_name_alone():
    """So that a model that was trained with one version of Python has not read the held-out files of another."""
    names = ("heapq.py", "ipaddress.py", "pathlib.py", "shutil.py", "xmlrpc/server.py")
    assert all(map(is_held_out, names))
    assert not any(map(is_held_out, ("argparse.py", "ast.py", "asyncio/events.py", "json/decoder.py", "typing.py")))
    assert set(TEXT.part("held out")) == {
        name for part in ("train", "held out") for name in TEXT.part(part) if is_held_out(name)
    }


def test_a_stretch_is_a_piece_of_a_file_that_is_trained_on():
    batch = TEXT.sample(6, 300, torch.Generator().manual_seed(0))
    assert batch.tokens.shape == batch.labels.shape == (6, 300)
    files = [bytes(file.tolist()) for file in TEXT.part("train").values()]
    held = [bytes(file.tolist()) for file in TEXT.part("held out").values()]
    for row in batch.tokens:
        stretch = bytes(row.tolist())
        assert any(stretch in file for file in files)
        assert not any(stretch in file for file in held)


def test_stretches_begin_at_a_files_start_and_anywhere():
    batch = TEXT.sample(400, 64, torch.Generator().manual_seed(0))
    starts = {bytes(file[:64].tolist()) for file in TEXT.part("train").values()}
    share = sum(bytes(row.tolist()) in starts for row in batch.tokens) / 400
    assert 0.2 < share < 0.32


def test_text_of_ones_own_is_cut_in_two(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("あ" + "abcdefgh" * 100, encoding="utf-8")
    own = Text((str(path),))
    train, held = (own.part(part)[str(path)] for part in ("train", "held out"))
    assert bytes(train.tolist()) + bytes(held.tolist()) == path.read_bytes()
    assert len(held) == math.ceil(803 / 8)
    with pytest.raises(ValueError, match="between must be at most 702"):
        own.sample(1, 703, torch.Generator())
    with pytest.raises(ValueError, match="tokens must be at most 101"):
        own.long_files(102)


def test_a_missing_file_and_a_missing_library_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no_such"):
        Text((str(tmp_path / "no_such"),)).part("train")
    monkeypatch.setattr("titans.corpus.sysconfig.get_path", lambda name: str(tmp_path))
    from titans import corpus

    with pytest.raises(FileNotFoundError, match="the source of Python's standard library must lie in"):
        corpus._python.__wrapped__()
    with pytest.raises(ValueError, match="part must be"):
        TEXT.part("test")


def test_bits_are_the_models_chances_however_the_text_is_cut(model):
    tokens = as_bytes("The quick brown fox jumps over the lazy dog.")[None]
    logits = model(tokens.long()).logits
    wanted = F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:].long(), reduction="none") / math.log(2)
    for piece in (1, 5, 8, 44, 100):
        torch.testing.assert_close(bits(model, tokens, piece=piece), wanted, rtol=0, atol=1e-10)
    state = model(tokens[:, :10].long()).state
    torch.testing.assert_close(bits(model, tokens[:, 10:], state), wanted[:, 10:], rtol=0, atol=1e-10)


def test_bits_of_a_model_that_knows_nothing_are_eight(model):
    copy = TitansLM(model.config)
    copy.head.weight.data.zero_()
    assert bits(copy, as_bytes("anything")[None]) == pytest.approx(8.0)


def test_by_place_counts_every_byte_but_the_first_once():
    costs = torch.arange(1.0, 16.0)[None]  # what bytes 2 to 16 cost
    found = by_place(costs, (4, 8, 16))
    assert found == {"4": 2.0, "8": 5.5, "16": 11.5}
    assert (3 * found["4"] + 4 * found["8"] + 8 * found["16"]) / 15 == pytest.approx(float(costs.mean()))
