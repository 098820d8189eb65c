"""Language models: tokens to logits, and generation from a state of constant size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans.blocks import MIXERS, MixerTable
from titans.bounds import full_precision
from titans.checks import (
    check_choice,
    check_instance,
    check_integer,
    check_number,
    check_rows,
    check_tensor,
    has_numbers,
    is_dense,
    known,
)
from titans.config import VARIANTS, TitansConfig
from titans.fitting import KINDS, check_layer
from titans.rows import ModelState, Reader, read_rows
from titans.state import SERIALS, State, every_tensor, note
from titans.unchanged import unchanged_parameters

IGNORED_LABEL = -100
SHORTEST_STRETCH = 32  # tokens; what `titans.rows` reads at once is whole chunks or segments, and rarely shorter
# Parts of states that are at least float32, see NeuralMemory.
IN_MEMORY_PRECISION = frozenset(("weights", "rule_state", "chunk_weights", "segment_weights"))


class Output(NamedTuple):
    """logits [batch, tokens, vocab_size]; the mean loss where labels were given; the state after
    the last token."""

    logits: Tensor
    loss: Tensor | None
    state: ModelState


class SwiGLU(nn.Module):
    """FFN(x) = (SiLU(x W_1) * x W_2) W_3."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = max(1, round(dim * expansion))
        self.W_1, self.W_2 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.W_3 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.W_3(F.silu(self.W_1(x)) * self.W_2(x))


class Block(nn.Module):
    """A mixer and a feed-forward network, each normalised first and added to what came in.

    Under autocast only the network is in half precision: a small write to a memory's large weight
    would be lost.
    """

    def __init__(self, config: TitansConfig, layer: int, mixers: MixerTable = MIXERS) -> None:
        super().__init__()
        self.norm_mixer, self.norm_ffn = nn.RMSNorm(config.dim, eps=1e-6), nn.RMSNorm(config.dim, eps=1e-6)
        self.mixer = mixers[config.variant_of(layer)](config)
        self.ffn = SwiGLU(config.dim, config.ffn_expansion)
        self.dropout = nn.Dropout(config.dropout)
        self.serial = next(SERIALS)

    def initial_state(self, batch: int) -> State:
        return self.mixer.initial_state(batch)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        made_by = (self.serial, len(x), x.dtype, x.device)
        if state is not None and getattr(state, "made_by", None) != made_by:
            check_layer_state(state, x)
        with full_precision(x):
            mixed, state = self.mixer(self.norm_mixer(x), state)
        if isinstance(state, State):
            note(state, *made_by)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.ffn(self.norm_ffn(x))), state


def check_layer_state(state: State, x: Tensor) -> None:
    """Refuse the state of another device or dtype than the layer's input x."""
    memory_dtype = torch.promote_types(x.dtype, torch.float32)
    if all(t.device == x.device and t.dtype is x.dtype is memory_dtype for t in every_tensor(state)):
        return
    for name, tensor in state.tensors().items():
        if tensor.device != x.device:
            raise ValueError(f"state must be on device {x.device}, got {tensor.device} in {name}")
        learns = IN_MEMORY_PRECISION.intersection(name.split("."))
        needed = memory_dtype if learns else x.dtype
        if tensor.dtype != needed:
            raise ValueError(f"state belongs to another dtype: it has {tensor.dtype}, needed is {needed} in {name}")


def check_starts(starts: object, tokens: Tensor) -> Tensor:
    """Where documents begin, as booleans beside the tokens, or the error that says why these are none."""
    starts = check_tensor("starts", starts)
    if starts.dtype != torch.bool:
        raise TypeError(f"starts must be booleans, True at each first token of a document, got {starts.dtype}")
    if starts.shape != tokens.shape:
        raise ValueError(f"starts must have the shape of tokens, {list(tokens.shape)}, got {list(starts.shape)}")
    return starts.to(tokens.device)


