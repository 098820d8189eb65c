"""A trial for each decision and each misprint: one number that is small as it is done here, and large had one decided
otherwise, or as the paper prints it. Each takes a fraction of a second, and nothing in it is trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from titans.attention import NOTHING_SEEN, KeysValues, Seen
from titans.blocks import LMM, MAC, Combine
from titans.chunked import chunked_scan
from titans.config import TitansConfig
from titans.lesson.kit.draws import random_draw, randomise
from titans.memory import DeepMemory
from titans.model import TitansLM
from titans.neural_memory import LayerState, NeuralMemory
from titans.observe import edited_gates
from titans.recurrence import surprise
from titans.scan import Gates, Tokens
from titans.state import MemoryState

Numbers = tuple[float, float]
DIM, TOKENS, CHUNK = 4, 12, 4


class Trial(NamedTuple):
    """what: what is measured, in English and in Japanese. run: that number as it is done here, and as it would be
    otherwise. limit: it stands between the two."""

    what: tuple[str, str]
    run: Callable[[], Numbers]
    limit: float = 1e-8

    def holds(self) -> bool:
        """Whether the number is small here, and large otherwise."""
        here, otherwise = self.run()
        return here < self.limit < otherwise


def far(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want|"""
    return float((got - want).norm() / want.norm())


# ---- A memory that is one matrix, written out ------------------------------------------------------------------------


class Stream(NamedTuple):
    """A first memory M_0 [dim, dim]; q, k, v [tokens, dim]; gates [tokens]."""

    start: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    theta: Tensor
    eta: Tensor
    alpha: Tensor


def random_stream(seed: int = 0) -> Stream:
    """Unit keys and queries, steps of 0.2 to 0.4, and gates of all kinds."""
    draw = random_draw(seed)
    q, k = F.normalize(draw(2, TOKENS, DIM), dim=-1)
    theta, eta, alpha = torch.sigmoid(draw(3, TOKENS))
    return Stream(draw(DIM, DIM) / 2, q, k, draw(TOKENS, DIM), 0.2 + theta / 5, eta, alpha / 4)


