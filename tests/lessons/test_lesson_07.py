"""Lesson 07: its exercises know their mistakes, its lab moves, and what it takes away from MAC is what it says."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from titans import TitansConfig, TitansLM
from titans.attention import NOTHING_SEEN
from titans.blocks import MAC
from titans.checkpoints import load_checkpoint
from titans.lesson.kit import draws, interventions, traces, watching
from titans.lesson.lesson_07 import exercises as exercises_07
from titans.lesson.lesson_07 import lab as mac_lab
from titans.lesson.lesson_07 import leaky_mac, trials
from titans.lesson.lesson_07 import pictures as lesson_07
from titans.observe import edited_gates, observed
from titans.tasks import Recall, ScatteredRecall
from titans.training import Trained, share_right

SMALL = TitansConfig(dim=8, heads=2, memory_depth=1, segment_len=4, chunk_size=3, persistent_tokens=2)


def random_block(kind, *rules):
    block = kind(SMALL, *rules).double()
    draws.randomise(block, seed=3)
    return block


def random_input(tokens=11):
    return torch.randn(2, tokens, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def output(block, x):
    return block(x, block.initial_state(x.shape[0]))[0].detach()


# ---- What the lesson takes away from MAC -----------------------------------------------------------------------------


def test_with_both_rules_the_leaky_block_is_mac_and_with_fewer_it_is_not():
    x, ours = random_input(), output(random_block(MAC), random_input())
    for name, rules in leaky_mac.MODES.items():
        same = torch.allclose(output(random_block(leaky_mac.LeakyMAC, *rules), x), ours, rtol=0, atol=1e-12)
        assert same == (name == "both")


@pytest.mark.parametrize("mode", leaky_mac.MODES)
@pytest.mark.parametrize("segment_len", [2, 5, 16])
def test_a_leak_ends_with_its_segment_and_only_both_rules_close_it(mode, segment_len):
    found = leaky_mac.influence(mode, segment_len, persistent=2)
    future, segment = found.triu(1), torch.arange(16) // segment_len
    assert (future[segment[:, None] != segment] == 0).all()
    if mode == "both":
        assert (future == 0).all()
    else:
        assert (future[(segment[:, None] == segment).triu(1)] > 0).all()
    assert (found.tril() > 0)[torch.ones(16, 16, dtype=torch.bool).tril()].all()


def test_the_size_of_a_jacobian_is_that_of_its_blocks():
    jacobian = torch.randn(3, 2, 4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.isclose(trials.sizes(jacobian)[1, 2], jacobian[1, :, 2, :].norm())


@pytest.mark.parametrize("kind", [leaky_mac.PositionlessH, leaky_mac.WithoutResidual])
def test_a_variant_is_another_function_still_causal_and_may_be_split(kind):
    block, x = random_block(kind), random_input()
    whole = output(block, x)
    assert (whole - output(random_block(MAC), x)).abs().max() > 1e-3
    first, state = block(x[:, :6], block.initial_state(2))
    last, _ = block(x[:, 6:], state)
    torch.testing.assert_close(torch.cat((first, last), dim=1), whole, rtol=0, atol=1e-12)
    changed = x.clone()
    changed[:, 7] += 1
    assert torch.equal(output(block, changed)[:, :7], whole[:, :7])


def test_without_positions_h_is_a_set():
    """One query after two others: exchanging their h changes nothing, with MAC it does."""
    random = torch.Generator().manual_seed(5)
    q, h, v_h, x, v_x = torch.randn(5, 1, 2, 3, 4, generator=random, dtype=torch.float64)
    prefix = (torch.zeros(1, 2, 0, 4, dtype=torch.float64),) * 2
    swap = [1, 0, 2]
    for kind, unchanged in ((leaky_mac.PositionlessH, True), (MAC, False)):
        read = [
            random_block(kind).attend(q, (h[:, :, order], v_h[:, :, order]), (x, v_x), NOTHING_SEEN, prefix)[0][:, :, 2]
            for order in ([0, 1, 2], swap)
        ]
        assert torch.allclose(*read, rtol=0, atol=1e-12) == unchanged


def test_without_the_residual_attention_is_all_that_is_passed_on():
    x, y = random_input(), random_input() + 1
    assert torch.equal(random_block(leaky_mac.WithoutResidual).surround(x, y), y)
    assert torch.equal(random_block(MAC).surround(x, y), x + y)


# ---- The models that it trains ---------------------------------------------------------------------------------------


def test_a_guesser_who_crosses_off_is_right_as_often_as_the_lesson_says():
    random = torch.Generator().manual_seed(6)
    values = torch.randint(8, (40_000, 4), generator=random)  # in the order of the questions
    for left in range(1, 5):
        picked = torch.randint(left, (40_000,), generator=random)
        asked, remaining = values[:, 4 - left], values[:, 4 - left :]
        right = (remaining.gather(1, picked[:, None])[:, 0] == asked).float().mean()
        assert abs(right - trials.crossing_off(left)) < 0.01


class Fixed(nn.Module):
    """A model that answers every question with the value told first, or with the truth."""

    def __init__(self, honest):
        super().__init__()
        self.honest = honest

    def forward(self, tokens):
        following = tokens.roll(-1, dims=1) if self.honest else tokens[:, 1:2].expand_as(tokens)
        return type("Output", (), {"logits": nn.functional.one_hot(following, 24).float()})


def test_answers_are_counted_question_by_question():
    assert trials.by_question(Fixed(honest=True)) == ([1.0] * 4, [1.0] * 4)
    right, told = trials.by_question(Fixed(honest=False), rows=2000)
    assert told == [1.0] * 4
    assert all(abs(share - trials.crossing_off(4)) < 0.05 for share in right)


def test_h_can_be_switched_off_in_a_copy():
    model = TitansLM(TitansConfig(vocab_size=9, dim=8, heads=2, layers=2, memory_depth=1))
    muted = watching.without_h(model)
    for before, after in zip(model.blocks, muted.blocks, strict=True):
        assert before.mixer.norm.weight.abs().min() > 0
        weights = after.mixer.memory.initial_state(1).weights
        h = after.mixer.retrieve([torch.randn_like(weight) for weight in weights], torch.randn(1, 5, 8))
        assert (h == 0).all()


def test_a_block_is_resized_with_its_weights():
    block, x = random_block(MAC), random_input()
    assert torch.equal(output(trials.resized(block, SMALL, 3, 4), x), output(block, x))
    longer = trials.resized(block, SMALL, 3, 8)
    changed = (output(longer, x) - output(block, x)).abs().amax((0, 2)) > 1e-12
    assert changed.tolist() == [False] * 4 + [True] * 7


def test_training_a_variant_trains_that_variant_and_leaves_the_library_as_it_was():
    run = replace(trials.RUN, steps=1, rows=2)
    trained = trials.train_variant(run, leaky_mac.WithoutResidual, progress=False)
    assert isinstance(trained.model.blocks[0].mixer, leaky_mac.WithoutResidual)
    assert type(TitansLM(run.config).blocks[0].mixer) is MAC
    assert trials.without_memory(run).config.variant == "attention"
    assert Recall(4, 8, 8, 8) == trials.TASK


# ---- What it says of them --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_checkpoint("recall-live/mac")[0]


@cache
def share(kind=MAC, seed=2, **changes):
    """Right answers of the lesson's training, and its model."""
    wanted = replace(trials.RUN, config=replace(trials.RUN.config, **changes))
    found = trials.train_variant(wanted, kind, seed, progress=False)
    return found.history[-1][2], found.model


