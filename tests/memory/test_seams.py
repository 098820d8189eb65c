"""What a researcher can exchange without copying the library: the memory, the inner rule, a mixer; and look inside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from tests.proofs.model_proofs import make_model, random_tokens, run_in_pieces
from tests.proofs.proofs import assert_same
from titans import DeepMemory, Gates, MemoryState, NeuralMemory, TitansConfig, TitansLM, chunked_scan, recurrent_scan
from titans.blocks import LMM, MIXERS, Mixer
from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.config import VARIANTS
from titans.memory import LayeredMemory, Memory
from titans.observe import closed, edited_gates, memories, observed
from titans.recurrence import Momentum, surprise
from titans.scan import Rule, Tokens
from titans.state import State

BATCH, HEADS, DIM, TOKENS = 2, 2, 4, 9


class GatedMLP(nn.Module):
    """Another memory: M(x) = W_3 (SiLU(W_1 x) * W_2 x), which is not one layer after another."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads, self.signature = dim, heads, f"gated {dim=} {heads=}"
        shapes = ((heads, 2 * dim, dim), (heads, 2 * dim, dim), (heads, dim, 2 * dim))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5) for shape in shapes)
        self.shapes = [weight.shape for weight in self.weights]

    def initial_state(self, batch: int) -> MemoryState:
        weights = tuple(weight.expand(batch, *weight.shape).clone() for weight in self.weights)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights, x: Tensor) -> Tensor:
        one, other, last = (weight.mT for weight in weights)
        return (F.silu(x @ one) * (x @ other)) @ last


@dataclass(frozen=True)
class AdamOnHuber:
    """Another rule: Adam's two moments of the gradient of another loss, Huber's, and no forgetting.

    What it carries: both moments of each layer, and the number of tokens so far, which corrects their bias.
    """

    signature: str = "adam huber"

    def shapes(self, memory):
        return [*memory.shapes, *memory.shapes, (1,)]

    def step(self, memory, weights, carried, at, token):
        def loss(at):
            return F.huber_loss(memory.read(at, token.k), token.v, reduction="sum", delta=0.1)

        *moments, count = carried
        means, squares = moments[: len(weights)], moments[len(weights) :]
        gradients, count = grad(loss)(tuple(at)), count + 1
        theta, _, _ = token.gates.by_layer()
        means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
        squares = [0.99 * s + 0.01 * g.square() for s, g in zip(squares, gradients, strict=True)]
        n = count[:, :, None, None]
        steps = [m / (1 - 0.9**n) / (s / (1 - 0.99**n) + 1e-6).sqrt() for m, s in zip(means, squares, strict=True)]
        new = tuple(w - th * step for w, th, step in zip(weights, theta, steps, strict=True))
        return new, (*means, *squares, count)


@dataclass(frozen=True)
class WindowOfTwo:
    """Another rule: descent on this token and the one before it, with forgetting. It carries that token's k and v."""

    signature: str = "window of 2"

    def shapes(self, memory):
        return [(memory.heads, 1, memory.dim)] * 2

    def step(self, memory, weights, carried, at, token):
        k, v = (torch.cat(pair, dim=2) for pair in zip(carried, (token.k, token.v), strict=True))
        theta, _, alpha = token.gates.by_layer()
        gradients = surprise(memory, at, k, v)
        new = tuple((1 - a) * w - th * u for a, w, th, u in zip(alpha, weights, theta, gradients, strict=True))
        return new, (token.k, token.v)


MEMORIES = {"deep": lambda: DeepMemory(DIM, HEADS, depth=2, expansion=2), "gated": lambda: GatedMLP(DIM, HEADS)}
RULES = {"momentum": Momentum(), "adam": AdamOnHuber(), "window": WindowOfTwo()}
each_memory = pytest.mark.parametrize("memory", MEMORIES)
each_rule = pytest.mark.parametrize("rule", RULES)


def problem(memory: str) -> tuple[Memory, Tokens]:
    torch.manual_seed(0)
    made = MEMORIES[memory]().double()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.5)
    q, k, v = F.normalize(torch.randn(3, BATCH, HEADS, TOKENS, DIM, dtype=torch.float64), dim=-1)
    gates = (
        torch.rand(3, BATCH, HEADS, TOKENS, dtype=torch.float64) * torch.tensor([0.1, 0.9, 0.1])[:, None, None, None]
    )
    return made, Tokens(*(x.requires_grad_() for x in (q, k, v)), Gates(*gates))


