"""The update token by token, through autograd: slow, and nothing in it but the equations (8-15).

This is the judge of the fast form in `titans.chunked`. It works for any memory with a
`read(weights, x)`, knows nothing of layers, outer products or masks, and asks `torch.func.grad` for
every surprise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad

from titans.bounds import bounded_gradient, full_precision
from titans.checks import check_instance, check_shape
from titans.memory import Memory, check_memory
from titans.scan import Gates, Rule, Tokens, check_scan, check_step
from titans.state import MOMENTUM, MemoryState, Weights, one_place


@dataclass(frozen=True)
class Momentum:
    """The paper's inner rule, with past surprise carried on and forgetting:

        S_t = eta_t S_{t-1} - theta_t u_t,   M_t = (1 - alpha_t) M_{t-1} + S_t                          (13, 14)

    where the surprise u_t is the gradient of |M_t'(k_t) - v_t|^2 with respect to the weights, and
    M_t' is the memory at the start of t's chunk (D1).

    max_surprise: the largest norm that the surprise of a token and layer may have; larger ones are
        scaled down (D12).
    """

    max_surprise: float | None = None

    @property
    def signature(self) -> str:
        return MOMENTUM

    def shapes(self, memory: Memory) -> list[torch.Size]:
        """S_t is of the shapes of M_t."""
        return list(memory.shapes)

    def step(
        self, memory: Memory, weights: Weights, momentum: Weights, at: Weights, token: Tokens
    ) -> tuple[Weights, Weights]:
        """M_t and S_t."""
        surprises = surprise(memory, at, token.k, token.v, self.max_surprise)
        theta, eta, alpha = token.gates.by_layer()
        momentum = tuple(e * s - th * u for e, s, th, u in zip(eta, momentum, theta, surprises, strict=True))
        return tuple((1 - a) * w + s for a, w, s in zip(alpha, weights, momentum, strict=True)), momentum


def surprise(memory: Memory, weights: Weights, k: Tensor, v: Tensor, max_surprise: float | None = None) -> Weights:
    """The gradient of |M(k) - v|^2 (12) with respect to the memory's weights, one tensor a layer,
    by autograd.

    k, v: [batch, heads, tokens, dim]; the losses of several tokens are summed. With max_surprise,
    the gradient of every row, head and layer is scaled down to that norm where it is larger (D12;
    meant for one token).
    """

    def loss(weights: Weights) -> Tensor:
        return (memory.read(weights, k) - v).square().sum()

    gradients = grad(loss)(tuple(weights))
    if max_surprise is None:
        return gradients
    return tuple(bounded_gradient(gradient, max_surprise) for gradient in gradients)


def recurrent_scan(
    memory: Memory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    chunk_size: int = 1,
    max_surprise: float | None = None,
    rule: Rule | None = None,
) -> tuple[Tensor, MemoryState]:
    """Write every token into the memory by the inner rule, and read it back, one after another: y_t
    = M_t(q_t) (15).

    A token sees its own write (D2). With chunk_size=1 every gradient is taken at M_{t-1}, else at
    the weights with which t's chunk started (D1).

    memory: whatever is a `Memory`. q, k, v: [batch, heads, tokens, dim], float32 or float64. gates:
        see `Gates`.
    max_surprise: see `Momentum`. rule: an inner rule of your own, see `Rule`; None takes
        `Momentum(max_surprise)`.
    Returns y, [batch, heads, tokens, dim], and the state after the last token. Any split of the
    tokens into calls gives the same numbers (D10). Gradients flow through the inner gradients too
    (D7).
    Raises TypeError or ValueError, naming the argument, for wrong types, shapes, dtypes, ranges and
    states.
    """
    check_memory(memory)
    rule = inner_rule(rule, max_surprise)
    tokens = Tokens(q, k, v, gates)
    check_scan(memory, state, tokens, chunk_size, max_surprise, rule)
    tokens = tokens._replace(gates=gates.per_layer(len(memory.shapes)))
    weights, at, place = state.weights, state.chunk_weights, one_place("state.place_in_chunk", state.place_in_chunk)
    carried = state.rule_state or tuple(k.new_zeros(len(k), *shape) for shape in rule.shapes(memory))
    outputs = []
    for t in range(k.shape[2]):
        token = tokens.part(slice(t, t + 1))
        with full_precision(k):
            weights, carried = rule.step(memory, weights, carried, at, token)
            check_step(memory, rule, weights, carried, k)
            outputs.append(memory.read(weights, token.q))
            check_shape("what memory.read returns", outputs[-1], dict(zip("bhtd", token.q.shape, strict=True)), like=k)
        place = (place + 1) % chunk_size
        if place == 0:
            at = weights
    after = MemoryState(weights, at, carried, rule.signature, place, chunk_size, memory.signature)
    return torch.cat(outputs, dim=2), after


def inner_rule(rule: Rule | None, max_surprise: float | None) -> Rule:
    """The rule of a scan, or the error that says why it is none."""
    if rule is None:
        return Momentum(max_surprise)
    check_instance("rule", rule, Rule)
    if max_surprise is not None:
        raise ValueError(
            f"max_surprise must be None beside a rule, which has its own bound or none, got {max_surprise}"
        )
    return rule