class TitansLM(nn.Module):
    """A language model of any variant: embedding, blocks, logits.

    Called as model(tokens, state=None, labels=None, starts=None). Any split of a sequence into calls gives the
    same logits and state as one call (D10). A batch row never sees another.

    mixers: by variant, what makes a mixer of a configuration, in place of those of
        `titans.blocks.MIXERS`. Where documents are packed or rows padded it must be causal: zeros may stand behind
        the end of a row.
    """

    block_type = Block

    def __init__(self, config: TitansConfig, mixers: MixerTable | None = None) -> None:
        super().__init__()
        check_instance("config", config, TitansConfig)
        self.config, self.mixers = config, dict(mixers or {})
        for variant in self.mixers:
            check_choice("mixers", variant, VARIANTS)
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        nn.init.normal_(self.embedding.weight, std=0.02)  # small: the blocks soon outweigh it (D15)
        self.blocks = nn.ModuleList(
            self.block_type(config, layer + 1, {**MIXERS, **self.mixers}) for layer in range(config.layers)
        )
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)

    def initial_state(self, batch: int) -> ModelState:
        """Every layer's state before the first token."""
        batch = check_integer("batch", batch)
        layers = tuple(block.initial_state(batch) for block in self.layers())
        return ModelState(layers, self.signature, batch)

    def reset(self, state: ModelState, rows: Tensor) -> ModelState:
        """A state whose `rows` are before their first token again, at M_0; the others are as they were.

        rows: whole numbers [n], negative ones counted from the end; or booleans [batch].
        """
        check_instance("state", state, ModelState)
        again = set(check_rows("rows", rows, state.batch).tolist())
        if all(layer is None for layer in state.layers):
            return state
        kept = [row for row in range(state.batch) if row not in again]
        fresh = self.initial_state(len(again))
        if not kept:
            return fresh
        joined = ModelState.join([state.select(torch.tensor(kept)), fresh])
        return joined.select(torch.tensor([*kept, *sorted(again)]).argsort())

    def begin(self, batch: int) -> ModelState:
        """Before the first token, for `batch` rows: every layer begins by itself when it is called."""
        return ModelState((None,) * self.config.layers, self.signature, batch)

    @property
    def signature(self) -> str:
        """What tells a model's states from another's: its configuration, and mixers that are not
        the library's."""
        return " ".join((self.config.signature, *self.mixer_names))

    @property
    def mixer_names(self) -> tuple[str, ...]:
        """Mixers that are not the library's, each as variant=name."""
        return tuple(f"{variant}={_name(mixer)}".replace(" ", "") for variant, mixer in self.mixers.items())

    def forward(
        self,
        tokens: Tensor,
        state: ModelState | None = None,
        labels: Tensor | None = None,
        starts: Tensor | None = None,
    ) -> Output:
        """tokens [batch, tokens] of whole numbers below vocab_size. labels: the tokens that should
        have been there; token t is predicted from those before it, so labels=tokens trains a
        language model; -100 is not counted.

        starts: booleans [batch, tokens], True at the first token of each document that a row is packed with. There
            memory, momentum, convolution, segment and attention begin anew, and the label is not counted, so
            everything is as if each document had a row of its own. A row's tokens before its first
            True go on from `state`; the new state is that of each row's last document.

        Raises TypeError or ValueError, naming the argument, for tokens, labels, starts or a state that
        do not fit.
        """
        self.check_tokens("tokens", tokens)
        state = self.begin(tokens.shape[0]) if state is None else self.check_state(state, tokens)
        starts = None if starts is None else check_starts(starts, tokens)
        (x,), state = read_rows(self.reader(), self.embedding(tokens), state, starts=starts)
        logits = self.head(x)
        loss = None if labels is None else self.loss(logits, self.check_labels(labels, tokens), starts)
        return Output(logits, loss, state)

    def reader(self, every: bool = False) -> Reader:
        """What lets `titans.rows` read with this model; `every`, see `read`."""
        config = self.config
        chunks = -(-SHORTEST_STRETCH // config.chunk_size) * config.chunk_size
        in_segments = config.variant in ("mac", "attention")
        unit, ahead = (
            (min(config.segment_len, chunks), 0)
            if in_segments
            else (chunks, -config.persistent_tokens % config.chunk_size)
        )
        read, results = (partial(self.read, every=True), config.layers + 1) if every else (self.read, 1)
        together = all(getattr(block.mixer, "short", False) for block in self.layers())
        return Reader(read, self.begin, self.initial_state, unit, ahead, results, together)

    def read(self, x: Tensor, state: ModelState, every: bool = False) -> tuple[tuple[Tensor, ...], ModelState]:
        """The blocks over vectors x [batch, tokens, dim] of rows at one place: the last features, normalised, or
        with `every` x and those of each block, the last ones normalised; and the state after them."""
        seen, layers = [x], []
        for block, layer in zip(self.layers(), state.layers, strict=True):
            x, layer = block(x, layer)
            seen = [*seen, x] if every else [x]
            layers.append(layer)
        seen[-1] = self.norm(x)
        return tuple(seen), replace(state, layers=tuple(layers))

    def layers(self) -> Iterator[Block]:
        """The blocks, first to last."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def loss(self, logits: Tensor, labels: Tensor, starts: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of each token given those before it in its document; 0 where no label counts."""
        target = (labels if starts is None else labels.masked_fill(starts, IGNORED_LABEL))[:, 1:]
        logits = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
        losses = F.cross_entropy(logits.mT, target, ignore_index=IGNORED_LABEL, reduction="sum")
        return losses / (target != IGNORED_LABEL).sum().clamp(min=1)

    @torch.no_grad()
    @unchanged_parameters()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        state: ModelState | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_token: int | None = None,
        seed: int | None = None,
    ) -> tuple[Tensor, ModelState]:
        """Go on from tokens [batch, tokens], one token at a time, from a state whose size does not
        grow.

        temperature: 0 takes the likeliest token, else logits / temperature are sampled from, among
        the top_k likeliest (all, where there are fewer), and the fewest likeliest whose
        probabilities add up to top_p. A row that has met stop_token goes on with it; when all rows
        have, generation ends. The random numbers come from `seed`, else from torch's global
        generator.
        Returns the tokens given and made, [batch, tokens + new], and the state after all of them
        but the last.
        Raises TypeError or ValueError, naming the argument, for one that does not fit.
        """
        self.check_tokens("tokens", tokens)
        check_integer("max_new_tokens", max_new_tokens)
        if stop_token is not None:
            check_integer("stop_token", stop_token, 0, self.config.vocab_size - 1)
        generator = None
        if seed is not None:
            generator = torch.Generator(tokens.device).manual_seed(check_integer("seed", seed, 0, 2**64 - 1))
        choose = sampler(temperature, top_k, top_p, generator)
        output = self(tokens, state)
        made, done = [tokens], torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for step in range(max_new_tokens):
            if step > 0:
                output = self(made[-1], output.state)
            new = choose(output.logits[:, -1])
            if stop_token is not None:
                new = torch.where(done[:, None], stop_token, new)
                done |= new[:, 0] == stop_token
            made.append(new)
            if has_numbers(done) and bool(done.all()):
                break
        return torch.cat(made, dim=1), output.state

    def check_tokens(self, name: str, tokens: object) -> None:
        """Raise unless tokens is a non-empty [batch, tokens] tensor of ids that this model knows,
        on its device."""
        tokens = check_tensor(name, tokens)
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be int64 or int32, got {tokens.dtype}")
        if tokens.ndim != 2 or tokens.numel() == 0:
            raise ValueError(f"{name} must have shape [batch, tokens], both at least 1, got {list(tokens.shape)}")
        like = known(self.embedding.weight)
        if like is not None and tokens.device != like.device and not hasattr(self.embedding, "_hf_hook"):
            raise ValueError(f"{name} must be on the model's device {like.device}, got {tokens.device}")
        if not has_numbers(tokens):
            return
        low, high = (int(bound) for bound in torch.aminmax(tokens))
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(f"{name} must be in [0, {self.config.vocab_size - 1}], got values from {low} to {high}")

    def check_labels(self, labels: object, tokens: Tensor) -> Tensor:
        """Labels that fit the tokens, or the error that says why not."""
        labels = check_tensor("labels", labels)
        if labels.shape != tokens.shape:
            raise ValueError(f"labels must have the shape of tokens, {list(tokens.shape)}, got {list(labels.shape)}")
        self.check_tokens("labels (but for -100)", labels.masked_fill(labels == IGNORED_LABEL, 0))
        return labels.long()

    def check_state(self, state: object, tokens: Tensor) -> ModelState:
        """A state of this configuration, batch size, device and dtype, or the error that says why not."""
        check_instance("state", state, ModelState)
        assert isinstance(state, ModelState)
        if state.signature != self.signature:
            have, want = set(state.signature.split()), set(self.signature.split())
            raise ValueError(
                f"state belongs to another configuration: it has {sorted(have - want)}, needed is {sorted(want - have)}"
            )
        if state.batch != tokens.shape[0]:
            raise ValueError(f"state belongs to another batch size: it has {state.batch}, needed is {tokens.shape[0]}")
        if (have_layers := len(state.layers)) != self.config.layers:
            raise ValueError(f"state must hold a state for each of {self.config.layers} layers, got {have_layers}")
        made_by = [getattr(layer, "made_by", ())[:2] for layer in state.layers]
        if made_by == [(block.serial, state.batch) for block in self.layers()]:
            return state
        if not all(map(is_dense, every_tensor(state))):
            for name, tensor in state.tensors().items():
                check_tensor(f"state.{name}", tensor)
        for layer, part in enumerate(state.layers, 1):
            variant = self.config.variant_of(layer)
            if variant not in self.mixers and variant in KINDS and part is not None:
                check_layer(f"state.layers[{layer - 1}]", part, variant, self.config, state.batch)
        return state