def test_without_the_memory_a_question_does_not_depend_on_what_was_told():
    """So no training can help: what is asked lies in a later segment than what was told."""
    model = TitansLM(trials.without_memory(trials.RUN).config)
    told, asked = torch.randint(8, (2, 1, 8)), torch.randint(8, (1, 8))
    assert torch.equal(*(model(torch.cat((one, asked), dim=1)).logits[:, 8:] for one in told))


def test_attention_is_idle_in_the_trained_models_and_the_keys_must_look_back(shipped):
    """With 256 rows; what the shipped model loses without attention, it loses by the gates."""
    both, _, _ = load_checkpoint("recall-both/matrix")
    for model, task, between in (
        (share()[1], trials.TASK, 20),
        (shipped, Recall(), 56),
        (both, ScatteredRecall(), 56),
    ):
        found = {name: share_right(copy, task, between, rows=256) for name, copy in trials.parts_off(model).items()}
        whole = share_right(model, task, between, rows=256)
        for name in ("attention", "h", "persistent tokens", "the output gate", "queries looking back"):
            assert found[name] > whole - 0.06, name
        for name in ("the last read", "the residual", "keys looking back"):
            assert found[name] < 0.35, name
    tokens = Recall().sample(256, 56, torch.Generator().manual_seed(1)).tokens
    with observed(watching.memory_of(shipped)) as calls:
        normal = shipped(tokens).logits.argmax(-1)
    blind, gates = interventions.without_attention(shipped), iter([call.tokens.gates for call in calls])
    alone = blind(tokens).logits.argmax(-1)
    with edited_gates(blind, lambda _: next(gates)):
        held = blind(tokens).logits.argmax(-1)
    asked = slice(-12, None, 2)
    assert (held == normal)[:, asked].float().mean() > (alone == normal)[:, asked].float().mean() + 0.01


