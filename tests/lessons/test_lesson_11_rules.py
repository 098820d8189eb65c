"""Lesson 11, one choice swapped: each rule is its equation, the table's claims hold, and the lab shows them."""

import re
from functools import partial
from itertools import pairwise
from math import prod

import pytest
import torch
import torch.nn.functional as F

from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.lessons.legible import problems
from tests.lessons.translated import left_in_english
from titans import DeepMemory, Gates, recurrent_scan
from titans.lesson.kit.host import speak
from titans.lesson.lesson_11 import lab as choice_lab
from titans.lesson.lesson_11 import rules, streams, trials
from titans.recurrence import Momentum
from titans.scan import Rule, Tokens

DIM, TOKENS = 5, 13
RULES = {
    "absolute": rules.AnotherLoss(rules.absolute),
    "huber": rules.AnotherLoss(rules.huber),
    "towards start": rules.TowardsStart(),
    "adam": rules.Adam(),
    "muon": rules.Muon(),
    "normalised": rules.Muon(1, rules.normalised),
    "window": rules.Window(3),
    "muon window": rules.Muon(3),
    "stale window": rules.StaleWindow(3),
}
each_rule = pytest.mark.parametrize("rule", RULES)


def problem(heads: int = 1) -> Tokens:
    generator = torch.Generator().manual_seed(3)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    q, k, v = F.normalize(draw(3, 2, heads, TOKENS, DIM), dim=-1)
    most = torch.tensor([0.3, 0.9, 0.2])[:, None, None, None]
    return Tokens(q, k, v, Gates(*(torch.rand(3, 2, heads, TOKENS, generator=generator, dtype=torch.float64) * most)))


# ---- Each rule is what its equation says -----------------------------------------------------------------------------


def delta(M, k, v):
    """The square's gradient, by hand."""
    return 2 * torch.outer(M @ k - v, k)


def by_singular_values(matrix):
    """Muon's direction: the quintic goes to each singular value by itself."""
    U, s, V = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return U @ s.diag() @ V


class ByHand:
    """Every rule again, for one row of a matrix memory, a token at a time, with all of the past at hand."""

    def __init__(self, rule, M):
        self.rule, self.start, self.M, self.S = rule, M, M, torch.zeros_like(M)
        self.pairs, self.gradients, self.etas = [], [], []

    def write(self, k, v, theta, eta, alpha):
        self.pairs.append((k, v))
        self.etas.append(eta)
        self.gradients.append(delta(self.M, k, v))
        M, S = getattr(self, self.rule.replace(" ", "_"))(k, v, theta, eta, alpha)
        self.M, self.S = M, S

    def plainly(self, u, theta, eta, alpha):
        S = eta * self.S - theta * u
        return (1 - alpha) * self.M + S, S

    def absolute(self, k, v, *gates):
        return self.plainly(torch.outer((self.M @ k - v).sign(), k), *gates)

    def huber(self, k, v, *gates):
        error = self.M @ k - v
        return self.plainly(2 * torch.outer(error * min(1.0, 0.5 / error.norm()), k), *gates)

    def towards_start(self, k, v, theta, eta, alpha):
        M, S = self.plainly(delta(self.M, k, v), theta, eta, alpha)
        return M + alpha * self.start, S

    def adam(self, k, v, theta, eta, alpha):
        """Weighted averages of all gradients so far, written out."""
        ends = range(len(self.etas))
        for_mean = [(1 - self.etas[i]) * prod(self.etas[i + 1 :]) for i in ends]
        for_square = [0.99 ** (len(ends) - 1 - i) for i in ends]
        mean = sum(w * u for w, u in zip(for_mean, self.gradients, strict=True)) / (sum(for_mean) + 1e-8)
        square = sum(w * u**2 for w, u in zip(for_square, self.gradients, strict=True)) / sum(for_square)
        return (1 - alpha) * self.M - theta * mean / (square.sqrt() + 1e-8), self.S

    def along(self, direction, u, theta, eta, alpha):
        S = eta * self.S + u
        return (1 - alpha) * self.M - theta * direction(S), S

    def last(self):
        return sum(delta(self.M, *pair) for pair in self.pairs[-3:])

    def muon(self, k, v, *gates):
        return self.along(by_singular_values, delta(self.M, k, v), *gates)

    def normalised(self, k, v, *gates):
        return self.along(lambda S: S / S.square().sum().sqrt(), delta(self.M, k, v), *gates)

    def window(self, k, v, *gates):
        return self.plainly(self.last(), *gates)

    def muon_window(self, k, v, *gates):
        return self.along(by_singular_values, self.last(), *gates)

    def stale_window(self, k, v, *gates):
        return self.plainly(sum(self.gradients[-3:]), *gates)


