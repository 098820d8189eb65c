"""Whole models: ours, titans-pytorch's MemoryAsContextTransformer at like sizes, and what is done with them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from titans import ModelState, TitansConfig, TitansLM, unchanged_parameters

from .sides import DEPTH, EXPANSION, Run, Sizes

VOCABULARY, LAYERS, HEADS, PERSISTENT, FFN = 256, 2, 2, 4, 4


def our_model(sizes: Sizes) -> TitansLM:
    """A MAC whose segments are two chunks long."""
    dim, chunk = sizes["dim"], sizes["chunk"]
    return TitansLM(
        TitansConfig(
            vocab_size=VOCABULARY,
            dim=dim,
            layers=LAYERS,
            heads=HEADS,
            ffn_expansion=FFN * 2 / 3,
            segment_len=2 * chunk,
            chunk_size=chunk,
            memory_depth=DEPTH,
            memory_expansion=EXPANSION,
            persistent_tokens=PERSISTENT,
        )
    )


def their_model(sizes: Sizes) -> Any:
    """Theirs with the same sizes, a memory in every layer, and one residual stream, as ours has."""
    from titans_pytorch import MemoryAsContextTransformer, MemoryMLP

    dim, chunk = sizes["dim"], sizes["chunk"]
    return MemoryAsContextTransformer(
        num_tokens=VOCABULARY,
        dim=dim,
        depth=LAYERS,
        segment_len=2 * chunk,
        neural_memory_segment_len=chunk,
        num_persist_mem_tokens=PERSISTENT,
        dim_head=dim // HEADS,
        heads=HEADS,
        ff_mult=FFN,
        num_residual_streams=1,
        neural_memory_model=MemoryMLP(dim, depth=DEPTH, expansion_factor=float(EXPANSION)),
    )


def tokens_of(sizes: Sizes, name: str = "tokens") -> Tensor:
    return torch.randint(VOCABULARY, (sizes["batch"], sizes[name]))


def our_training(sizes: Sizes, tokens: Tensor | None = None, starts: Tensor | None = None) -> Run:
    """Forward and backward of the loss of next tokens, in documents that begin at `starts`."""
    model, tokens = our_model(sizes), tokens_of(sizes) if tokens is None else tokens

    def run() -> None:
        model.zero_grad()
        loss = model(tokens, labels=tokens, starts=starts).loss
        assert loss is not None
        loss.backward()

    return run


def packed_documents(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """As many documents as `sizes` has rows, with as many tokens together, from a 16th to twice the mean long, one
    after another in eight rows where they can be divided so; and where they begin."""
    total = sizes["batch"] * sizes["tokens"]
    shares = 1 / 16 + (2 - 1 / 16) * torch.rand(sizes["batch"])
    ends = (shares.cumsum(0) / shares.sum() * total).long()
    starts = torch.zeros(total, dtype=torch.bool)
    starts[ends[:-1]] = True
    starts = starts.view(math.gcd(sizes["batch"], 8), -1)
    starts[:, 0] = True
    return torch.randint(VOCABULARY, starts.shape), starts


def their_training(sizes: Sizes) -> Run:
    model, tokens = their_model(sizes), tokens_of(sizes)

    def run() -> None:
        model.zero_grad()
        model(tokens, return_loss=True).backward()

    return run


def stream(model: TitansLM, tokens: int, piece: Tensor) -> ModelState:
    """The state after `tokens` tokens that arrive in pieces [batch, piece], again and again."""
    state: Any = None
    for _ in range(tokens // piece.shape[1]):
        state = model(piece, state).state
    return state


def compiled(model: TitansLM) -> Any:
    """The model as inductor makes it."""
    return torch.compile(model)


def our_generation(model: Any, state: ModelState, steps: int) -> Run:
    """Greedy steps of one token from a state."""

    def run() -> None:
        token, after = torch.zeros(state.batch, 1, dtype=torch.long), state
        with unchanged_parameters():
            for _ in range(steps):
                output = model(token, after)
                token, after = output.logits[:, -1].argmax(-1, keepdim=True), output.state

    return run


def their_default_generation(model: Any, tokens: Tensor) -> Run:
    """One greedy step as its own `sample` takes it unless asked for a cache: all tokens are read again."""
    return lambda: model(tokens, disable_flex_attn=True)[:, -1].argmax(-1)


def their_generation(model: Any, tokens: Tensor, steps: int) -> Run:
    """Greedy steps of one token from its cache, as its own `sample` with use_cache=True takes them."""
    with_memory = model.seq_len_with_longterm_mem(tokens.shape[1] + steps)
    axial = model.axial_pos_emb.maybe_derive_outer_dim(with_memory, (model.neural_memory_segment_len,))
    positions = model.axial_pos_emb(axial, return_factorized=True)
    options = {"disable_flex_attn": True, "return_cache": True, "factorized_pos_emb": positions}
    logits, cache = model(tokens, **options)
    first = torch.cat((tokens, logits[:, -1].argmax(-1, keepdim=True)), dim=1)

    def run() -> None:
        known, after = first, cache
        for _ in range(steps):
            logits, after = model(known, cache=after, **options)
            known = torch.cat((known, logits[:, -1].argmax(-1, keepdim=True)), dim=1)

    return run