@pytest.mark.parametrize(("which", "writer"), [("trained here", 1), ("shipped", 2)])
def test_a_pair_is_written_by_one_token_which_looks_back_to_its_key(which, writer, shipped):
    """The value's own token, or the one behind it: held at a step of 0 it takes its pair along, and no other token
    does."""
    model, task = (share()[1], trials.TASK) if which == "trained here" else (shipped, Recall())
    lost = trials.taps_lost(model, task, 20)
    assert min(range(4), key=lost["key"].__getitem__) == writer
    assert min(range(4), key=lost["value"].__getitem__) == writer - 1
    assert min(range(4), key=lost["query"].__getitem__) == 0
    told = task.tell(128, torch.Generator().manual_seed(1)).tokens
    stream = torch.cat((told, task.pass_time(128, 20, torch.Generator().manual_seed(2))), dim=1)
    for token in range(told.shape[1] + 1):
        known = watching.share_known(model, silenced(model, stream, token), told[:, ::2], told[:, 1::2])
        for pair, right in enumerate(known):
            assert (right < 0.6) == (token == 2 * pair + writer), (token, pair)


@torch.no_grad()
def silenced(model, stream, token):
    """The state after the stream, in which this token's step is 0."""
    state = model(stream[:, :token]).state if token else None
    with interventions.held(model, theta=0.0):
        state = model(stream[:, token : token + 1], state).state
    return model(stream[:, token + 1 :], state).state


def test_the_writers_take_larger_steps_than_the_tokens_before_them(shipped):
    theta = traces.trace(shipped, traces.six_facts()[0]).theta
    assert (theta[2:13:2] > theta[1:12:2]).all()
    assert theta[16:].max() < 0.5 * theta[:16].mean()


def test_training_learns_to_bind_without_attention_but_not_without_convolution():
    """Nor does it with more than twice as many steps; and what it learns then is which values were told."""
    assert share(leaky_mac.WithoutAttention)[0] > 0.9
    long = replace(trials.without_convolution(trials.RUN), steps=300, check_every=50)
    found = trials.train_variant(long, progress=False)
    assert 0.5 < found.history[-1][2] < 0.68
    right, told = trials.by_question(found.model)
    assert min(told) > 0.95
    assert all(abs(one - trials.crossing_off(left)) < 0.1 for one, left in zip(right, (4, 3, 2, 1), strict=True))


def test_it_is_the_blending_that_stops_a_model_without_the_residual():
    """Two ways to leave out x: a blend of what is seen, with matrices of 1 so that nothing else is in the way, stops;
    a token by itself, with matrices that are yet to be learned, does not. It takes longer."""
    assert 0.5 < share(leaky_mac.WithoutResidual)[0] < 0.68
    assert 0.5 < share(leaky_mac.PlainAverage)[0] < 0.68
    itself = trials.train_variant(replace(trials.RUN, steps=400), ItselfAlone, seed=1, progress=False)
    assert itself.history[-1][2] > 0.9