@each_rule
def test_each_rule_is_a_plain_loop(rule):
    memory, tokens = DeepMemory(DIM, depth=1).double(), problem()
    with torch.no_grad():
        memory.weights[0].normal_(generator=torch.Generator().manual_seed(0))
    y, _ = recurrent_scan(memory, memory.initial_state(2), *tokens, rule=RULES[rule])
    for row in range(2):
        hand = ByHand(rule, memory.weights[0][0].detach())
        for t in range(TOKENS):
            gates = [float(gate[row, 0, t]) for gate in tokens.gates]
            hand.write(tokens.k[row, 0, t], tokens.v[row, 0, t], *gates)
            torch.testing.assert_close(y[row, 0, t], hand.M @ tokens.q[row, 0, t], rtol=1e-10, atol=1e-10)


@each_rule
@pytest.mark.parametrize("depth", [1, 2])
def test_any_split_gives_the_same(rule, depth):
    """D10, with cuts inside chunks, for two heads and for a memory of one layer and of two."""
    torch.manual_seed(0)
    memory, tokens = DeepMemory(DIM, 2, depth=depth, expansion=2).double(), problem(heads=2)
    assert isinstance(RULES[rule], Rule)

    def scanned(*cuts):
        state, outputs = memory.initial_state(2), []
        for begin, end in pairwise((0, *cuts, TOKENS)):
            part = tokens.part(slice(begin, end))
            y, state = recurrent_scan(memory, state, *part, chunk_size=4, rule=RULES[rule])
            outputs.append(y)
        return [torch.cat(outputs, dim=2), *state.tensors().values()]

    whole = scanned()
    for cuts in ((1, 6), tuple(range(1, TOKENS))):
        for one, other in zip(whole, scanned(*cuts), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_signatures_tell_the_rules_apart():
    assert len({rule.signature for rule in RULES.values()} | {Momentum().signature}) == len(RULES) + 1


def test_hubers_loss_is_the_bound_on_the_surprise_where_keys_have_length_1():
    """D12: |2 e k^T| = 2 |e|, so to bound the surprise by 2 delta is to take Huber's loss."""
    memory, tokens = DeepMemory(DIM, depth=1).double(), problem()
    bounded, _ = recurrent_scan(memory, memory.initial_state(2), *tokens, rule=Momentum(max_surprise=1.0))
    by_loss, _ = recurrent_scan(memory, memory.initial_state(2), *tokens, rule=RULES["huber"])
    free, _ = recurrent_scan(memory, memory.initial_state(2), *tokens)
    torch.testing.assert_close(by_loss, bounded, rtol=1e-10, atol=1e-10)
    assert (bounded - free).abs().max() > 0.01


def test_muons_direction_has_singular_values_near_1():
    matrix = torch.randn(50, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, after = torch.linalg.svdvals(matrix), torch.linalg.svdvals(rules.orthogonal(matrix))
    regular = before[:, -1] > 0.02 * before[:, 0]
    assert regular.sum() > 25
    assert after[regular].min() > 0.6
    assert after.max() < 1.3


def test_without_momentum_muons_step_is_the_gradient_at_a_fixed_length():
    """A gradient of one pair has one singular value: orthogonal is normalised, but for a factor."""
    u = delta(torch.zeros(DIM, DIM, dtype=torch.float64), *problem().k[0, 0, :2])
    one, other = rules.orthogonal(u), rules.normalised(u)
    torch.testing.assert_close(one / one.norm(), other)


def test_products_of_a_key_are_as_long_as_the_key_and_overlap_less():
    k = problem().k
    torch.testing.assert_close(rules.products(k).norm(dim=-1), torch.ones_like(k[..., 0]))
    overlap, plain = (x @ x.mT for x in (rules.products(k), k))
    torch.testing.assert_close(overlap, (plain + plain.square()) / 2)


# ---- What the table says ---------------------------------------------------------------------------------------------


def median(name, make, **options):
    return trials.measured(name, make, **options).median


def beats(one, other, make):
    """In how many of the 7 streams."""
    return trials.measured(one, make).wins(trials.measured(other, make))


def test_the_tables_stars():
    """Who beats the default by a tenth in every stream, and who loses to it by as much."""
    stars = {"*": set(), "-": set()}
    for name in trials.CHOICES:
        for stream in streams.STREAMS:
            mark = trials.cell(name, stream)[-1]
            if mark in stars:
                stars[mark].add((name, stream))
    bounded, window = {"|e|", "Huber", "Muon", "Muon+window"}, {"window", "Muon+window"}
    assert stars["*"] == {
        *((name, "outlier") for name in bounded),
        ("to M_0", "known"),
        *((name, "scaled") for name in ("Adam", "deep", "polynomial", *window)),
        *((name, "once") for name in window),
        *((name, "plain") for name in ("window", "polynomial")),
        ("polynomial", "many"),
    }
    assert stars["-"] == {
        *((name, "plain") for name in ("|e|", "Huber", "Adam", "Muon", "Muon+window")),
        *((name, "known") for name in ("deep", "polynomial")),
        ("|e|", "scaled"),
        ("|e|", "noisy"),
        *((name, "drift") for name in ("|e|", "deep", "polynomial")),
    }


def test_plain_descent_is_in_the_grid_and_is_often_chosen():
    chosen = {name: trials.measured("default", make).gates for name, make in streams.STREAMS.items()}
    assert {name for name, (_, eta, _) in chosen.items() if eta == 0} == {"outlier", "known", "noisy", "drift"}


def test_without_outliers_hubers_loss_gains_nothing():
    with_them, without = streams.outliers, partial(streams.outliers, share=0.0)
    assert median("Huber", with_them) < 0.3 * median("default", with_them)
    assert beats("default", "Huber", without) == 7
    assert median("|e|", without) > 5 * median("default", without)


def test_a_falling_step_explains_a_part_of_what_the_absolute_loss_loses():
    steady, falling = (median("|e|", streams.plain, falling=falling) for falling in (False, True))
    assert falling < 0.75 * steady
    assert falling > 3 * median("default", streams.plain, falling=True)


def test_muons_gain_among_outliers_is_its_steps_fixed_length():
    assert median("Muon", streams.outliers) < 0.4 * median("default", streams.outliers)
    assert abs(median("normalised", streams.outliers) - median("Muon", streams.outliers)) < 0.05
    assert trials.measured("Muon", streams.outliers).gates[1] == 0


def test_forgetting_to_the_start_gains_where_there_is_knowledge_and_noise():
    assert beats("to M_0", "default", streams.knowledge) == 7
    assert trials.measured("default", streams.knowledge).gates == (0.003, 0.0, 0.0)  # writes next to nothing
    for make in (partial(streams.knowledge, known=False), partial(streams.knowledge, noise=0)):
        results = [trials.measured(name, make) for name in ("default", "to M_0")]
        torch.testing.assert_close(results[0].errors, results[1].errors)
    assert results[1].gates[2] == 0  # without noise nothing is forgotten


def test_adam_gains_where_the_axes_have_sizes_of_their_own():
    assert beats("Adam", "default", streams.scaled) == 7
    turned = partial(streams.scaled, rotated=True)
    gain, turned_gain = (median("default", make) - median("Adam", make) for make in (streams.scaled, turned))
    assert turned_gain < 0.25 * gain
    assert beats("default", "Adam", partial(streams.scaled, smallest=1.0)) == 7


def test_muon_gains_where_keys_share_a_direction_and_by_being_orthogonal():
    alike, apart = streams.once, partial(streams.once, shared=0.0)
    assert beats("Muon", "default", alike) == beats("Muon", "normalised", alike) == 7
    assert beats("Muon", "normalised", apart) == 0
    assert median("default", apart) - median("Muon", apart) < 0.2 * (median("default", alike) - median("Muon", alike))


def test_the_more_direction_keys_share_the_more_muon_gains():
    gains, bare = [], []
    for shared in (0.0, 1.0, 2.0, 3.0):
        make = partial(streams.once, shared=shared)
        gains.append(median("default", make) - median("Muon", make))
        bare.append(median("default", make) - median("normalised", make))
    assert gains[:3] == sorted(gains[:3])
    assert min(gains[2:]) > 5 * max(0.01, *bare[2:])


def test_the_window_gains_by_asking_again_now():
    for make in (streams.once, streams.scaled, streams.plain):
        assert beats("window", "default", make) == 7
        assert beats("window", "stale window", make) == 7
        assert median("stale window", make) > 0.95 * median("default", make)
    orthogonal = partial(streams.once, orthogonal=True)
    assert median("default", orthogonal) < 1e-10  # nothing is left to gain where pairs do not disturb each other
    assert median("window", orthogonal) < 1e-10


def test_to_be_told_again_helps_where_others_came_between_and_not_in_a_row():
    """What the window does, done to the default: in a row nothing is gained, in two rounds in every stream."""
    rounds, in_a_row = partial(streams.once, rounds=2), partial(streams.once, in_a_row=8)
    told_once = trials.measured("default", streams.once)
    assert median("default", in_a_row) > 0.98 * told_once.median
    assert trials.measured("default", rounds).wins(told_once) == 7
    assert median("default", rounds) < 0.95 * told_once.median
    assert median("window", in_a_row) > median("window", streams.once)  # where a window holds two pairs at most


def test_the_window_does_not_gain_from_noise():
    assert median("window", streams.noisy) > 0.95 * median("default", streams.noisy)


def test_muon_over_a_window_gains_where_keys_share_a_direction_and_loses_where_not():
    alike, apart = streams.once, partial(streams.once, shared=0.0)
    assert beats("Muon+window", "window", alike) == beats("Muon+window", "normalised+window", alike) == 7
    assert median("Muon+window", apart) > 1.1 * median("window", apart)


def test_polynomial_keys_hold_more_pairs_by_products_and_say_less_of_new_keys():
    assert median("polynomial", streams.many) < 0.3 * median("default", streams.many)
    assert median("mixtures", streams.many) > 0.95 * median("default", streams.many)
    told = partial(streams.drifting, new=False)
    assert beats("default", "polynomial", streams.drifting) == 7
    assert median("polynomial", told) < 1.05 * median("default", told)


@pytest.mark.parametrize("name", list(trials.CHOICES))
def test_a_rule_or_a_memory_of_the_readers_is_told_from_every_other(name):
    """The default is told from Muon and so on; forgetting to M_0 too, since M_0 is not zero there."""
    choice = trials.CHOICES[name]
    mine = choice.memory() if name in ("deep", "polynomial") else choice.rule
    assert trials.same(mine, name)
    others = [other for other in trials.CHOICES if other not in (name, "deep", "polynomial")]
    if name in ("deep", "polynomial"):
        assert not trials.same(mine, "polynomial" if name == "deep" else "deep")
    else:
        assert [other for other in others if trials.same(mine, other)] == []


# ---- The lab ---------------------------------------------------------------------------------------------------------


def test_the_lab_ends_where_the_table_measures():
    for name in trials.CHOICES:
        found = trials.measured(name, streams.outliers)
        told = choice_lab.told(name, "outlier", found.gates)
        assert float(told.end.mean()) == pytest.approx(float(found.errors[0]), rel=1e-6)


def test_at_the_largest_step_only_bounded_steps_stay_on_the_chart():
    def off(choice):
        told = [choice_lab.told(choice, stream, (1.0, 0.0, 0.0)) for stream in streams.STREAMS]
        return [sum(int((errors > choice_lab.TOP).sum()) for errors in one) for one in told]

    assert max(off("Huber") + off("Muon")) < 10
    assert all(max(off(choice)) > 20 for choice in trials.CHOICES if choice not in ("Huber", "Muon"))


def test_the_default_among_outliers_is_quiet_or_wild():
    """With its own best step it hardly learns; with that of Huber's loss it leaves the chart."""
    own, other = (choice_lab.told("default", "outlier", (theta, 0.0, 0.0)) for theta in (0.03, 0.5))
    assert own.before.median() > 0.9
    assert own.before.max() < choice_lab.TOP
    assert (other.before > choice_lab.TOP).sum() > 20


def test_before_its_write_an_empty_memory_is_wrong_by_all_of_the_value():
    told = choice_lab.told("default", "plain", (0.5, 0.0, 0.0))
    assert float(told.before[0]) == 1
    still = choice_lab.told("default", "plain", (0.003, 0.0, 0.0))
    assert told.before[-8:].mean() < 0.2 * still.before[-8:].mean()


def test_every_choice_and_stream_has_a_name():
    assert list(choice_lab.STREAM_NAMES) == list(streams.STREAMS)
    assert ["default", *choice_lab.CHOICE_NAMES] == list(trials.CHOICES)


def test_the_lab_speaks_both_languages():
    check_words(choice_lab.choice_lab)


def test_every_control_of_the_lab_changes_its_picture():
    lab = choice_lab.choice_lab()
    others = {"stream": "many", "choice": "Adam", "theta": 0.1, "eta": 0.5, "alpha": 0.1, "best": True}
    for name, other in others.items():
        before, start = lab.png, lab.controls[name].value
        lab.controls[name].value = other
        assert lab.png != before, name
        lab.controls[name].value = start
        assert lab.png == before


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("stream", streams.STREAMS)
def test_every_stream_can_be_read_at_the_smallest_and_the_largest_step(stream, language):
    speak(language)
    drawing = choice_lab.ChoiceDrawing()
    for choice, theta in zip(choice_lab.CHOICE_NAMES, (0.003, 1.0) * 5, strict=False):
        drawing.draw(stream, choice, theta, 0.9, 0.0, best=False)
        assert [*problems(drawing.figure), *left_in_english(drawing.figure)] == []


def test_the_stills_show_what_their_words_say():
    lab = choice_lab.choice_lab()
    shown = []
    for state in lab.states:
        for name in ("default", state["choice"]):
            gates = trials.measured(name, streams.STREAMS[state["stream"]]).gates
            shown.append(float(choice_lab.told(name, state["stream"], gates).end.mean()))
    written = [float(number) for number in re.findall(r"0\.\d\d", lab.alt)]
    assert written == pytest.approx([*shown[:4], shown[5], shown[4]], abs=0.005)


def test_a_failing_draw_is_not_swallowed(monkeypatch):
    check_failing_draw(choice_lab.choice_lab(), "theta", 0.1, monkeypatch)


def test_the_labs_strip_shows_what_its_controls_show():
    check_strip(choice_lab.choice_lab())