def _name(mixer: object) -> str:
    """What makes a mixer, as text that is the same in every process."""
    if isinstance(mixer, partial):
        return f"{_name(mixer.func)}{mixer.args}{mixer.keywords}"
    return f"{getattr(mixer, '__module__', '')}.{getattr(mixer, '__qualname__', type(mixer).__qualname__)}"


def sampler(
    temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> Callable[[Tensor], Tensor]:
    """A function from logits [batch, vocab] to one chosen token a row, [batch, 1]."""
    check_number("temperature", temperature, 0, low_counts=True)
    if top_k is not None:
        check_integer("top_k", top_k)
    if top_p is not None:
        check_number("top_p", top_p, 0, 1)

    def choose(logits: Tensor) -> Tensor:
        if temperature == 0:
            return logits.argmax(-1, keepdim=True)
        # From the largest down, in float32 at least: no temperature is so low that a quotient is NaN.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        below = logits - logits.max(-1, keepdim=True).values
        chances = torch.softmax(below / max(temperature, 1e-30), dim=-1)
        chances, order = chances.sort(dim=-1, descending=True)
        if top_k is not None:
            chances[:, top_k:] = 0
        if top_p is not None:
            chances[chances.cumsum(-1) - chances >= top_p] = 0
        return order.gather(-1, torch.multinomial(chances, 1, generator=generator))

    return choose
