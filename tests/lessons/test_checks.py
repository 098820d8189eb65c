"""Every check of every lesson: right answers written in many ways pass, wrong ones never do, and no answer, however
odd, meets a traceback.

For a new lesson: add its number to LESSONS, and right answers, written at least twice, to ANSWERS. All else is
generated. Wrong answers as a reader might write them stand in the lesson's own file.
"""

import itertools
import math
import re
from collections import Counter
from fractions import Fraction
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from titans.lesson.kit.exercise import Exercise, Mistake, seed_of, values

torch.set_num_threads(1)
LESSONS = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11")
ROOMS = {lesson: import_module(f"titans.lesson.lesson_{lesson}.exercises") for lesson in LESSONS}
EXERCISES = {
    f"{lesson}.{name}": value
    for lesson, room in ROOMS.items()
    for name, value in vars(room).items()
    if isinstance(value, Exercise)
}
SCHEDULE = ROOMS["03"].check_schedule


# ---- Right answers, each written at least twice: loops, einsum, in place ------------------------


def gelu_slope(h):
    return torch.ops.aten.gelu_backward(torch.ones_like(h), h)


def gradient(W1, W2, k, v):
    h = W1 @ k
    e = 2 * (W2 @ F.gelu(h) - v)
    return torch.outer(gelu_slope(h) * (W2.T @ e), k), torch.outer(e, F.gelu(h))


def gradient_in_place(W1, W2, k, v):
    h = torch.einsum("hd,d->h", W1, k)
    v.neg_().add_(W2 @ F.gelu(h)).mul_(2)
    slope = 0.5 * (1 + torch.erf(h / 2**0.5)) + h * torch.exp(-h * h / 2) / math.sqrt(2 * math.pi)
    last = torch.einsum("o,h->oh", v, F.gelu(h))
    return [torch.einsum("h,d->hd", slope * torch.einsum("oh,o->h", W2, v), k), last]


def gradient_by_autograd(W1, W2, k, v):
    W1.requires_grad_()
    W2.requires_grad_()
    (W2 @ F.gelu(W1 @ k) - v).square().sum().backward()
    return W1.grad, W2.grad


def update(M, S, k, v, theta, eta, alpha):
    S = eta * S - theta * torch.outer(2 * (M @ k - v), k)
    return (1 - alpha) * M + S, S


def update_in_place(M, S, k, v, theta, eta, alpha):
    S *= eta
    S -= theta * 2 * torch.einsum("i,j->ij", M @ k - v, k)
    M *= 1 - alpha
    M += S
    return M, S


def update_in_loops(M, S, k, v, theta, eta, alpha):
    d = len(k)
    error = [sum(M[i, j] * k[j] for j in range(d)) - v[i] for i in range(d)]
    S = [[eta * S[i, j] - theta * 2 * error[i] * k[j] for j in range(d)] for i in range(d)]
    return [[(1 - alpha) * M[i, j] + S[i][j] for j in range(d)] for i in range(d)], S


def meta_gradient(m, k1, v1, k2, v2, theta, q, a):
    u1 = 2 * (m * k1 - v1) * k1
    M1 = m - theta * u1
    u2 = 2 * (M1 * k2 - v2) * k2
    return 2 * ((M1 - theta * u2) * q - a) * q * (-u1 * (1 - 2 * theta * k2**2) - u2)


def meta_gradient_by_autograd(m, k1, v1, k2, v2, theta, q, a):
    theta = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    M1 = m - theta * 2 * (m * k1 - v1) * k1
    M2 = M1 - theta * 2 * (M1 * k2 - v2) * k2
    ((M2 * q - a) ** 2).backward()
    return theta.grad


def reads(M, K, V, Q, theta):
    found = []
    for k, v, q in zip(K, V, Q, strict=True):
        M = M - theta * torch.outer(2 * (M @ k - v), k)
        found.append(M @ q)
    return torch.stack(found)


def reads_in_place(M, K, V, Q, theta):
    for t in range(len(K)):
        M -= theta * torch.outer(2 * (M @ K[t] - V[t]), K[t])
        Q[t] = M @ Q[t]
    return Q


def reads_as_rows(M, K, V, Q, theta):
    M = M.numpy()
    for k, v, q in zip(K.numpy(), V.numpy(), Q.numpy(), strict=True):
        M += 2 * theta * np.outer(v - M @ k, k)
        yield M @ q


