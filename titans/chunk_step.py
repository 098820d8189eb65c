"""One memory layer over one chunk of c tokens, and its derivative by hand.

With W and S as the chunk finds them, errors e_i, inputs a_i and queries z_t (`titans.chunked` says
where this is from):

    h_t = P_t W z_t + f_t S z_t + sum_i M_ti (a_i . z_t) e_i      what the layer answers token t; M = -G
    W'  = P_c W + f_c S + sum_i M_ci e_i a_i^T                    its weights after the chunk
    S'  = g_c S + sum_i m_i e_i a_i^T                             its momentum after the chunk; m_i = -n_ci

Autograd can differentiate this, but makes a tensor of the size of the weights for every product and
every factor that W and S meet. Here dW and dS are one tensor each, to which everything is added;
all else is of the size of the chunk. With dh, dW' and dS' the derivatives of what follows with
respect to the results,

    dW   = P_c dW' + sum_t P_t dh_t z_t^T                       dP_t = dh_t . W z_t,  at t = c also + dW' . W
    dS   = f_c dW' + g_c dS' + sum_t f_t dh_t z_t^T             df_t = dh_t . S z_t,  at t = c also + dW' . S
    dz_t = P_t W^T dh_t + f_t S^T dh_t + sum_i M_ti (e_i . dh_t) a_i
    da_i = sum_t M_ti (e_i . dh_t) z_t + M_ci dW'^T e_i + m_i dS'^T e_i
    de_i = sum_t M_ti (a_i . z_t) dh_t + M_ci dW' a_i + m_i dS' a_i
    dM_ti = (e_i . dh_t) (a_i . z_t),  at t = c also + e_i . dW' a_i
    dm_i = e_i . dS' a_i,   dg_c = dS' . S
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from titans.bounds import full_precision
from titans.checks import is_traced, own_derivatives


class StepMix(NamedTuple):
    """What a step multiplies with, each number for all memories at once."""

    P: Tensor  # [n, c, 1]
    f: Tensor  # [n, c, 1]
    M: Tensor  # [n, c, c], -G
    g_c: Tensor  # [n, 1, 1]
    m: Tensor  # [n, c, 1], -n_c


def chunk_step(W: Tensor, S: Tensor, z: Tensor, a: Tensor, e: Tensor, *mix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(W, S, z, a, e, *mix) -> (h, W', S'), for n memories at once.

    W, S: [n, out, in]. z, a: [n, c, in]. e, h: [n, c, out]. mix, which are P, f, M, g_c and m: see
        `StepMix`.
    Tools that trace or map, and forward-mode derivatives, meet torch's own operations alone.
    """
    if own_derivatives():
        return ChunkStep.apply(W, S, z, a, e, *mix)
    return _results(W, S, a, e, mix, _products(W, S, z, a), APART)