class ItselfAlone(leaky_mac.WithoutResidual):
    """Every token sees itself alone."""

    def attend(self, q, h, x, seen, prefix):
        return x[1], seen


def test_without_positions_no_training_gets_below_the_error_of_an_average():
    """What is handed on cannot depend on the order of h, so the best is the mean of all that are seen."""
    h = torch.randn(20_000, 8, 4, generator=torch.Generator().manual_seed(0))
    for seen in range(1, 9):
        error = (h[:, :seen].mean(1) - h[:, seen - 1]).square().mean()
        assert abs(error - (1 - 1 / seen)) < 0.02


# ---- The pieces, one by one ------------------------------------------------------------------------------------------


def test_the_librarys_pieces_put_together_are_the_library():
    """In one segment that is as long as the input."""
    block = MAC(replace(SMALL, heads=1, segment_len=16, chunk_size=1)).double()
    draws.randomise(block, seed=3)
    library, x = trials.Library(block), random_input()[0]
    y = x + library.attend(x, library.retrieve(x))
    written = block.norm_written(y)
    whole = library.gate(y, written, library.write_and_read(written))
    torch.testing.assert_close(whole, output(block, x[None])[0], rtol=0, atol=1e-12)
    q, k, _, gates = library.project(x)
    torch.testing.assert_close(torch.stack((q, k)).norm(dim=-1), torch.ones(2, 11).double(), rtol=0, atol=1e-3)
    assert gates.shape == (11, 3)


def test_a_part_is_switched_off_in_a_copy():
    model = TitansLM(trials.RUN.config)
    before = [parameter.clone() for parameter in model.parameters()]
    copies = trials.parts_off(model)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert type(model.blocks[0].mixer) is MAC
    taps = {name: copies[f"{name} looking back"].blocks[0].mixer.memory.conv.weight for name in ("queries", "values")}
    dim = trials.RUN.config.dim
    for first, name in ((0, "queries"), (2 * dim, "values")):
        changed = taps[name] != model.blocks[0].mixer.memory.conv.weight
        assert changed[first : first + dim, :, :3].all()
        assert changed.sum() == 3 * dim
        assert (taps[name][changed] == 0).all()


# ---- Pictures and the lab --------------------------------------------------------------------------------------------


def leaks():
    found = {mode: leaky_mac.influence(mode, 4, 2, tokens=11) for mode in leaky_mac.MODES}
    return lesson_07.leaks(found, 4)


def curves():
    model = TitansLM(TitansConfig(vocab_size=9, dim=8, layers=1))
    return lesson_07.curves({"MAC": Trained(model, history=[(1, 2.0, None), (25, 1.0, 0.5), (50, 1.0, 0.9)])})


@pytest.mark.parametrize("make", [lesson_07.flow, leaks, curves, mac_lab.mac_lab], ids=lambda make: make.__name__)
def test_every_picture_speaks_both_languages(make):
    check_words(make)


def test_every_control_of_the_lab_changes_its_picture():
    lab = mac_lab.mac_lab()
    for name, control in lab.controls.items():
        before, start = lab.png, control.value
        others = list(leaky_mac.MODES)[1:] if name == "mode" else [control.min, control.max]
        for other in others:
            control.value = other
            assert lab.png != before, (name, other)
        control.value = start
        assert lab.png == before


@pytest.mark.parametrize("mode", leaky_mac.MODES)
def test_the_lab_draws_every_corner_of_its_controls(mode):
    lab = mac_lab.mac_lab()
    lab.controls["mode"].value = mode
    for corner in ("min", "max"):
        for control in lab.controls.values():
            if hasattr(control, corner):
                control.value = getattr(control, corner)
    assert lab.png.startswith(b"\x89PNG")


def test_a_failing_draw_reaches_whoever_moved_the_control(monkeypatch):
    check_failing_draw(mac_lab.mac_lab(), "query", 3, monkeypatch)


def test_the_labs_strip_shows_what_its_controls_show():
    check_strip(mac_lab.mac_lab())