def scanned(memory: Memory, tokens: Tokens, cuts: tuple[int, ...], rule: Rule, through=lambda state: state):
    state, outputs = memory.initial_state(BATCH), []
    for begin, end in pairwise((0, *cuts, TOKENS)):
        y, state = recurrent_scan(memory, through(state), *tokens.part(slice(begin, end)), chunk_size=4, rule=rule)
        outputs.append(y)
    return torch.cat(outputs, dim=2), state


@each_memory
@each_rule
def test_any_memory_and_any_rule_stream_and_differentiate(memory, rule):
    """Any split gives the outputs, the state and the outer gradients of one call (truths 1 and 2)."""
    made, tokens = problem(memory)
    leaves, found = [*tokens[:3], *made.parameters()], []
    for cuts in ((), (1, 2, 6), tuple(range(1, TOKENS))):
        y, state = scanned(made, tokens, cuts, RULES[rule])
        gradients = torch.autograd.grad(y.square().sum() + sum(w.square().sum() for w in state.weights), leaves)
        found.append({"y": y} | state.tensors() | {f"gradient {i}": g for i, g in enumerate(gradients)})
    for other in found[1:]:
        assert_same(other, found[0])
    assert (state.rule, state.signature) == (RULES[rule].signature, made.signature)


@each_rule
def test_what_a_rule_carries_is_saved_and_selected_like_the_rest(rule, tmp_path):
    made, tokens = problem("gated")

    def through_a_file(state: MemoryState) -> MemoryState:
        state.detach().save(tmp_path / "state")
        return MemoryState.load(tmp_path / "state")

    want, end = scanned(made, tokens, (), RULES[rule])
    got, after = scanned(made, tokens, (3, 6), RULES[rule], through_a_file)
    assert_same({"y": got} | after.tensors(), {"y": want} | end.tensors())
    swap = torch.tensor([1, 0])
    rows = Tokens(*(x[swap] for x in tokens[:3]), Gates(*(gate[swap] for gate in tokens.gates)))
    half = scanned(made, tokens, (4,), RULES[rule])[0]
    first = recurrent_scan(made, made.initial_state(BATCH), *tokens.part(slice(0, 4)), chunk_size=4, rule=RULES[rule])[
        1
    ]
    rest, _ = recurrent_scan(made, first.select(swap), *rows.part(slice(4, TOKENS)), chunk_size=4, rule=RULES[rule])
    assert_same({"y": rest}, {"y": half[swap][:, :, 4:]})


def test_rules_differ_and_each_lowers_the_loss_on_a_pair_told_again():
    made, tokens = problem("deep")
    k, v = (x[:, :, :1].detach().repeat(1, 1, 30, 1) for x in tokens[1:3])
    gates = Gates(*(torch.full((BATCH, HEADS, 30), gate, dtype=torch.float64) for gate in (0.02, 0.5, 0.0)))
    answers = {}
    for name, rule in RULES.items():
        y, _ = recurrent_scan(made, made.initial_state(BATCH), k, k, v, gates, rule=rule)
        losses = (y - v).square().sum(-1).mean((0, 1))
        assert losses[-1] < 0.2 * losses[0], name
        answers[name] = y[:, :, -1]
    assert min((answers["momentum"] - answers[name]).norm() for name in ("adam", "window")) > 1e-3


def test_the_default_rule_is_momentum():
    made, tokens = problem("deep")
    want, end = recurrent_scan(made, made.initial_state(BATCH), *tokens, max_surprise=0.5)
    got, after = recurrent_scan(made, made.initial_state(BATCH), *tokens, rule=Momentum(0.5))
    assert torch.equal(got, want)
    assert all(map(torch.equal, after.momentum, end.momentum))
    closed_form, _ = chunked_scan(made, made.initial_state(BATCH), *tokens, chunk_size=1, rule=Momentum(0.5))
    assert_same({"y": closed_form}, {"y": want})


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["adam", "window"])
def test_the_closed_form_refuses_other_rules_by_name(rule):
    made, tokens = problem("deep")
    signature = RULES[rule].signature
    with pytest.raises(ValueError, match=f"rule must be 'momentum'.* got '{signature}'"):
        chunked_scan(made, made.initial_state(BATCH), *tokens, rule=RULES[rule])
    _, state = recurrent_scan(made, made.initial_state(BATCH), *tokens, chunk_size=4, rule=RULES[rule])
    with pytest.raises(ValueError, match=f"state belongs to another rule: it has {signature}, needed is momentum"):
        chunked_scan(made, state, *tokens, chunk_size=4)
    with pytest.raises(ValueError, match="state belongs to another rule"):
        recurrent_scan(made, state, *tokens, chunk_size=4)
    with pytest.raises(AttributeError, match=f"a state of the rule '{signature}' has no momentum"):
        state.momentum  # noqa: B018


