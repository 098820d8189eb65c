"""Lesson 08: its lab moves, and switches off what it says, and nothing else."""

import re
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.lessons.legible import problems
from tests.lessons.translated import left_in_english
from titans import TitansConfig
from titans.attention import window_attention
from titans.blocks import LMM, MAC, MAG, Combine
from titans.checkpoints import load_checkpoint
from titans.lesson.kit import draws, interventions, watching
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.lesson_08 import exercises, flow, pieces, trials
from titans.lesson.lesson_08 import lab as variant_lab
from titans.observe import closed, edited_gates, memories
from titans.recipes import RECIPES, WithoutAttention, checkpoint_name
from titans.tasks import Needle, Recall, TwoFacts
from titans.training import share_right

WHOLE = frozenset[str]()


# ---- What the lab computes -------------------------------------------------------------------------------------------


class DigitByDigit(Needle):
    whole = False


@pytest.mark.parametrize("variant", flow.FLOWS)
def test_answers_are_those_that_the_library_counts(variant):
    found = variant_lab.answers(variant, WHOLE, 64)
    assert found.told.shape == found.said.shape == (32, 4)
    model = variant_lab.trained(variant)
    assert found.keys / 32 == pytest.approx(share_right(model, variant_lab.TASK, 64, rows=32))
    assert found.keys >= 28
    assert found.digits == pytest.approx(share_right(model, DigitByDigit(), 64, rows=32))


@pytest.mark.parametrize("variant", flow.FLOWS)
def test_what_is_off_is_off_in_a_copy(variant):
    model = variant_lab.trained(variant)
    before = [parameter.clone() for parameter in model.parameters()]
    for part in flow.FLOWS[variant].parts:
        variant_lab.answers(variant, frozenset({part}), 8)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert all(not layer.gate_edits for layer in memories(model))


def said(model, between=8):
    pieces, asked = variant_lab.TASK.stream(32, between, torch.Generator().manual_seed(variant_lab.EVALUATION_SEED), 99)
    return model(torch.cat((*pieces, asked.tokens), dim=1)).logits[:, -5:-1].argmax(-1)


def test_every_part_is_the_one_that_is_named():
    """Against what switches it off by itself: for MAL, in which each of them changes answers."""
    model = variant_lab.trained("MAL")
    taps = model
    for part in (interventions.QUERY, interventions.KEY, interventions.VALUE):
        taps = interventions.without_taps(taps, part, 1, 2, 3)
    wanted = {
        "attention": said(interventions.without_attention(model)),
        "convolution": said(taps),
        "memory": said(closed(model)),
    }
    with edited_gates(model, lambda gates: gates._replace(eta=0 * gates.eta)):
        wanted["momentum"] = said(model)
    assert wanted.keys() == flow.FLOWS["MAL"].parts
    for part, answer in wanted.items():
        found = variant_lab.answers("MAL", frozenset({part}), 8).said
        assert torch.equal(found, answer), part
        assert not torch.equal(found, variant_lab.answers("MAL", WHOLE, 8).said), part


def test_parts_are_switched_off_together():
    model = watching.without_h(variant_lab.trained("MAC"))
    with interventions.held(model, eta=0.0):
        wanted = said(variant_lab.without_convolution(model))
    assert torch.equal(variant_lab.answers("MAC", frozenset({"h", "momentum", "convolution"}), 8).said, wanted)


def test_without_convolution_no_convolution_looks_back():
    model = variant_lab.trained("MAC")
    before, after = (one.blocks[0].mixer for one in (model, variant_lab.without_convolution(model)))
    for then, now in ((before.conv, after.conv), (before.memory.conv, after.memory.conv)):
        assert (then.weight[..., :-1] != 0).all()
        assert (now.weight[..., :-1] == 0).all()
        assert torch.equal(now.weight[..., -1], then.weight[..., -1])