def share(q, ours, theirs):
    Z_P, Z_x = (torch.exp(keys @ q / len(q) ** 0.5).sum() for keys in (ours, theirs))
    return Z_P / (Z_P + Z_x)


def share_in_place(q, ours, theirs):
    q /= math.sqrt(len(q))
    return torch.softmax(torch.cat((ours, theirs)) @ q, 0)[: len(ours)].sum()


def network(x, keys, values):
    return (x @ keys.T).softmax(-1) @ values


def network_in_loops(x, keys, values):
    rows = []
    for token in x:
        weights = [math.exp(float(token @ key)) for key in keys]
        rows.append(sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights))
    return rows


def reach(layers, persistent, window):
    return sum(window - 1 for _ in range(layers))


def reach_by_matrices(layers, persistent, window):
    tokens = layers * window
    sees = torch.ones(tokens, tokens, dtype=torch.float64).tril().triu(1 - window)
    return int((torch.linalg.matrix_power(sees, layers)[-1] > 0).sum()) - 1


def triangles(tokens, persistent):
    past = torch.ones(tokens, tokens).tril().bool()
    return torch.cat((torch.ones(tokens, persistent).bool(), past, past), 1)


def triangles_in_lists(tokens, persistent):
    return [[1] * persistent + 2 * [int(j <= i) for j in range(tokens)] for i in range(tokens)]


def stream(call, pieces):
    state, found = None, []
    for piece in pieces:
        y, state = call(piece, state)
        found.append(y)
    return torch.cat(found, 1)


def stream_emptying_the_list(call, pieces):
    y, state = call(pieces.pop(0))
    while pieces:
        more, state = call(pieces.pop(0), state)
        y = torch.cat((y, more), 1)
    return y