class ChunkStep(torch.autograd.Function):
    """`chunk_step` with a derivative by hand.

    Where gradients of gradients are asked for, the backward pass makes its products anew, with a
    graph.
    """

    @staticmethod
    def forward(
        ctx: Any, W: Tensor, S: Tensor, z: Tensor, a: Tensor, e: Tensor, *mix: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        products = _products(W, S, z, a)
        ctx.save_for_backward(W, S, z, a, e, *mix, *products)
        ctx.set_materialize_grads(False)
        return _results(W, S, a, e, mix, products, IN_PLACE)

    @staticmethod
    def backward(ctx: Any, dh: Tensor | None, *ends: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing makes them anew for each look
        e = saved[4]
        with full_precision(e):
            return _backward(saved, torch.zeros_like(e) if dh is None else dh, *ends)


def _backward(
    saved: Sequence[Tensor], dh: Tensor, dW_end: Tensor | None, dS_end: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The derivatives of a step's inputs, in their order."""
    W, S, z, a, e, P, f, M, g_c, m, *products = saved
    if torch.is_grad_enabled():  # create_graph: what the forward pass made was made without a graph
        products = _products(W, S, z, a)
    Wz, Sz, az = products
    plus, plus_matmul, plus_last = APART if is_traced() or _in_batches() else IN_PLACE
    dh_kept, dh_carried = dh * P, dh * f
    edh = torch.bmm(dh, e.mT)  # [n, t, i]
    edh_M = edh * M
    dW, dS = torch.bmm(dh_kept.mT, z), torch.bmm(dh_carried.mT, z)
    dz = plus_matmul(plus_matmul(torch.bmm(dh_kept, W), dh_carried, S), edh_M, a)
    da, de = torch.bmm(edh_M.mT, z), torch.bmm((az * M).mT, dh)
    dP, df, dM = _dots(dh, Wz), _dots(dh, Sz), edh * az
    if dW_end is None and dS_end is None:  # nobody asks what comes after this chunk
        return dW, dS, dz, da, de, dP, df, dM, None, None
    dW_end = torch.zeros_like(W) if dW_end is None else dW_end
    dS_end = torch.zeros_like(S) if dS_end is None else dS_end
    e_weight, e_momentum = _written(e, M, m)
    dWa, dSa = torch.bmm(a, dW_end.mT), torch.bmm(a, dS_end.mT)
    dW = plus(dW, dW_end, P[:, -1:])
    dS = plus(plus(dS, dW_end, f[:, -1:]), dS_end, g_c)
    da = plus_matmul(plus_matmul(da, e_weight, dW_end), e_momentum, dS_end)
    de = plus(plus(de, dWa, M[:, -1, :, None]), dSa, m)
    dP, df = plus_last(dP, _dot(dW_end, W)), plus_last(df, _dot(dW_end, S))
    dM = plus_last(dM, _dots(e, dWa).mT)
    return dW, dS, dz, da, de, dP, df, dM, _dot(dS_end, S), _dots(e, dSa)


def _in_batches() -> bool:
    """Whether `torch.autograd.grad` was asked for many gradients at once: then one x meets many a and b."""
    level = torch._C._vmapmode_increment_nesting()  # torch has no other way to ask for it
    torch._C._vmapmode_decrement_nesting()
    return level > 1


# ---- Sums and products -----------------------------------------------------------------------------------------------


class Sums(NamedTuple):
    """Three sums; whether what they give takes the place of x is theirs to say."""

    plus: Callable[[Tensor, Tensor, Tensor], Tensor]  # x + a * b
    plus_matmul: Callable[[Tensor, Tensor, Tensor], Tensor]  # x + a b, for matrices [n, ...]
    plus_last: Callable[[Tensor, Tensor], Tensor]  # x [n, c, ...] with [n, 1, ...] added at its end


def _add_at_end(x: Tensor, last: Tensor) -> Tensor:
    x[:, -1:].add_(last)
    return x


IN_PLACE = Sums(Tensor.addcmul_, Tensor.baddbmm_, _add_at_end)
APART = Sums(torch.addcmul, torch.baddbmm, lambda x, last: torch.cat((x[:, :-1], x[:, -1:] + last), dim=1))


def _results(
    W: Tensor, S: Tensor, a: Tensor, e: Tensor, mix: Sequence[Tensor], products: Sequence[Tensor], sums: Sums
) -> tuple[Tensor, Tensor, Tensor]:
    """h, W' and S'."""
    P, f, M, g_c, m = mix
    plus, plus_matmul, _ = sums
    Wz, Sz, az = products
    e_weight, e_momentum = _written(e, M, m)
    h = plus_matmul(plus(Wz * P, Sz, f), az * M, e)
    W_end = plus_matmul(plus(W * P[:, -1:], S, f[:, -1:]), e_weight.mT, a)
    return h, W_end, plus_matmul(S * g_c, e_momentum.mT, a)


def _products(W: Tensor, S: Tensor, z: Tensor, a: Tensor) -> list[Tensor]:
    """What both passes need: W z, S z and a . z."""
    return [z.bmm(W.mT), z.bmm(S.mT), z.bmm(a.mT)]


def _written(e: Tensor, M: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """The errors as they enter W' and S'."""
    return e * M[:, -1, :, None], e * m


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """x_t . y_t for every token: [n, c, out] -> [n, c, 1]."""
    return (x * y).sum(-1, keepdim=True)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """The sum of x * y over a matrix: [n, out, in] -> [n, 1, 1]."""
    return torch.linalg.vecdot(x.reshape(len(x), -1), y.reshape(len(y), -1))[:, None, None]