def by_hand(stream: Stream, chunk: int, cut: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Equations 13 to 15 in a loop. Returns what is read after each write and before it, [tokens, dim], and M_T.

    chunk: tokens whose gradients are taken at the same weights. cut: no outer gradient goes through the inner ones.
    """
    M, S, at = stream.start, torch.zeros_like(stream.start), stream.start
    after, before = [], []
    for t in range(len(stream.k)):
        at = M if t % chunk == 0 else at
        u = 2 * torch.outer(at @ stream.k[t] - stream.v[t], stream.k[t])
        before.append(M @ stream.q[t])
        S = stream.eta[t] * S - stream.theta[t] * (u.detach() if cut else u)
        M = (1 - stream.alpha[t]) * M + S
        after.append(M @ stream.q[t])
    return torch.stack(after), torch.stack(before), M


def scanned(stream: Stream, chunk: int, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
    """The library's scan of a stream, from its M_0 or from a state."""
    memory = DeepMemory(DIM, depth=1).double()
    first = (stream.start[None, None],)
    state = MemoryState(first, first, signature=memory.signature) if state is None else state
    q, k, v, theta, eta, alpha = (x[None, None] for x in stream[1:])
    y, state = chunked_scan(memory, state, q, k, v, Gates(theta, eta, alpha), chunk)
    return y[0, 0], state


def part(stream: Stream, tokens: slice) -> Stream:
    """Some of a stream's tokens."""
    return Stream(stream.start, *(x[tokens] for x in stream[1:]))


# ---- D1, D2: when the gradient is taken, and when the memory is read -------------------------------------------------


def gradients_at_the_chunk_start() -> Numbers:
    """How far the scan is from a loop that takes gradients at the chunk's start, and from one that takes them at
    M_{t-1}."""
    y, _ = scanned(random_stream(), CHUNK)
    return far(y, by_hand(random_stream(), CHUNK)[0]), far(y, by_hand(random_stream(), 1)[0])


def read_after_the_write() -> Numbers:
    """How far y_t is from M_t(q_t), and from M_{t-1}(q_t)."""
    y, _ = scanned(random_stream(), CHUNK)
    after, before, _ = by_hand(random_stream(), CHUNK)
    return far(y, after), far(y, before)


# ---- D3, D4, D13, D15: MAC -------------------------------------------------------------------------------------------

SMALL = TitansConfig(dim=4, heads=1, segment_len=8, chunk_size=4, memory_depth=1, persistent_tokens=2)


class AllOfH(MAC):
    """MAC whose tokens see every h of their segment."""

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        keys, values = (torch.cat(pair, dim=2) for pair in zip(prefix, h, strict=True))
        return self.attention(q, (x,), seen, (keys, values), self.window)


class ReadAtTheEnd(MAC):
    """MAC that reads with the weights of after the whole segment."""

    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        _, after = self.memory.learn(written, state)
        return self.memory.memory.read(after.weights, self.memory.project(written, state.recent)[0]), after


def future_seen(block: MAC) -> float:
    """The size of d o_i / d x_j over all j > i, in a segment of 8."""
    randomise(block.double(), seed=1)
    slopes = jacobian(lambda x: block(x[None])[0][0], random_draw(2)(8, SMALL.dim))
    sizes = slopes.square().sum((1, 3)).sqrt()
    return float(sizes.triu(1).norm())


def h_from_its_own_token_on() -> Numbers:
    return future_seen(MAC(SMALL)), future_seen(AllOfH(SMALL))


def the_last_read_is_per_token() -> Numbers:
    return future_seen(MAC(SMALL)), future_seen(ReadAtTheEnd(SMALL))


def turned(x: Tensor) -> Tensor:
    """x [tokens, dim], each pair of features turned by an angle that grows with the position."""
    half = x.shape[1] // 2
    angle = torch.arange(len(x), dtype=x.dtype)[:, None] * 10_000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    pairs = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((pairs.real, pairs.imag), dim=1)


def positions_of_h() -> Numbers:
    """How far attention is from one that turns h as its token, and from one that does not turn it."""
    draw, mac = random_draw(3), MAC(SMALL).double()
    q, k_h, v_h, k_x, v_x = draw(5, 6, 4)
    k_p, v_p = draw(2, 2, 4)
    (q4, k_h4, v_h4, k_x4, v_x4, k_p4, v_p4) = (x[None, None] for x in (q, k_h, v_h, k_x, v_x, k_p, v_p))
    y, _ = mac.attend(q4, (k_h4, v_h4), (k_x4, v_x4), NOTHING_SEEN, (k_p4, v_p4))
    past = torch.full((6, 6), -torch.inf, dtype=q.dtype).triu(1)

    def attention(to_h: Tensor) -> Tensor:
        scores = torch.cat((q @ k_p.T, to_h + past, turned(q) @ turned(k_x).T + past), dim=1) / 2
        return scores.softmax(1) @ torch.cat((v_p, v_h, v_x))

    return far(y[0, 0], attention(turned(q) @ turned(k_h).T)), far(y[0, 0], attention(q @ k_h.T))


class WithoutResidual(MAC):
    """MAC with y = Attn([P | h | x]), as equation 23 stands."""

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return attended


@torch.no_grad()
def lost_of_the_token(block: type[MAC], change: Callable[[MAC], object] = lambda block: None) -> float:
    """1 - cos(x_i, what is written of it), the mean over 32 random tokens, at the start of training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mac = block(TitansConfig(dim=32, heads=2)).double()
    change(mac)
    written: list[Tensor] = []
    mac.norm_written.register_forward_hook(lambda module, given, y: written.append(y))
    x = random_draw(0)(1, 32, 32)
    mac(x)
    return float(1 - F.cosine_similarity(x, written[0], dim=-1).mean())


def a_residual_around_attention() -> Numbers:
    return lost_of_the_token(MAC), lost_of_the_token(WithoutResidual)


def attention_starts_faint() -> Numbers:
    """What is lost of a token with W_O at a third of its usual size, and at three times as much again."""

    def usual(mac: MAC) -> None:
        mac.attention.W_O.weight.mul_(3)

    return lost_of_the_token(MAC), lost_of_the_token(MAC, usual)


@torch.no_grad()
def h_starts_faint() -> Numbers:
    """The largest share of h in a token's attention input: |h_j| / |x_j|, after a first segment that was written."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mac = MAC(TitansConfig(dim=32, heads=2, segment_len=32)).double()
    _, state = mac(random_draw(0)(1, 32, 32))
    x = random_draw(1)(1, 32, 32)

    def size() -> float:
        return float((mac.retrieve(state.segment_weights, mac.W_Q(x)).norm(dim=-1) / x.norm(dim=-1)).max())

    here = size()
    nn.init.ones_(mac.norm.weight)
    return here, size()


@torch.no_grad()
def embeddings_start_small() -> Numbers:
    """|embedding| / |what the first mixer adds to it|, at the start."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TitansLM(TitansConfig())
    added: list[Tensor] = []
    model.blocks[0].mixer.register_forward_hook(lambda module, given, result: added.append(result[0]))  # type: ignore[operator,union-attr]
    tokens = torch.randint(256, (1, 64), generator=torch.Generator().manual_seed(0))
    shares = []
    for std in (0.02, 1.0):
        model.embedding.weight.mul_(std / model.embedding.weight.std())
        model(tokens)
        shares.append(float(model.embedding(tokens).norm() / added[-1].norm()))
    return shares[0], shares[1]


# ---- D5, D11, D16: gates ---------------------------------------------------------------------------------------------


@torch.no_grad()
def error_of_equal_tokens(layer: NeuralMemory) -> float:
    """|M(k) - v| / |v| after one chunk whose tokens are all the same, with the gates that a layer starts with."""
    k = v = F.normalize(torch.ones(1, 1, layer.chunk_size, layer.dim), dim=-1)
    gates = layer.gates(torch.zeros(1, layer.chunk_size, layer.dim))
    y, _ = layer.scan(Tokens(k, k, v, gates), layer.memory.initial_state(1))
    return float((y - v)[0, 0, -1].norm())


def without_bias(layer: NeuralMemory) -> NeuralMemory:
    """The same layer with gates that start at a half."""
    nn.init.zeros_(layer.to_gates.bias)
    return layer


def gentle_first_steps() -> Numbers:
    layer = NeuralMemory(8, depth=1)
    return error_of_equal_tokens(layer), error_of_equal_tokens(without_bias(layer))


@torch.no_grad()
def long_half_life() -> Numbers:
    """The share of the memory that 100 tokens forget at the start."""

    def forgotten(layer: NeuralMemory) -> float:
        return float(1 - (1 - layer.gates(torch.zeros(1, 100, 8)).alpha).prod())

    layer = NeuralMemory(8, depth=1)
    return forgotten(layer), forgotten(without_bias(layer))


@torch.no_grad()
def channels_forget_alike() -> Numbers:
    """How much the kept shares W_1 / W_0 differ within a layer, as largest - smallest, when nothing is written; and
    with an alpha for each channel."""
    layer = NeuralMemory(8, depth=1).double()
    randomise(layer, seed=0)
    x = random_draw(1)(1, 1, 8)
    with edited_gates(layer, lambda gates: gates._replace(theta=0 * gates.theta)):
        kept = layer(x)[1].weights[0] / layer.memory.initial_state(1).weights[0]
    per_channel = 1 - torch.sigmoid(layer.to_gates.bias.new_tensor(range(8)))
    return float(kept.max() - kept.min()), float(per_channel.max() - per_channel.min())


@torch.no_grad()
def lost_input(forget_layers: str) -> float:
    """How much of what goes into the last layer, which its gradient is made of, is gone after 64 tokens of
    alpha = 0.1."""
    layer = NeuralMemory(8, depth=2, forget_layers=forget_layers).double()
    memory = layer.memory
    assert isinstance(memory, DeepMemory)
    randomise(layer, seed=0)

    def idle(gates: Gates) -> Gates:
        return Gates(0 * gates.theta, 0 * gates.eta, 0.1 * gates.alpha.sign())

    with edited_gates(layer, idle):
        _, state = layer(random_draw(1)(1, 64, 8))
    k = random_draw(2)(1, 1, 1, 8)
    (_, before), (_, after) = (
        memory.errors(weights, k, k)[0] for weights in (memory.initial_state(1).weights, state.weights)
    )
    return float(1 - after.norm() / before.norm())


def hidden_layers_stay() -> Numbers:
    return lost_input("last"), lost_input("all")


# ---- D6: M_0 ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def nothing_at_first() -> Numbers:
    """|M_0(k)| for unit keys, the mean: what an empty memory answers; and with a last layer at random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        memory = DeepMemory(16).double()
    k = F.normalize(random_draw(0)(1, 1, 64, 16), dim=-1)

    def answer() -> float:
        return float(memory.read(memory.initial_state(1).weights, k).norm(dim=-1).mean())

    here = answer()
    nn.init.normal_(memory.weights[1], std=2 / 8, generator=torch.Generator().manual_seed(0))
    return here, answer()


@torch.no_grad()
def first_write_beside_a_residual() -> Numbers:
    """The norm of the last layer's first gradient, M(x) = x + LN(MLP(x)): its weights at random, and at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        memory = DeepMemory(16, residual=True).double()
    k, v = F.normalize(random_draw(0)(2, 1, 1, 1, 16), dim=-1)

    def size() -> float:
        return float(surprise(memory, memory.initial_state(1).weights, k, v)[1].norm())

    here = size()
    nn.init.zeros_(memory.weights[1])
    return here, size()


# ---- D7, D8, D12: gradients, inner and outer -------------------------------------------------------------------------


def the_outer_gradient_is_full() -> Numbers:
    """How far the outer gradient of M_0, in one direction, is from finite differences; and with the inner gradients
    cut."""
    stream, direction = random_stream(), random_draw(9)(DIM, DIM)

    def loss(start: Tensor, cut: bool = False) -> Tensor:
        moved = stream._replace(start=start)
        return (by_hand(moved, CHUNK, cut)[0] if cut else scanned(moved, CHUNK)[0]).square().sum()

    def slope(cut: bool) -> Tensor:
        start = stream.start.clone().requires_grad_()
        return (torch.autograd.grad(loss(start, cut), start)[0] * direction).sum()

    step = 1e-4 * direction
    true = (loss(stream.start + step) - loss(stream.start - step)) / 2e-4
    return far(slope(False), true), far(slope(True), true)


def gradients_cross_calls() -> Numbers:
    """How far the gradient of the first call's values is from that of one call over all; and after `detach`."""

    def gradient(pieces: bool, detach: bool = False) -> Tensor:
        stream = random_stream()
        v = stream.v.clone().requires_grad_()
        stream = stream._replace(v=v)
        if not pieces:
            y = scanned(stream, CHUNK)[0][6:]
        else:
            _, state = scanned(part(stream, slice(0, 6)), CHUNK)
            y, _ = scanned(part(stream, slice(6, None)), CHUNK, state.detach() if detach else state)
        return torch.autograd.grad(y.square().sum(), v)[0][:6]

    return far(gradient(True), gradient(False)), far(gradient(True, detach=True), gradient(False))


def the_loss_is_a_sum() -> Numbers:
    """How far the surprise is from the slope of |M(k) - v|^2 summed over features, and from that of their mean."""
    stream = random_stream()
    M, k, v = stream.start, stream.k[0], stream.v[0]
    (got,) = surprise(DeepMemory(DIM, depth=1).double(), (M[None, None],), k[None, None, None], v[None, None, None])
    whole = 2 * torch.outer(M @ k - v, k)
    return far(got[0, 0], whole), far(got[0, 0], whole / DIM)


@torch.no_grad()
def writes_are_bounded() -> Numbers:
    """|M_t - M_0| after 512 equal tokens in chunks of 64, over the longest way that bounded steps can go."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        memory = DeepMemory(8).double()
    k = v = F.normalize(torch.ones(1, 1, 512, 8, dtype=torch.float64), dim=-1)
    none = k.new_zeros(1, 1, 512)
    gates = Gates(none + 0.5, none, none)
    start, largest = memory.initial_state(1), 10.0

    def share(bound: float | None) -> float:
        _, state = chunked_scan(memory, start, k, k, v, gates, 64, bound)
        moved = max(float((a - b).norm()) for a, b in zip(state.weights, start.weights, strict=True))
        return moved / (512 * 0.5 * largest) if moved == moved else torch.inf

    return share(largest), share(None)


# ---- D9, D10: what is written, and what is carried -------------------------------------------------------------------


@torch.no_grad()
def persistent_tokens_are_written() -> Numbers:
    """How far LMM is from its memory over [P | x] without the first outputs, and from its memory over x alone."""
    lmm = LMM(SMALL).double()
    randomise(lmm, seed=1)
    x = random_draw(2)(1, 8, SMALL.dim)
    y, _ = lmm(x)
    with_prefix, _ = lmm.memory(torch.cat((lmm.persistent[None], x), dim=1))
    return far(y, with_prefix[:, SMALL.persistent_tokens :]), far(y, lmm.memory(x)[0])


def any_split() -> Numbers:
    """How far two calls, cut inside a chunk, are from one; and where the state forgets the chunk's start."""
    stream, cut = random_stream(), 6
    whole, _ = scanned(stream, CHUNK)
    _, state = scanned(part(stream, slice(0, cut)), CHUNK)
    poorer = replace(state, chunk_weights=state.weights, place_in_chunk=0)
    rest = part(stream, slice(cut, None))
    return far(scanned(rest, CHUNK, state)[0], whole[cut:]), far(scanned(rest, CHUNK, poorer)[0], whole[cut:])


# ---- D14: the gate ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def only_one_side_is_squashed() -> Numbers:
    """How far the gate is from sigmoid(RMSNorm(y)) RMSNorm(M(y)), and from sigmoids on both sides."""
    combine, (y, read) = Combine(8).double(), random_draw(0)(2, 5, 8)
    normal_y = y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    normal_read = read * (read.square().mean(-1, keepdim=True) + 1e-2).rsqrt()
    got = combine(y, read)
    return far(got, normal_y.sigmoid() * normal_read), far(got, normal_y.sigmoid() * normal_read.sigmoid())


@torch.no_grad()
def an_empty_answer_stays_small() -> Numbers:
    """How many times as large an answer of 1e-7 leaves the gate; and with the epsilon of the other norms, 1e-6."""
    combine, y = Combine(8), random_draw(0)(1, 8).float()
    answer = torch.full((1, 8), 1e-7)

    def enlarged() -> float:
        return float(combine(y, answer).norm() / answer.norm())

    here = enlarged()
    combine.norm_memory.eps = 1e-6
    return here, enlarged()


# ---- Misprints: as mended, and as printed ----------------------------------------------------------------------------


def without_momentum(tokens: int = CHUNK) -> Stream:
    """The first tokens of a stream with eta = 0."""
    stream = random_stream()
    return part(stream._replace(eta=0 * stream.eta), slice(0, tokens))


def slopes_at(M: Tensor, stream: Stream) -> list[Tensor]:
    """The gradient of |M k_t - v_t|^2 with respect to M, by autograd, for every token."""
    at = M.detach().clone().requires_grad_()
    losses = [(at @ k - v).square().sum() for k, v in zip(stream.k, stream.v, strict=True)]
    return [torch.autograd.grad(loss, at)[0] for loss in losses]


def equation_16() -> Numbers:
    """M_b by equation 16 with t' = 0, and with t' = t - mod(t, b), which at t = b is b: gradients at M_b itself."""
    stream = without_momentum()
    _, _, true = by_hand(stream, CHUNK)
    beta = (1 - stream.alpha).cumprod(0)

    def right_side(at: Tensor) -> Tensor:
        shares = stream.theta * beta[-1] / beta
        return beta[-1] * stream.start - sum(share * u for share, u in zip(shares, slopes_at(at, stream), strict=True))

    return far(right_side(stream.start), true), far(right_side(true), true)


def sum_of_equation_17(stream: Stream) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The left side of equation 17, by autograd; K and V with a column a token; Theta B."""
    beta = (1 - stream.alpha).cumprod(0)
    shares = stream.theta * beta[-1] / beta
    true = torch.stack([s * u for s, u in zip(shares, slopes_at(stream.start, stream), strict=True)]).sum(0)
    return true, stream.k.T, stream.v.T, shares.diag()


def equation_17() -> Numbers:
    """Mended, and as printed."""
    stream = without_momentum(DIM)
    true, K, V, shares = sum_of_equation_17(stream)
    return far(2 * (stream.start @ K - V) @ shares @ K.T, true), far(shares @ (stream.start @ K - K) @ K.T, true)


def equation_17_factor() -> Numbers:
    """With the factor 2, and without it."""
    stream = without_momentum()
    true, K, V, shares = sum_of_equation_17(stream)
    product = (stream.start @ K - V) @ shares @ K.T
    return far(2 * product, true), far(product, true)


def equation_17_values() -> Numbers:
    """With keys and values, and with x for both."""
    stream = without_momentum()
    true, K, V, shares = sum_of_equation_17(stream)
    return far(2 * (stream.start @ K - V) @ shares @ K.T, true), far(2 * (stream.start @ K - K) @ shares @ K.T, true)


def equation_17_diagonals() -> Numbers:
    """The diagonals between the two factors, and in front, where they fit for a chunk of d tokens alone."""
    stream = without_momentum(DIM)
    true, K, V, shares = sum_of_equation_17(stream)
    error = 2 * (stream.start @ K - V)
    return far(error @ shares @ K.T, true), far(shares @ error @ K.T, true)


def equation_32() -> Numbers:
    """M_t = (1 - alpha_t) M_{t-1} + S_t; and with M_t on the right, which solved for M_t is S_t / alpha_t."""
    stream = without_momentum(1)
    _, _, true = by_hand(stream, 1)
    S = -stream.theta[0] * slopes_at(stream.start, stream)[0]
    return far((1 - stream.alpha[0]) * stream.start + S, true), far(S / stream.alpha[0], true)


def surprise_of_what() -> Numbers:
    """How much of the error is left after a step of 1/2 along the gradient with respect to the weights; and along that
    with respect to the input, which an empty memory does not have: it is W^T (...) = 0."""
    k, v = random_stream().k[0], random_stream().v[0]
    M, k_leaf = torch.zeros(DIM, DIM, dtype=k.dtype, requires_grad=True), k.clone().requires_grad_()
    by_weights, by_input = torch.autograd.grad((M @ k_leaf - v).square().sum(), (M, k_leaf))
    return far((M - by_weights / 2).detach() @ k, v), far(M.detach() @ (k - by_input / 2), v)


def gated_delta_net() -> Numbers:
    """How far Gated DeltaNet with changed parameters, and with the same, is from Titans with eta = 0, chunks of one."""
    stream = without_momentum(TOKENS)
    y, _, _ = by_hand(stream, 1)
    keep = 1 - stream.alpha

    def gated(beta: Tensor, values: Tensor) -> Tensor:
        M, reads = stream.start, []
        for t in range(TOKENS):
            k, v = stream.k[t], values[t]
            M = keep[t] * (M - beta[t] * torch.outer(M @ k, k)) + beta[t] * torch.outer(v, k)
            reads.append(M @ stream.q[t])
        return torch.stack(reads)

    beta = 2 * stream.theta  # Gated DeltaNet minimises half the squared error
    return far(gated(beta / keep, keep[:, None] * stream.v), y), far(gated(beta, stream.v), y)