def test_what_each_part_is_for():
    """What the stills show, and what the lesson says: nothing works without writing or convolution, and attention is
    needed where nothing leads past it."""
    for variant, drawn in flow.FLOWS.items():
        whole = variant_lab.answers(variant, WHOLE, 256)
        assert whole.keys >= 28
        for part in ("memory", "convolution"):
            found = variant_lab.answers(variant, frozenset({part}), 256)
            assert found.keys <= 1
            assert found.digits < (0.15 if part == "memory" else 0.4)
        if "attention" in drawn.parts:
            kept = variant_lab.answers(variant, frozenset({"attention"}), 256)
            assert kept.keys == (0 if variant == "MAL" else whole.keys)
        kept = variant_lab.answers(variant, frozenset({"momentum"}), 256).keys
        low, high = {"MAC": (31, 32), "MAG": (18, 31), "MAL": (0, 8), "LMM": (18, 31)}[variant]
        assert low <= kept <= high
    assert variant_lab.answers("MAC", frozenset({"h"}), 256).keys >= 31


def test_the_stills_show_what_their_words_say():
    attention, convolution = frozenset({"attention"}), frozenset({"convolution"})
    first, second, third = (("MAC", attention), ("MAL", attention), ("MAC", convolution))
    lab = variant_lab.variant_lab()
    for state, (variant, off) in zip(lab.states, (first, second, third), strict=True):
        assert (state["variant"], state["between"]) == (variant, 256)
        assert {part for part in variant_lab.PARTS if state[part]} == off
    shown = [variant_lab.answers(*case, 256) for case in (first, second, third)]
    assert [found.keys for found in shown] == [32, 0, 0]
    assert {variant_lab.letter(token) for token in shown[1].said.unique().tolist()} == {"0", "8"}
    written = [int(share) / 100 for share in re.findall(r"(\d+)% of the digits", lab.alt)]
    assert written == pytest.approx([found.digits for found in shown[1:]], abs=0.02)


def test_a_token_is_shown_as_a_letter():
    tokens = [0, 5, 30, 31, 40, 41]
    assert "".join(map(variant_lab.letter, tokens)) == "␣az09#"


# ---- What it draws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", flow.FLOWS)
def test_a_flow_has_a_box_for_every_part_and_an_arrow_from_it(variant):
    drawn = flow.FLOWS[variant]
    parts = {"MAC": 5, "MAG": 4, "MAL": 4, "LMM": 3}
    assert len(drawn.parts) == parts[variant]
    assert drawn.parts <= set(variant_lab.PARTS)
    assert {arrow.part for arrow in drawn.arrows} - {""} == drawn.parts


def test_the_lab_speaks_both_languages():
    check_words(variant_lab.variant_lab)


def test_every_control_of_the_lab_changes_its_picture():
    lab = variant_lab.variant_lab()
    for name, control in lab.controls.items():
        before, start = lab.png, control.value
        others = {"variant": ["MAG", "MAL", "LMM"], "between": [64, 1024]}.get(name, [True])
        for other in others:
            control.value = other
            assert lab.png != before, (name, other)
        control.value = start
        assert lab.png == before


@pytest.mark.parametrize("variant", flow.FLOWS)
def test_the_lab_draws_every_corner_of_its_controls(variant):
    lab = variant_lab.variant_lab()
    lab.controls["between"].value = 64
    lab.controls["variant"].value = variant
    whole = lab.png
    for part in variant_lab.PARTS:
        lab.controls[part].value = True
    assert lab.png.startswith(b"\x89PNG")
    assert lab.png != whole


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("variant", flow.FLOWS)
def test_every_variant_can_be_read_whole_and_with_everything_off(variant, language):
    speak(language)
    drawing = variant_lab.VariantDrawing()
    for off in (False, True):
        drawing.draw(variant, 64, **dict.fromkeys(variant_lab.PARTS, off))
        assert [*problems(drawing.figure), *left_in_english(drawing.figure)] == []