def test_the_closed_form_refuses_a_memory_without_layers_and_scans_what_is_none():
    made, tokens = problem("gated")
    assert isinstance(made, Memory)
    assert not isinstance(made, LayeredMemory)
    with pytest.raises(TypeError, match=r"memory must be a LayeredMemory.* recurrent_scan takes any.* got GatedMLP"):
        chunked_scan(made, made.initial_state(BATCH), *tokens)
    with pytest.raises(TypeError, match="memory must be a Memory, got Linear"):
        recurrent_scan(nn.Linear(2, 2), made.initial_state(BATCH), *tokens)
    with pytest.raises(TypeError, match="rule must be a Rule, got str"):
        recurrent_scan(made, made.initial_state(BATCH), *tokens, rule="adam")
    with pytest.raises(ValueError, match="max_surprise must be None beside a rule"):
        recurrent_scan(made, made.initial_state(BATCH), *tokens, max_surprise=1.0, rule=AdamOnHuber())


class Bias(nn.Module):
    """M(x) = W x + b, its bias of a natural shape, or of the one that every weight must have."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.dim, self.heads, self.signature = DIM, HEADS, "bias"
        self.shapes = [torch.Size((HEADS, DIM, DIM)), torch.Size(shape)]

    def initial_state(self, batch: int) -> MemoryState:
        weights = tuple(torch.zeros(batch, *shape, dtype=torch.float64) for shape in self.shapes)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights, x: Tensor) -> Tensor:
        return x @ weights[0].mT + (weights[1] if weights[1].ndim == 4 else weights[1][:, :, None])


def test_a_memory_whose_weights_are_no_matrices_is_refused_and_one_with_a_bias_as_a_matrix_works():
    _, tokens = problem("deep")
    with pytest.raises(ValueError, match=r"memory.shapes must be \[heads, out, in\] each .*got .*\(2, 4\)"):
        recurrent_scan(Bias((HEADS, DIM)), Bias((HEADS, DIM)).initial_state(BATCH), *tokens)
    memory = Bias((HEADS, 1, DIM))
    whole, _ = scanned(memory, tokens, (), Momentum())
    cut, _ = scanned(memory, tokens, (1, 4), Momentum())
    assert_same({"y": cut}, {"y": whole})
    layer = NeuralMemory(2 * DIM, HEADS, memory=memory).double()
    assert layer.gates(torch.randn(1, 3, 2 * DIM, dtype=torch.float64)).alpha.all()  # no order of layers: all forget


@dataclass(frozen=True)
class Broken:
    """A rule that returns something else than it says."""

    what: str
    signature: str = "broken"

    def shapes(self, memory):
        return [(3,)]

    def step(self, memory, weights, carried, at, token):
        wrong = {
            "too few": (weights, ()),
            "a list": (list(weights), carried),
            "a shape": (weights, (carried[0][:, :2],)),
        }
        return wrong[self.what]


@pytest.mark.parametrize("what", ["too few", "a list", "a shape"])
def test_a_rule_that_does_not_return_what_it_says_is_named(what):
    made, tokens = problem("deep")
    with pytest.raises(ValueError, match=r"rule 'broken': .* after a step must be a tuple of"):
        recurrent_scan(made, made.initial_state(BATCH), *tokens, rule=Broken(what))


def test_what_a_memory_lacks_is_named_and_a_layer_checks_its_rule_when_it_is_made():
    with pytest.raises(TypeError, match=r"got Linear, which lacks .*heads.*signature.*read"):
        make_layer(memory=nn.Linear(2, 2))
    with pytest.raises(TypeError, match="rule must be a Rule, got str"):
        make_layer(rule="adam")
    with pytest.raises(ValueError, match="max_surprise must be None beside a rule"):
        make_layer(rule=WindowOfTwo(), max_surprise=1.0)


@dataclass(frozen=True)
class Forgetful:
    """A rule that carries nothing."""

    signature: str = "forgetful"

    def shapes(self, memory):
        return []

    def step(self, memory, weights, carried, at, token):
        return weights, ()


def test_the_state_of_a_rule_that_carries_nothing_is_refused_by_others():
    made, tokens = problem("deep")
    _, state = recurrent_scan(made, made.initial_state(BATCH), *tokens, chunk_size=4, rule=Forgetful())
    for scan, rule in ((chunked_scan, None), (recurrent_scan, None), (recurrent_scan, WindowOfTwo())):
        with pytest.raises(ValueError, match="state belongs to another rule: it has forgetful"):
            scan(made, state, *tokens, chunk_size=4, rule=rule)


# ---- The layer and the model -----------------------------------------------------------------------------------------


def make_layer(**options) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(2 * DIM, HEADS, chunk_size=4, **options).double()


@pytest.mark.parametrize(
    "options", [{"memory": "gated"}, {"rule": AdamOnHuber()}, {"memory": "gated", "rule": WindowOfTwo()}]
)
def test_a_layer_takes_another_memory_and_another_rule(options):
    """Written token by token, in any split; the deep memory under momentum stays with the closed form."""
    if "memory" in options:
        options = options | {"memory": MEMORIES["gated"]()}
    layer = make_layer(**options)
    x = torch.randn(BATCH, TOKENS, 2 * DIM, dtype=torch.float64)
    whole, end = layer(x)
    first, state = layer(x[:, :3])
    rest, after = layer(x[:, 3:], state)
    assert_same({"y": torch.cat((first, rest), dim=1)} | after.tensors(), {"y": whole} | end.tensors())
    whole.square().sum().backward()
    weights = dict(layer.named_parameters())
    assert all(weight.grad is not None for name, weight in weights.items())
    assert weights["W_K.weight"].grad.norm() > 0


def test_a_layer_refuses_a_memory_of_other_sizes():
    with pytest.raises(ValueError, match=r"memory must have dim=4 and heads=2.* got dim=4 and heads=1"):
        make_layer(memory=GatedMLP(DIM, 1))
    with pytest.raises(TypeError, match="memory must be a Memory, got Linear"):
        make_layer(memory=nn.Linear(2, 2))


class MeanSoFar(Mixer):
    """Another mixer, of a few lines: the mean of all tokens so far. Its state is a sum and a count."""

    @dataclass(frozen=True)
    class Totals(State):
        total: Tensor
        count: Tensor

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.scale = nn.Parameter(torch.ones(config.dim))

    def begin(self, x: Tensor) -> MeanSoFar.Totals:
        return self.Totals(x.new_zeros(len(x), 1, self.dim), x.new_zeros(len(x), 1, 1))

    def forward(self, x, state=None):
        state = self.begin(x) if state is None else state
        total = state.total + x.cumsum(1)
        count = state.count + torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[None, :, None]
        return self.scale * total / count, self.Totals(total[:, -1:], count[:, -1:])


def test_a_model_takes_another_mixer_and_its_states_say_so():
    torch.manual_seed(0)
    config = TitansConfig("mag", vocab_size=7, dim=8)
    model = TitansLM(config, mixers={"mag": MeanSoFar}).double()
    tokens = random_tokens(model, 2, 9)
    whole = model(tokens)
    logits, state = run_in_pieces(model, tokens, [1, 4])
    assert_same({"logits": logits} | state.tensors(), {"logits": whole.logits} | whole.state.tensors())
    assert model.generate(tokens, 3)[0].shape == (2, 12)
    assert "MeanSoFar" in whole.state.signature
    with pytest.raises(ValueError, match=r"state belongs to another configuration: .*MeanSoFar"):
        TitansLM(config).double()(tokens, whole.state)
    with pytest.raises(ValueError, match=r"mixers must be one of .*'mac'.* got 'mine'"):
        TitansLM(config, mixers={"mine": MeanSoFar})
    assert isinstance(TitansLM(TitansConfig("lmm"), mixers={"mag": MeanSoFar}).blocks[0].mixer, LMM)


def test_a_checkpoint_names_the_mixers_that_it_needs(tmp_path):
    model = TitansLM(TitansConfig("mag", vocab_size=7, dim=8), mixers={"mag": MeanSoFar})
    save_checkpoint(tmp_path / "mine.safetensors", model, {})
    for wrong, have in ((None, "none"), ({"mac": MeanSoFar}, "mac")):
        with pytest.raises(ValueError, match=rf"made with mixers mag=.*MeanSoFar, and mixers has {have}"):
            load_checkpoint(tmp_path / "mine.safetensors", mixers=wrong)
    load_checkpoint(tmp_path / "mine.safetensors", mixers={"mag": MeanSoFar})


def test_a_mixer_that_a_function_makes_is_the_same_in_every_process():
    for mixers in ({"mac": make_mean}, {"mac": partial(make_mean)}):
        signature = TitansLM(TitansConfig(vocab_size=7, dim=8), mixers=mixers).signature
        assert "make_mean" in signature
        assert " at 0x" not in signature
        assert "at0x" not in signature


def make_mean(config: TitansConfig) -> Mixer:
    return MeanSoFar(config)


def test_a_variant_of_its_own_name_streams_too(monkeypatch):
    """As the guide says: an entry in the two tables."""
    monkeypatch.setattr("titans.config.VARIANTS", (*VARIANTS, "mean"))
    monkeypatch.setattr("titans.model.MIXERS", {**MIXERS, "mean": MeanSoFar})
    model = TitansLM(TitansConfig("mean", vocab_size=7, dim=8)).double()
    tokens = random_tokens(model, 2, 9)
    logits, _ = run_in_pieces(model, tokens, [1, 4])
    assert_same({"logits": logits}, {"logits": model(tokens).logits})
    assert model.generate(tokens, 3)[0].shape == (2, 12)


def test_two_states_of_one_name_are_refused_and_what_no_file_can_hold_is_refused_early():
    with pytest.raises(TypeError, match="WindowState must have a name of its own"):
        type("WindowState", (State,), {"__module__": "elsewhere"})

    @dataclass(frozen=True)
    class Listed(State):
        parts: list

    state = Listed([torch.ones(2)])
    for use in (state.tensors, state.detach, lambda: state.to(torch.float64)):
        with pytest.raises(TypeError, match="a State holds tensors, tuples, states, numbers and texts, got a list"):
            use()


# ---- Looking inside, and interfering ---------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_observed_sees_tokens_gates_states_and_surprise(chunk_size):
    """|u_t| is the norm of the gradient at the chunk's start, by autograd, token by token, whatever the split."""
    torch.manual_seed(0)
    layer = NeuralMemory(2 * DIM, HEADS, chunk_size=chunk_size).double()
    x = torch.randn(BATCH, TOKENS, 2 * DIM, dtype=torch.float64)
    with observed(layer) as calls:
        _, end = layer(x)
        _, state = layer(x[:, :3])
        layer(x[:, 3:], state)
    whole, first, rest = calls
    assert whole.after is end
    assert rest.before is state
    assert_same({"k": torch.cat((first.tokens.k, rest.tokens.k), dim=2)}, {"k": whole.tokens.k})
    want, state = [], layer.initial_state(BATCH)
    for t in range(TOKENS):
        token = whole.tokens.part(slice(t, t + 1))
        gradients = surprise(layer.memory, state.chunk_weights, token.k, token.v)
        want.append(sum(u.square().sum((2, 3)) for u in gradients).sqrt())
        _, state = layer.scan(token, state)
    assert_same({"|u|": whole.surprise()}, {"|u|": torch.stack(want, dim=2)})
    assert_same({"|u|": torch.cat((first.surprise(), rest.surprise()), dim=2)}, {"|u|": whole.surprise()})
    layer(x)
    assert len(calls) == 3  # no longer watched


def test_edited_gates_hold_while_the_block_runs_and_no_longer():
    model = make_model("mac")
    tokens = random_tokens(model, 2, 9)
    before = model(tokens).logits
    with edited_gates(model, lambda gates: gates._replace(eta=torch.zeros_like(gates.eta))):
        without = model(tokens).logits
        with observed(memories(model)[0]) as calls:
            model(tokens)
    assert all(not call.tokens.gates.eta.any() for call in calls)
    assert not torch.equal(without, before)
    assert torch.equal(model(tokens).logits, before)
    with pytest.raises(ZeroDivisionError), edited_gates(model, lambda gates: 1 / 0):
        model(tokens)
    assert torch.equal(model(tokens).logits, before)


def test_a_closed_copy_reads_and_never_writes():
    model = make_model("mag")
    tokens = random_tokens(model, 2, 9)
    state, shut = model(tokens).state, closed(model)
    after = shut(tokens, state).state
    for one, other in zip(state.layers, after.layers, strict=True):
        assert all(map(torch.equal, one.memory.weights, other.memory.weights))
        assert not any(s.any() for s in other.memory.momentum)
    assert not torch.equal(model(tokens, state).state.layers[0].memory.weights[0], state.layers[0].memory.weights[0])