@pytest.mark.parametrize("mask_h", [False, True])
def test_the_labs_mask_is_the_one_of_the_exercise_in_every_segment(mask_h):
    p, h, x = mac_lab.visible(4, 3, mask_h)
    wanted = exercises_07.MASK.truth(4, 3).numpy()
    for first in range(0, 16, 4):
        rows = slice(first, first + 4)
        assert (x[rows, rows] == wanted[:, 7:]).all()
        assert (h[rows, rows] == (wanted[:, 3:7] if mask_h else True)).all()
        assert p[rows].sum(1).tolist() == [3] * 4
    inside = np.arange(16)[:, None] // 4 == np.arange(16) // 4
    assert not (h | x)[~inside].any()


# ---- Exercises -------------------------------------------------------------------------------------------------------


def wrong_mask(h, x=None, p=1.0):
    def mask(tokens, persistent):
        square = torch.ones(tokens, tokens)
        parts = (torch.full((tokens, persistent), p), h(square), (x or torch.tril)(square))
        return torch.cat(parts, dim=1).bool()

    return mask


def answers(
    write=lambda M, first, k, v, theta: M - theta * torch.outer(2 * (M @ k - v), k), read="after", carry=True, ask=None
):
    def answer(M, K, V, Q, theta):
        first, reads = M, []
        for k, v, q in zip(K, V, K if ask == "key" else Q, strict=True):
            before, M = M, write(M if carry else first, first, k, v, theta)
            reads.append({"after": M, "before": before, "never": first}[read] @ q)
        return torch.stack(reads)

    return answer


def read_at_the_end(M, K, V, Q, theta):
    for k, v in zip(K, V, strict=True):
        M = M - 2 * theta * torch.outer(M @ k - v, k)
    return Q @ M.T


WRONG = {
    "SEES": [
        ("no h", lambda t, n, p: p + 1 + t % n),
        ("not itself", lambda t, n, p: p + 2 * (t % n)),
        ("no segments", lambda t, n, p: p + 2 + 2 * t),
        ("whole segment", lambda t, n, p: p + n + n),
        ("no persistent tokens", lambda t, n, p: 2 * (t % n) + 2),
        ("persistent tokens twice", lambda t, n, p: 2 * p + 2 * (t % n) + 2),
        ("different", lambda t, n, p: 7),
        ("error", lambda t, n, p: t / 0),
    ],
    "MASK": [
        ("all of h", wrong_mask(lambda square: square)),
        ("one triangle over everything", lambda n, p: torch.ones(n, p + 2 * n).tril().bool()),
        ("not its own h", wrong_mask(lambda square: square.tril(-1))),
        ("only its own h", wrong_mask(lambda square: torch.eye(len(square)))),
        ("the future", wrong_mask(torch.triu, torch.triu)),
        ("inverted", wrong_mask(lambda s: s.triu(1), lambda s: s.triu(1), p=0.0)),
        ("no persistent tokens", lambda n, p: torch.ones(n, n).tril().repeat(1, 2).bool()),
        ("shape", lambda n, p: torch.ones(n, p + n).bool()),
        ("different", lambda n, p: torch.zeros(n, p + 2 * n).bool()),
    ],
    "WRITE_AND_READ": [
        ("read at the end", read_at_the_end),
        ("read before the write", answers(read="before")),
        ("never written", answers(read="never")),
        ("each alone", answers(carry=False)),
        ("sign", answers(lambda M, first, k, v, theta: M + 2 * theta * torch.outer(M @ k - v, k))),
        ("factor 2", answers(lambda M, first, k, v, theta: M - theta * torch.outer(M @ k - v, k))),
        (
            "gradient at the wrong weights",
            answers(lambda M, first, k, v, theta: M - 2 * theta * torch.outer(first @ k - v, k)),
        ),
        ("asks with the key", answers(ask="key")),
    ],
}


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = getattr(exercises_07, name).check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [getattr(exercises_07, name).check(answer) for _, answer in WRONG[name]]
    assert len({v.english for v in verdicts}) == len({v.japanese for v in verdicts}) == len(verdicts)


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("07")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    check = getattr(exercises_07, name).check
    assert check(run(stub, exercises_07)).outcome == "todo"
    assert check(run(solution, exercises_07)).outcome == "passed"


def test_every_exercise_stands_in_the_lesson():
    assert [param.values[0] for param in exercise_cells("07")] == list(WRONG)