def test_a_part_that_a_variant_does_not_have_is_named_and_changes_no_answer():
    heading = variant_lab.heading
    assert heading("LMM", WHOLE) == "LMM, whole"
    assert heading("LMM", frozenset({"attention"})).endswith("(LMM has no attention)")
    assert heading("LMM", frozenset({"h", "memory", "attention"})).startswith("LMM without writing ")
    assert heading("MAG", frozenset({"h", "attention"})) == "MAG without attention   (MAG has no h)"
    speak("ja")
    assert heading("MAL", frozenset({"h", "momentum"})) == "MAL（外したもの：モーメンタム）　MAL にないもの：h"
    speak("en")
    drawing = variant_lab.VariantDrawing()
    off = dict.fromkeys(variant_lab.PARTS, False)
    drawing.draw("LMM", 64, **off)
    share = drawing.share.get_text()
    drawing.draw("LMM", 64, **{**off, "attention": True, "h": True})
    assert (
        drawing.share.get_text()
        == share
        == "right: 32 of 32 pass-keys, 100% of the digits   (64 tokens between " + ("telling and asking)")
    )


def test_a_change_is_quick():
    """Bounds with room for a busy machine; what has been computed once is kept."""
    drawing = variant_lab.VariantDrawing()
    off = dict.fromkeys(variant_lab.PARTS, False)
    drawing.draw("MAC", 64, **off)
    start = time.perf_counter()
    drawing.draw("MAC", 64, **off)
    assert time.perf_counter() - start < 0.3
    assert variant_lab.answers("MAC", WHOLE, 64) is variant_lab.answers("MAC", WHOLE, 64)


def test_a_failing_draw_reaches_whoever_moved_the_control(monkeypatch):
    check_failing_draw(variant_lab.variant_lab(), "between", 64, monkeypatch)


def test_the_labs_strip_shows_what_its_controls_show():
    check_strip(variant_lab.variant_lab())


# ---- What the lesson builds and measures -----------------------------------------------------------------------------


def small_config(variant: str, **changes) -> TitansConfig:
    return TitansConfig(variant, dim=8, heads=1, memory_depth=1, window=4, chunk_size=3, persistent_tokens=2, **changes)