def numbers(batch, heads, dim, depth, expansion):
    widths = [dim // heads] + [dim // heads * expansion] * (depth - 1) + [dim // heads]
    return 3 * batch * heads * sum(a * b for a, b in itertools.pairwise(widths))


def numbers_by_cases(batch, heads, dim, depth, expansion):
    d = dim / heads
    inside = d * d if depth == 1 else 2 * expansion * d**2 + (depth - 2) * (expansion * d) ** 2
    return batch * heads * inside * 3


def slope(theta, alpha, tokens):
    return 2 * theta * (1 - alpha - 2 * theta) ** (tokens - 1)


def slope_by_autograd(theta, alpha, tokens):
    x, m = torch.tensor(1.0, requires_grad=True), 0.0
    for t in range(tokens):
        m = (1 - alpha) * m - theta * 2 * (m - (x if t == 0 else 0.5))
    m.backward()
    return x.grad


def slope_in_a_loop(theta, alpha, tokens):
    effect = 2 * theta
    for _ in range(tokens - 1):
        effect *= 1 - alpha - 2 * theta
    return effect


def interference_in_place(k, v, j):
    v[j] = 0
    return (k @ k[j]) @ v


def interference_in_a_loop(k, v, j):
    return sum((k[i] @ k[j]) * v[i] for i in range(len(k)) if i != j)


def errors_one_by_one(q, k, v):
    for t in range(len(k)):
        v[t] -= (k[:t] @ k[t]) @ v[:t]
    return (q @ k.T).tril() @ v


def errors_at_once(q, k, v):
    lower = torch.eye(len(k)) + (k @ k.T).tril(-1)
    return (q @ k.T).tril() @ torch.linalg.solve_triangular(lower, v, upper=False)


def shares_as_products(theta, eta, alpha):
    def through(keep):
        tokens = range(len(keep))
        return torch.stack([torch.stack([keep[i + 1 : t + 1].prod() * (i <= t) for i in tokens]) for t in tokens])

    return through(1 - alpha) @ through(eta) * theta


def shares_by_recursion(theta, eta, alpha):
    tokens = range(len(theta))
    G = [[0.0] * len(theta) for _ in tokens]
    for i in tokens:
        S = float(theta[i])
        for t in range(i, len(theta)):
            S *= float(eta[t]) if t > i else 1.0
            G[t][i] = (1 - float(alpha[t])) * (G[t - 1][i] if t > i else 0.0) + S
    return G


def answers_at_once(W, q, k, v, G, beta):
    return beta[:, None] * (q @ W.T) - (G * (q @ k.T)) @ (2 * (k @ W.T - v))


def answers_by_einsum(W, q, k, v, G, beta):
    v -= torch.einsum("od,td->to", W, k)
    return torch.einsum("t,od,td->to", beta, W, q) + 2 * torch.einsum("ti,td,id,io->to", G, q, k, v)


def count_orders(n):
    return sum(Fraction(1, left) for left in range(1, n + 1)) / n


def crossed(told, filler, size):
    crossings = 0
    for place in range(told, told + filler + 1):
        crossings += place % size == 0
    return crossings


def seen_one_by_one(t, size, persistent):
    first = t
    while first % size:
        first -= 1
    return persistent + 2 * len(range(first, t + 1))


def gate(y, read, scale_y, scale_read):
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    read = read / (read.square().mean(-1, keepdim=True) + 1e-2).sqrt()
    return torch.sigmoid(y * scale_y) * read * scale_read


def gate_in_place(y, read, scale_y, scale_read):
    for x, scale, eps in ((y, scale_y, 1e-6), (read, scale_read, 1e-2)):
        x *= scale * torch.rsqrt(torch.einsum("td,td->t", x, x) / len(scale) + eps)[:, None]
    return read / (1 + torch.exp(-y))


def gate_by_the_library(y, read, scale_y, scale_read):
    dim = (y.shape[1],)
    return F.rms_norm(y, dim, scale_y, 1e-6).sigmoid() * F.rms_norm(read, dim, scale_read, 1e-2)


def window_mask(tokens, window, persistent):
    band = torch.ones(tokens, tokens).tril().triu(1 - window).bool()
    return torch.cat((torch.ones(tokens, persistent).bool(), band), 1)


def window_mask_in_lists(tokens, window, persistent):
    return [[True] * persistent + [i - window < j <= i for j in range(tokens)] for i in range(tokens)]


def stands(full, rows, spread, predicted):
    for part, said in predicted.items():
        if part in rows:
            worse, better = rows[part] < full - spread, rows[part] > full + spread
            if (said == "worse" and not worse) or (said == "same" and (worse or better)):
                return False
    return True


def survivors(full, rows, spread, claims):
    return [name for name, predicted in claims.items() if stands(full, rows, spread, predicted)]


def survivors_in_a_set(full, rows, spread, claims):
    left = set(claims)
    for name, predicted in claims.items():
        for part in predicted.keys() & rows.keys():
            change = rows[part] - full
            if (predicted[part] == "worse") != (change < -spread) or change > spread:
                left.discard(name)
    return left


def surviving(full, rows, spread, claims):
    return [stands(full, rows, spread, predicted) for predicted in claims.values()]


def surviving_by_names(*case):
    return torch.tensor([name in survivors_in_a_set(*case) for name in case[-1]])


def bits(logits, tokens):
    return -logits.log_softmax(-1)[torch.arange(len(tokens) - 1), tokens[1:]] / math.log(2)


def bits_in_a_loop(logits, tokens):
    found = []
    for row, byte in zip(logits[:-1], tokens[1:], strict=True):
        row -= row.max()
        found.append(torch.log2(row.exp().sum() / row[byte].exp()))
    return torch.stack(found)


def bits_by_numpy(logits, tokens):
    row, byte = logits.numpy()[:-1], tokens.numpy()[1:]
    return np.logaddexp2.reduce(row / np.log(2), axis=1) - row[np.arange(len(byte)), byte] / np.log(2)


def by_memory(text, bits_on, bits_off, n):
    saved = Counter()
    for word in re.finditer(r"\w+", text):
        first, end = word.span()
        saved[word[0]] += (bits_off - bits_on)[max(first - 1, 0) : end - 1].sum().item()
    return [word for word, _ in saved.most_common(n)]


def by_memory_byte_by_byte(text, bits_on, bits_off, n):
    saved, word = {}, ""
    costs = [0.0, *(bits_off - bits_on).tolist(), 0.0]
    for place, letter in enumerate(text + " "):
        if letter.isalnum() or letter == "_":
            word += letter
            continue
        if word:
            saved[word] = saved.get(word, 0) + sum(costs[place - len(word) : place])
        word = ""
    return set(sorted(saved, key=saved.get)[-n:])


def marked(find):
    """Which names of the text, in its order, are found."""

    def mark(text, *case):
        found = find(text, *case)
        return [word in found for word in dict.fromkeys(re.findall(r"\w+", text))]

    return mark


def calm(token):
    return (0.0 if token == 54 else 0.25), 0.0, 0.0


def calm_then_still(token):
    return (0.4 if token < 54 else 0), 0, 0


def gated_delta(beta, alpha, v):
    keep = 1 - alpha
    return beta * keep / 2, alpha, v / keep[:, None]


def gated_delta_in_place(beta, alpha, v):
    v /= (1 - alpha).unsqueeze(-1)
    beta *= 0.5 - alpha / 2
    return beta, alpha, v


def gated_delta_token_by_token(beta, alpha, v):
    theta = [0.5 * b * (1 - a) for b, a in zip(beta, alpha, strict=True)]
    values = [value * b / (2 * th) for value, b, th in zip(v, beta, theta, strict=True)]
    return torch.stack(theta), alpha, torch.stack(values)


ANSWERS = {
    "00.CROSSING_OFF": [lambda n: sum(1 / i for i in range(1, n + 1)) / n, count_orders],
    "00.SEGMENTS_BETWEEN": [lambda told, filler, size: (told + filler) // size - (told - 1) // size, crossed],
    "01.INTERFERENCE": [interference_in_place, interference_in_a_loop],
    "01.EXACT_STEP": [lambda k: 1 / (k @ k), lambda k: k.norm() ** -2],
    "01.DELTA_AS_ATTENTION": [errors_one_by_one, errors_at_once],
    "05.MASK": [shares_as_products, shares_by_recursion],
    "05.ANSWERS": [answers_at_once, answers_by_einsum],
    "04.META_GRADIENT": [meta_gradient, meta_gradient_by_autograd],
    "04.FIRST_MEMORY": [
        lambda k, v: torch.linalg.lstsq(k, v).solution.T,
        lambda k, v: np.linalg.solve((k.T @ k).numpy(), (k.T @ v).numpy()).T,
    ],
    "05.LARGEST_STEP": [
        lambda k: 1 / torch.linalg.eigvalsh(k.T @ k).max(),
        lambda k: np.linalg.svd(k.numpy())[1][0] ** -2,
    ],
    "02.ONE_WRITE": [
        lambda k: 1 / (2 * (k @ k)),
        lambda k: 0.5 / sum(x * x for x in k),
        lambda k: k.pow_(2).sum() ** -1 / 2,
    ],
    "02.HAND_GRADIENT": [gradient, gradient_in_place, gradient_by_autograd],
    "03.HALF_LIFE": [lambda n: 1 - 0.5 ** (1 / n), lambda n: -math.expm1(-math.log(2) / n)],
    "03.UPDATE": [update, update_in_place, update_in_loops],
    "06.SHARE": [share, share_in_place],
    "06.FEED_FORWARD": [network, network_in_loops],
    "06.REACH": [reach, reach_by_matrices, lambda layers, persistent, window: layers * window - layers],
    "07.SEES": [lambda t, size, persistent: persistent + 2 * (t % size + 1), seen_one_by_one],
    "07.MASK": [triangles, triangles_in_lists],
    "07.WRITE_AND_READ": [reads, reads_in_place, lambda *case: list(reads_as_rows(*case))],
    "08.GATE": [gate, gate_in_place, gate_by_the_library],
    "08.WINDOW": [window_mask, window_mask_in_lists],
    "08.SURVIVES": [surviving, surviving_by_names],
    "11.GATED_DELTA": [gated_delta, gated_delta_in_place, gated_delta_token_by_token],
    "09.STREAM": [stream, stream_emptying_the_list],
    "09.STATE_NUMBERS": [numbers, numbers_by_cases],
    "09.SLOPE": [slope, slope_in_a_loop, slope_by_autograd],
    "10.BITS": [bits, bits_in_a_loop, bits_by_numpy],
    "10.BY_MEMORY": [marked(by_memory), marked(by_memory_byte_by_byte)],
    "03.check_schedule": [calm, calm_then_still],
}


# ---- The same answer in other clothes ------------------------------------------------------------


def each(change):
    """Change every tensor or number that comes back, in tuples (and lists of many values) too."""

    def wrapped(value):
        return tuple(map(wrapped, value)) if isinstance(value, tuple) else change(value)

    return wrapped


def tensor(value):
    return values(value, 1)[0]


def single(value):
    return tensor(value).float()


CLOTHES = {
    "as it is": lambda value: value,
    "float32": each(single),
    "numpy": each(lambda value: tensor(value).numpy()),
    "numpy in float32": each(lambda value: single(value).numpy()),
    "numpy's own numbers": each(lambda value: tensor(value).numpy()[()]),
    "lists": each(lambda value: tensor(value).tolist()),
    "rows in a tuple": each(lambda value: tuple(tensor(value)) if tensor(value).ndim else float(tensor(value))),
    "rows in a list": each(lambda value: list(tensor(value)) if tensor(value).ndim else tensor(value)),
    "numpy's rows": each(lambda value: list(tensor(value).numpy()) if tensor(value).ndim else float(tensor(value))),
    "a gradient attached": each(lambda value: tensor(value).requires_grad_() * 1),
    "a list of values": lambda value: list(value) if isinstance(value, tuple) else value,
    "not contiguous": each(lambda value: tensor(value).T.contiguous().T if tensor(value).ndim == 2 else tensor(value)),
}


def dressed(answer, clothes):
    """The answer with its results in these clothes; several values stay several."""
    several = isinstance(answer, partial)

    def wear(*case):
        found = answer(*case)
        return clothes(tuple(found) if several else found)

    return wear


def check_of(name):
    return SCHEDULE if name.endswith("check_schedule") else EXERCISES[name].check


def how_many(name):
    if name.endswith("check_schedule"):
        return 3
    exercise = EXERCISES[name]
    return len(values(exercise.truth(*exercise.drawn(0)[0])))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_is_right_however_it_is_written(name):
    tried = 0
    for answer, (clothes, change) in itertools.product(ANSWERS[name], CLOTHES.items()):
        answer = partial(answer) if how_many(name) > 1 else answer
        verdict = check_of(name)(dressed(answer, change))
        assert verdict.outcome == "passed", (clothes, verdict)
        tried += 1
    assert tried >= 16


@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_passes_whatever_is_drawn_and_with_gradients_off(name):
    for answer in ANSWERS[name]:
        with torch.no_grad():
            assert check_of(name)(answer).outcome == "passed"
    if name in EXERCISES:
        exercise = EXERCISES[name]
        for seed in range(8):
            fixed = exercise._replace(cases=partial(exercise.drawn, seed))
            assert {fixed.check(answer).outcome for answer in ANSWERS[name]} == {"passed"}


# ---- Slips -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXERCISES)
def test_every_slip_is_told_from_the_truth_and_from_the_others_whatever_is_drawn(name):
    exercise = EXERCISES[name]
    assert len(exercise.mistakes) >= 6
    for seed in range(6):
        fixed = exercise._replace(cases=partial(exercise.drawn, seed))
        assert [fixed.check(slip.answer).outcome for slip in exercise.mistakes.values()] == list(exercise.mistakes)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_slip_in_float32_or_numpy_has_its_name_too(name):
    exercise = EXERCISES[name]
    for (slip, mistake), clothes in itertools.product(exercise.mistakes.items(), ("float32", "numpy", "lists")):
        answer = partial(mistake.answer) if how_many(name) > 1 else mistake.answer
        assert exercise.check(dressed(answer, CLOTHES[clothes])).outcome == slip, clothes


# ---- Odd answers ------------------------------------------------------------------------------------


def first_only(answer):
    calls = []

    def wrapped(*case):
        calls.append(case)
        return answer(*case) if len(calls) == 1 else 0.0

    return wrapped


def spoiled(number):
    """A right answer with one number replaced."""

    def change(value):
        if isinstance(value, tuple):
            return (change(value[0]), *value[1:])
        changed = tensor(value).clone()
        changed.view(-1)[0] = number
        return changed

    return change


class Thing:
    pass


ODD = {
    "nothing": lambda right: None,
    "type": lambda right: "0.5",
    "type ": lambda right: Thing(),
    "type  ": lambda right: {"answer": right},
    "type   ": lambda right: lambda: right,
    "type    ": lambda right: {0.5},
    "type     ": lambda right: iter([0.5]),
    "type      ": lambda right: torch.tensor(1j),
    "type       ": lambda right: float,
    "type        ": lambda right: b"1",
    "type          ": lambda right: np.array(1j),
    "todo": lambda right: ...,
    "todo ": lambda right: (..., ...),
    "todo  ": lambda right: [[...]],
    "not finite": spoiled(math.nan),
    "not finite ": spoiled(math.inf),
    "not finite  ": spoiled(-math.inf),
    "error": lambda right: 1 / 0,
    "error ": lambda right: not_defined,  # noqa: F821
    "error  ": lambda right: torch.ones(2) @ torch.ones(3),
    "error   ": lambda right: [][0],
}
COUNTS_OR_SHAPES = {
    "numpy's text": lambda right: np.array(["a"]),
    "empty list": lambda right: [],
    "empty tuple": lambda right: (),
    "empty tensor": lambda right: torch.zeros(0),
    "one in a list": lambda right: [right],
    "one in a tuple": lambda right: (right,),
    "twice": lambda right: (right, right),
    "ragged": lambda right: [[0.5, 1.0], [0.5]],
    "ragged tensors": lambda right: [torch.ones(2), torch.ones(3)],
    "with something": lambda right: (right, "state"),
    "with nothing": lambda right: (right, None),
    "one dimension more": lambda right: tensor(right if not isinstance(right, tuple) else right[0])[None],
    "deep": lambda right: [[[[0.5]]]],
    "four dimensions": lambda right: torch.ones(2, 3, 2, 3),
    "a constant": lambda right: 0.5,
    "zero": lambda right: 0,
    "true": lambda right: True,
    "huge": lambda right: 10**400,
    "random": lambda right: torch.rand(()),
}
FRIENDLY = {"shape", "count", "ragged", "type", "nothing", "different", "not finite", "near", "slow", "range"}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_has_a_sentence_of_its_own(name):
    answer, sentences = ANSWERS[name][0], {}
    answer = partial(answer) if how_many(name) > 1 else answer
    for outcome, odd in ODD.items():
        verdict = check_of(name)(dressed(answer, odd))
        assert verdict.outcome == outcome.strip(), (outcome, verdict)
        assert re.search("[ぁ-ん]", verdict.japanese)
        sentences[verdict.outcome] = verdict.english
    assert len(set(sentences.values())) == 5
    slips = set(EXERCISES[name].mistakes) if name in EXERCISES else {"early pair", "believes the lie"}
    for odd, change in COUNTS_OR_SHAPES.items():
        verdict = check_of(name)(dressed(answer, change))
        assert verdict.outcome in FRIENDLY | slips, (odd, verdict)
        assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_function_is_refused(name):
    for thing in (0.5, None, "answer", torch.ones(2), ...):
        assert check_of(name)(thing).outcome == "not a function"
    assert check_of(name)(lambda: 0.5).outcome == "error"


@pytest.mark.parametrize("name", EXERCISES)
def test_right_in_the_first_case_alone_is_not_right(name):
    assert EXERCISES[name].check(first_only(ANSWERS[name][0])).outcome != "passed"


@pytest.mark.parametrize("name", [name for name in EXERCISES if name != "09.STREAM"])
def test_a_table_of_the_cases_fails(name):
    """It is another function, and meets other cases."""
    exercise, answer = EXERCISES[name], ANSWERS[name][0]

    def written(case):
        return repr([part.tolist() if isinstance(part, torch.Tensor) else part for part in case])

    def learner(*case):
        return answer(*case)

    table = {written(case): answer(*case) for case in exercise.drawn(seed_of(learner))}

    def from_the_table(*case):
        return table.get(written(case), 0.5)

    assert exercise.check(from_the_table).outcome != "passed"
    assert exercise.check(learner) == exercise.check(learner)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_check_draws_every_size_anew(name):
    exercise = EXERCISES[name]
    drawn = [exercise.drawn(seed) for seed in range(2)]
    sizes = [
        [
            values(part)[0].shape if not isinstance(part, list | dict | str) and not callable(part) else len(part)
            for part in case
            if not callable(part)
        ]
        for cases in drawn
        for case in cases
    ]
    written = [repr(case) for cases in drawn for case in cases]
    assert len(set(written)) > len(drawn[0]) >= 2
    assert sizes


# ---- What the engine does with arguments, and what it says -------------------------------------------

DOUBLE = Exercise(
    lambda: [(torch.ones(2, dtype=torch.float64), [torch.ones(1), [2.0]])],
    lambda x, rest: 2 * x,
    {"three": Mistake(lambda x, rest: 3 * x, "Three times.", "3倍です。")},
    "Correct.",
    "正解です。",
)


def test_changed_arguments_reach_neither_truth_nor_slips():
    def destroys(x, rest):
        rest[0].zero_()
        rest[1].clear()
        rest.clear()
        return x.mul_(3)

    assert DOUBLE.check(destroys).outcome == "three"
    assert DOUBLE.check(lambda x, rest: x.add_(x)).outcome == "passed"


def test_a_slip_that_divides_by_zero_does_not_speak_for_the_answer():
    slips = {"infinite": Mistake(lambda x, rest: x * math.inf, "Infinite.", "無限大です。"), **DOUBLE.mistakes}
    assert DOUBLE._replace(mistakes=slips).check(lambda x, rest: 3 * x).outcome == "three"
    assert DOUBLE._replace(mistakes=slips).check(lambda x, rest: 4 * x).outcome == "different"


def test_a_buffer_that_is_used_again_is_read_at_once():
    buffer = torch.zeros((), dtype=torch.float64)
    assert EXERCISES["03.HALF_LIFE"].check(lambda n: buffer.fill_(1 - 0.5 ** (1 / n))).outcome == "passed"


def test_the_precision_of_float32_is_named():
    verdict = EXERCISES["03.HALF_LIFE"].check(lambda n: torch.tensor(1 - 0.5 ** (1 / n), dtype=torch.float32))
    assert verdict.outcome == "passed"
    assert "float32" in verdict.english
    assert "float32" in verdict.japanese


def test_a_rounded_answer_is_near():
    assert EXERCISES["03.HALF_LIFE"].check(lambda n: round(1 - 0.5 ** (1 / n), 3)).outcome in ("near", "different")
    assert EXERCISES["09.SLOPE"].check(lambda *case: slope(*case) * 1.001).outcome == "near"


@pytest.mark.parametrize(
    ("name", "answer", "pattern"),
    [
        (
            "07.SEES",
            lambda t, segment_len, persistent: 7,
            r"t = \d+, segment_len = \d+, persistent = \d+: yours 7, right \d+",
        ),
        ("00.CROSSING_OFF", lambda n: 0.41, r"n = \d: yours 0\.41, right [\d.]+"),
        ("02.ONE_WRITE", lambda k: 0.3, r"k = \[.*\]: yours 0\.3, right [\d.]+"),
        ("03.UPDATE", lambda M, S, *rest: (M, update(M, S, *rest)[1]), "value 1 of 2: the largest difference"),
        (
            "06.REACH",
            lambda layers, persistent, window: 1,
            r"layers = \d, persistent = \d, window = \d: yours 1, right \d+",
        ),
        (
            "07.MASK",
            lambda n, p: torch.cat((triangles(n, p)[:, :-1], torch.zeros(n, 1)), 1),
            r"looks at x_\d\) is False",
        ),
        ("02.HAND_GRADIENT", lambda *case: tuple(part.T for part in gradient(*case)), "outer product"),
        ("07.WRITE_AND_READ", lambda M, K, *rest: K[:1], r"The shape is \[1, \d\], and should be \[\d, \d\]\.$"),
        ("09.STREAM", lambda call, pieces: call(pieces[0]), "answers y alone"),
        ("03.UPDATE", lambda *case: torch.zeros(len(case[2]), len(case[2])) @ case[2], "float64"),
        ("00.CROSSING_OFF", lambda n: [0.5], "the number itself"),
    ],
)
def test_what_a_check_says(name, answer, pattern):
    assert re.search(pattern, check_of(name)(answer).english), check_of(name)(answer)


def test_hints_stay_where_they_belong():
    for name, exercise in EXERCISES.items():
        verdict = exercise.check(lambda *case: torch.ones(2, 3, 2, 3))
        assert "outer product" not in verdict.english, (name, verdict)


@pytest.mark.parametrize(
    ("name", "answer", "seeds"),
    [
        ("08.SURVIVES", survivors, 20),
        ("08.SURVIVES", survivors_in_a_set, 20),
        ("08.SURVIVES", lambda *case: tuple(survivors(*case)[::-1]), 20),
        ("08.SURVIVES", surviving, 20),
        ("10.BY_MEMORY", by_memory, 4),
        ("10.BY_MEMORY", by_memory_byte_by_byte, 4),
        ("10.BY_MEMORY", lambda *case: tuple(by_memory(*case)[::-1]), 4),
    ],
)
def test_names_may_come_in_any_order(name, answer, seeds):
    exercise = EXERCISES[name]
    for seed in range(seeds):
        assert exercise._replace(cases=partial(exercise.drawn, seed)).check(answer).outcome == "passed"


@pytest.mark.parametrize(
    ("answer", "outcome", "pattern"),
    [
        (
            lambda *case: [],
            "different",
            r"'[A-E]' belongs in the list: full = 0\.\d+, spread = .*claims\['[A-E]'\] = {",
        ),
        (lambda *case: survivors(*case)[:1], "different", "belongs in the list"),
        (lambda *case: "A", "type", r"should return a list of names, and returned an object of type str\.$"),
        (lambda *case: (name for name in survivors(*case)), "type", "a list of names, .* of type generator"),
        (lambda *case: ["gates"], "type", "'gates' is none of the names that there are: A, B"),
        (lambda *case: True, "type", "a list of names, and returned an object of type bool"),
        (lambda *case: sorted(set(case[-1]) - set(survivors(*case))), "the refuted", "fell"),
        (lambda *case: list(case[-1]), "all of them", "ever falls"),
    ],
)
def test_what_is_said_of_names(answer, outcome, pattern):
    verdict = EXERCISES["08.SURVIVES"].check(answer)
    assert verdict.outcome == outcome
    assert re.search(pattern, verdict.english), verdict


# ---- 03.3 -----------------------------------------------------------------------------------------------

WRONG_SCHEDULES = {
    "believes the lie": [(0.07, 0.721, 0.002), (0.034, 0.88, 0.001), (0.5, 0.0, 0.0), (0.25, 0.0, 0.0)],
    "slow": [(0.05, 0.0, 0.0), (0.0, 0.0, 0.0), (0.25, 0.0, 0.5)],
    "loses the rule": [
        lambda t: (50.0 if t > 54 else calm(t)[0], 0, 0),
        lambda t: (*calm(t)[:2], 0.9 if t > 60 else 0),
    ],
    "early pair": [lambda t: (0.0 if t == 54 else 0.4, 0.0, 0.02), lambda t: (calm(t)[0], 0.8 * (t < 3), 0)],
    "range": [(-0.1, 0, 0), (0.25, 1.5, 0), (0.25, 0, -0.01), (0.25, 0, 1.01)],
    "count": [(0.25, 0), (0.25, 0, 0, 0), 0.25, torch.ones(2)],
    "type": ["abc", ("a", "b", "c"), (0.25, "0", 0), {1: 2}],
    "not finite": [(math.nan, 0, 0), (math.inf, 0, 0), (0.25, math.nan, 0)],
    "shape": [(torch.ones(2), 0, 0), torch.ones(3, 1), ([0.2], [0.0], [0.0])],
}


@pytest.mark.parametrize(
    ("outcome", "gates"), [(o, gates) for o, several in WRONG_SCHEDULES.items() for gates in several]
)
def test_a_schedule_is_judged_up_to_the_end(outcome, gates):
    verdict = SCHEDULE(gates if callable(gates) else lambda token: gates)
    assert verdict.outcome == outcome, verdict


@pytest.mark.parametrize("theta", [0.22, 0.25, 0.3, 0.4, 0.5])
def test_schedules_that_a_reader_would_write_pass(theta):
    """All but the lie are believed; or nothing is written once the rule has been learned."""
    assert SCHEDULE(lambda token: (theta if token != 54 else 0.0, 0.0, 0.0)).outcome == "passed"
    assert SCHEDULE(lambda token: torch.tensor([theta if token < 54 else 0.0, 0.0, 0.0])).outcome == "passed"