def test_the_pieces_are_the_librarys_at_other_sizes_than_the_lessons():
    """With chunks of 3 after two persistent tokens: a chunk does not begin where the sequence does."""
    x = torch.randn(13, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    block = LMM(small_config("lmm")).double()
    draws.randomise(block, seed=5)
    made = pieces.pieces_of(block, chunk=3)
    ours = made.memory(torch.cat((made.weights["persistent"], x)))[2:]
    assert (ours - block(x[None])[0][0]).abs().max() < 1e-12
    assert (pieces.pieces_of(block, chunk=2).memory(x) - made.memory(x)).abs().max() > 1e-6


def hopper(run: str):
    recipe = RECIPES["two-hops"]
    name = f"two-hops/{checkpoint_name(run, 0, (0,)).removesuffix('.safetensors')}"
    return load_checkpoint(name, mixers=recipe.mixers(run))[0], replace(recipe.runs[run].task, twice=1.0)


def test_h_takes_the_first_step_and_the_last_read_the_second():
    model, task = hopper("mac")
    beginnings, ends = (trials.two_memories(model, task, part) for part in ("beginnings", "ends"))
    for found, decides in ((beginnings, "h"), (ends, "read")):
        for name in ("", "h", "read"):
            own, other = found[name]
            assert (other > 0.9 and own < 0.1) == (name == decides)
            assert (own > 0.9 and other < 0.1) == (name != decides)


def test_the_other_reader_hears_the_same_ends_and_other_beginnings():
    """So with both parts of the other's state it says the other's answers; and what a chain leads to is found."""
    model, task = hopper("mac")
    told = task.tell(40, torch.Generator().manual_seed(2)).tokens
    for row, ends in zip(told.tolist(), trials._ends(told, task).tolist(), strict=True):
        leads = {row[i]: row[i + 1] for i in (0, 2, 4, -6, -4, -2)}
        assert ends == [leads[leads[row[i]]] for i in (0, 2, 4)]
    state = model(torch.cat((told, task.pass_time(40, 40, torch.Generator())), dim=1)).state
    assert state.layers[0].place_in_segment == 0  # h of the question is read from what was told


def test_h_is_needed_when_two_steps_are_asked_for_and_at_no_other_time():
    model, task = hopper("mac")
    blind = watching.without_h(model)
    assert trials.share_by_phase(model, model, task) == pytest.approx(
        share_right(model, task, trials.BETWEEN, trials.QUESTIONS), abs=1e-6
    )
    assert trials.share_by_phase(blind, model, task) > 0.9
    assert trials.share_by_phase(model, blind, task) < 0.5
    assert trials.share_by_phase(blind, blind, replace(task, twice=0.0)) > 0.9


def test_with_h_one_end_is_fetched_and_without_it_all_of_them():
    for name, pointed in (("mac", True), ("mac, no h, 8 things", False), ("mac, no h", False)):
        own, other = trials.fetched(*hopper(name))
        assert other < own / 2 if pointed else 0.8 < other / own < 1.2, name


def test_without_writing_while_asked_one_read_still_adds_two_facts():
    """So it is no read of the surprise at the first of the two keys."""
    model = load_checkpoint("two-facts/lmm-sum")[0]
    task = TwoFacts()
    assert trials.share_by_phase(model, closed(model), task) > 0.95


def test_in_one_chunk_two_steps_are_lost_and_one_is_not():
    model, task = hopper("lmm, end first")
    late = trials.in_one_chunk(model)
    for twice in (0.0, 1.0):
        asks = replace(task, twice=twice)
        assert trials.share_by_phase(model, model, asks) > 0.95
        assert (trials.share_by_phase(late, late, asks) > 0.9) == (twice == 0)


def test_how_quietly_the_hay_is_written_decides_how_long_a_needle_lasts():
    task, found = Needle("noise"), {}
    models = {variant: load_checkpoint(f"needle/{variant}-in-noise")[0] for variant in ("mac", "mag", "mal", "lmm")}
    torch.set_num_threads(1)
    moved = {variant: trials.steps(model, task, tokens=512, rows=8) for variant, model in models.items()}
    assert min(moved, key=lambda variant: moved[variant][1]) == "mac"
    assert all(digit > 10 * hay for digit, hay in moved.values())
    louder = moved["lmm"][1] / moved["mac"][1]
    for variant, factor in (("lmm", 1 / louder), ("mac", louder)):
        for times in (1.0, factor):
            found[variant, times] = trials.share_with_quieter_hay(models[variant], task, 16384, times, rows=8)
    assert max(found["lmm", 1.0], found["mac", louder]) < 0.5
    assert min(found["lmm", 1 / louder], found["mac", 1.0]) > 0.8


def test_hay_as_loud_as_it_is_finds_what_the_library_counts():
    model, task = load_checkpoint("needle/lmm-in-noise")[0], Needle("noise")
    ours = trials.share_with_quieter_hay(model, task, 2048, 1.0, rows=8)
    assert ours == pytest.approx(share_right(model, task, 2048, rows=8))


def test_a_model_that_is_handed_its_own_gates_answers_as_it_does():
    model = load_checkpoint("ablation/full")[0]
    own = trials.share_with_gates_of(model, model, Recall(), 100, rows=16)
    assert own == pytest.approx(share_right(model, Recall(), 100, rows=16))
    closed_gates = trials.share_with_gates_of(model, closed(model), Recall(), 100, rows=16)
    assert closed_gates < 0.2


def test_crossing_off_is_what_lesson_07_says_of_it():
    assert trials.crossing_off(1, 8) == 1
    assert trials.crossing_off(2, 2) == pytest.approx((1 + 0.75) / 2)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_table_has_a_cell_for_every_test_and_a_dash_where_nothing_was_measured(language):
    found = {test: {"median": 0.5, "worst": 0.25} for test in ("56", "1024 scattered")}
    card = {"runs": {"full": {"right": found}, "no h": {"right": found, "after": found}}}
    speak(language)
    after = trials.table(card, ["full", "no h"], ("56", "1024 scattered"), "after").splitlines()
    head = {"en": ["56", "1,024,", "scattered"], "ja": ["56", "1,024、分散"]}[language]
    cells = [line.split() for line in after]
    assert cells[0] == head
    assert cells[1][-2:] == ["–", "–"]
    assert cells[2][-2:] == ["50.0", "(25.0)"]
    assert len({columns(line) for line in after}) == 1


class GatedLMM(LMM):
    """The memory alone, and MAC's gate behind it."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.norm_written, self.combine = nn.RMSNorm(config.dim, eps=1e-6), Combine(config.dim)

    def forward(self, x, state=None):
        read, state = super().forward(self.norm_written(x), state)
        return self.combine(x, read), state


def test_mac_without_attention_is_the_memory_and_a_gate():
    config = TitansConfig("mac", dim=8, heads=1, segment_len=4, chunk_size=3, persistent_tokens=0)
    block, gated = WithoutAttention(config).double(), GatedLMM(replace(config, variant="lmm")).double()
    draws.randomise(block, seed=1)
    gated.load_state_dict({name: block.state_dict()[name] for name in gated.state_dict()})
    x = torch.randn(2, 11, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert (block(x)[0] - gated(x)[0]).abs().max() < 1e-12


def test_the_key_of_a_b_leans_away_from_that_of_its_own_b_c():
    """So minus what the memory answers to it carries c over to a."""
    model, task = hopper("lmm, end first")
    own, other = trials.overlaps(model, task)
    assert own < -0.1 < other


# ---- Exercises -------------------------------------------------------------------------------------------------------


def rms(x, eps, dim=-1):
    return x / (x.square().mean(dim, keepdim=True) + eps).sqrt()


def gate(join=lambda a, b: a.sigmoid() * b, eps_y=1e-6, eps_read=1e-2, dim=-1):
    def answer(y, read, scale_y, scale_read):
        return join(rms(y, eps_y, dim) * scale_y, rms(read, eps_read, dim) * scale_read)

    return answer


def window(see, first=True):
    def answer(tokens, window, persistent):
        i, j = torch.arange(tokens)[:, None], torch.arange(tokens)
        return torch.cat((torch.full((tokens, persistent), first), see(i, j, window)), dim=1)

    return answer


def survivors(fits, enough=all):
    def answer(full, rows, spread, claims):
        return [
            name
            for name, said in claims.items()
            if enough(fits(word, rows.get(part), full, spread) for part, word in said.items())
        ]

    return answer


def fits(word, share, full, spread):
    if share is None:
        return True
    return share < full - spread if word == "worse" else abs(share - full) <= spread


WRONG = {
    "WINDOW": [
        ("no window", window(lambda i, j, n: j <= i)),
        ("one too many", window(lambda i, j, n: (j <= i) & (i - j <= n))),
        ("one too few", window(lambda i, j, n: (j <= i) & (i - j < n - 1))),
        ("the future", window(lambda i, j, n: (j >= i) & (j - i < n))),
        ("segments", window(lambda i, j, n: (j <= i) & (i // n == j // n))),
        ("persistent tokens hidden", window(lambda i, j, n: (j <= i) & (i - j < n), first=False)),
        ("inverted", window(lambda i, j, n: (j > i) | (i - j >= n), first=False)),
        ("no persistent columns", lambda tokens, n, p: torch.ones(tokens, tokens).tril().triu(1 - n).bool()),
        ("persistent tokens slide out", lambda tokens, n, p: torch.ones(tokens, p + tokens).tril(p).triu(p + 1 - n)),
        ("error", window(lambda i, j, n: 1 / 0)),
    ],
    "GATE": [
        ("sigmoid on the read", gate(lambda a, b: a * torch.sigmoid(b))),
        ("no sigmoid", gate(lambda a, b: a * b)),
        ("sum", gate(lambda a, b: torch.sigmoid(a) + b)),
        ("tanh", gate(lambda a, b: torch.tanh(a) * b)),
        ("over tokens", gate(dim=0)),
        ("one eps, small", gate(eps_read=1e-6)),
        ("no eps", lambda y, read, a, b: F.rms_norm(y, a.shape, a).sigmoid() * F.rms_norm(read, b.shape, b)),
        ("eps swapped", gate(eps_y=1e-2, eps_read=1e-6)),
        ("scales swapped", lambda y, read, a, b: gate()(y, read, b, a)),
    ],
    "SURVIVES": [
        ("ignores the spread", survivors(lambda word, share, full, spread: fits(word, share, full, 0))),
        ("one suffices", survivors(fits, any)),
        ("same ignored", survivors(lambda word, *facts: word == "same" or fits(word, *facts))),
        (
            "better counts as same",
            survivors(
                lambda word, share, full, spread: (
                    (share is not None and share > full and word == "same") or fits(word, share, full, spread)
                )
            ),
        ),
        (
            "unmeasured contradicts",
            survivors(lambda word, share, *facts: share is not None and fits(word, share, *facts)),
        ),
        (
            "the refuted",
            lambda full, rows, spread, claims: list(set(claims) - set(survivors(fits)(full, rows, spread, claims))),
        ),
        ("all of them", lambda full, rows, spread, claims: list(claims)),
        ("error", lambda full, rows, spread, claims: [name for name in claims if rows["nothing"]]),
    ],
}


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = getattr(exercises, name).check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [getattr(exercises, name).check(answer) for _, answer in WRONG[name]]
    assert len({v.english for v in verdicts}) == len({v.japanese for v in verdicts}) == len(verdicts)


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("08")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    check = getattr(exercises, name).check
    assert check(run(stub, exercises)).outcome == "todo"
    assert check(run(solution, exercises)).outcome == "passed"


def test_every_exercise_stands_in_the_lesson():
    assert [param.values[0] for param in exercise_cells("08")] == list(WRONG)


@pytest.mark.parametrize(("tokens", "n", "persistent"), [(9, 4, 2), (11, 3, 5), (7, 1, 2), (5, 5, 3), (4, 6, 1)])
def test_the_mask_of_the_exercise_is_what_the_library_sees(tokens, n, persistent):
    """What a column holds is changed: it reaches the tokens whose row is open there, and no other.

    In more tokens than a window and in fewer, which the library computes in two ways.
    """
    random = torch.Generator().manual_seed(6)
    q, k, v = torch.randn(3, 1, 2, tokens, 4, generator=random, dtype=torch.float64)
    prefix = torch.randn(2, 1, 2, persistent, 4, generator=random, dtype=torch.float64)
    mask = exercises.WINDOW.truth(tokens, n, persistent)
    before = window_attention(q, (k,), (v,), tuple(prefix), n)
    for column in range(persistent + tokens):
        P, x = prefix.clone(), torch.stack((k, v))
        changed, place = (P, column) if column < persistent else (x, column - persistent)
        changed[..., place, :] += 1
        after = window_attention(q, (x[0],), (x[1],), tuple(P), n)
        for head in (after != before).any(-1)[0]:
            assert torch.equal(head, mask[:, column])


@pytest.mark.parametrize("kind", [MAC, MAG])
def test_the_gate_of_the_exercise_is_the_one_that_the_blocks_end_with(kind):
    block = kind(small_config(kind.__name__.lower())).double()
    draws.randomise(block, seed=3)
    calls = []
    block.combine.register_forward_hook(lambda _, inputs, output: calls.append((*inputs, output)))
    whole = block(torch.randn(1, 11, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0]
    y, read, output = (torch.cat(parts, dim=1)[0].detach() for parts in zip(*calls, strict=True))
    assert torch.equal(output, whole[0])
    norms = (block.combine.norm_attention, block.combine.norm_memory)
    assert [norm.eps for norm in norms] == [exercises.EPS_Y, exercises.EPS_READ]
    scales = [norm.weight.detach() for norm in norms]
    for answer in (exercises.GATE.truth, gate()):
        torch.testing.assert_close(answer(y, read, *scales), output, rtol=0, atol=1e-12)
