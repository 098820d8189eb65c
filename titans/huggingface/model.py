"""TitansMACForCausalLM: what a call takes and gives, and what `generate` asks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import can_return_tuple

from titans.checks import check_integer, check_number, check_range, check_shape, check_tensor, known
from titans.huggingface.base import TitansPreTrainedModel
from titans.huggingface.cache import TitansCache
from titans.huggingface.config import TitansMACConfig
from titans.model import IGNORED_LABEL
from titans.rows import RowStates, read_rows
from titans.unchanged import unchanged_parameters


class TitansMACForCausalLM(TitansPreTrainedModel, GenerationMixin):
    """A `TitansLM` of variant "mac" behind transformers' interface; see `forward` for what a call
    takes and gives."""

    accepts_loss_kwargs = True

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: TitansCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        position_ids: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Read some tokens; `.logits` [batch, tokens, num_tokens] predict what comes after each.

        input_ids: [batch, tokens], or inputs_embeds: [batch, tokens, d_model].
        attention_mask: [batch, tokens], or with the tokens before them; 0 where a position is no
            token of its row. The model skips it, wherever it stands, so padding changes nothing.
            A skipped position repeats the logits of the last token before it. What was read before
            cannot be skipped any more: there the mask must mark as many tokens as were read.
        position_ids: [batch, tokens], or [1, tokens] for all rows. Where a token's is 0 a document begins, as in what
            DataCollatorWithFlattening packs: memory, momentum, convolution, segment and attention
            begin anew, and everything is as if each document had a row of its own. Elsewhere they
            only count on, from anything, and nothing depends on them.
        past_key_values: what was read before, moved on in place if use_cache; the output's goes on
            from here.
        labels: [batch, tokens]; the mean over all that count is `.loss`. Token t is predicted from
            those before it; -100 is not counted, nor is a label at a skipped position or right
            after one, nor the first of a call or of a document.
        num_items_in_batch: labels to divide by instead, at least 1, where a batch is spread over several calls.
            Trainer counts all but -100 and the first of each row: where padding is on the left, the
            first token's label should be -100.
        output_hidden_states: `.hidden_states`, embedding and layers, the last one normalised.
        logits_to_keep: only the logits of so many last positions, or of these positions [n]; 0 for
            all.
        Raises TypeError or ValueError, naming the argument, for one that does not fit.
        """
        if output_attentions:
            raise ValueError("output_attentions is not implemented: attention weights are never built whole")
        x = self.embed(input_ids, inputs_embeds)
        cache = TitansCache() if past_key_values is None else past_key_values
        state = self.check_cache(cache, x)
        mask = check_mask(attention_mask, x, state)
        logits_to_keep = check_kept(logits_to_keep, x.shape[1])
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        starts = check_positions(position_ids, x, mask)
        with self.attention_kernel():
            hidden, after = read_rows(self.model.reader(bool(keep)), x, state.state, mask, starts)
        logits = self.model.head(slice_logits_to_keep(hidden[-1], logits_to_keep))
        loss = None if labels is None else self.loss(logits, labels, x, mask, starts, num_items_in_batch)
        moves_on = self.config.use_cache if use_cache is None else use_cache
        if moves_on:
            cache.state = state.moved_on(after, x.shape[1], mask)
        return CausalLMOutputWithPast(loss, logits, cache if moves_on else None, hidden if keep else None)

    def embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """[batch, tokens, d_model] of the one that is given."""
        self.check_inputs(input_ids, inputs_embeds)
        return self.model.embedding(input_ids) if inputs_embeds is None else inputs_embeds

    def check_inputs(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> None:
        """Raise unless one of them is given, and fits."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, one of them and not both")
        if inputs_embeds is None:
            self.model.check_tokens("input_ids", input_ids)
        else:
            shape = {"batch": None, "tokens": None, "d_model": self.config.d_model}
            check_shape("inputs_embeds", inputs_embeds, shape, like=known(self.model.embedding.weight))

    def loss(
        self,
        logits: Tensor,
        labels: Tensor,
        x: Tensor,
        mask: Tensor | None,
        starts: Tensor | None,
        count: Tensor | int | None,
    ) -> Tensor:
        """Cross-entropy of each label that counts, given the tokens before it, divided by `count`
        or their number."""
        if logits.shape[:2] != x.shape[:2]:
            raise ValueError("labels need the logits of every position: logits_to_keep must be 0")
        labels = self.model.check_labels(labels, x[..., 0])
        if mask is not None:
            labels = labels.where(mask & F.pad(mask, (1, 0))[:, :-1], IGNORED_LABEL)
        if starts is not None:
            labels = labels.masked_fill(starts, IGNORED_LABEL)
        counted = labels[:, 1:] != IGNORED_LABEL
        divisor = torch.as_tensor(counted.sum() if count is None else check_count(count, counted))
        divisor = divisor.clamp(min=1)  # where no label counts the loss is 0
        return self.loss_function(logits, labels, vocab_size=self.config.num_tokens, num_items_in_batch=divisor)

    def check_cache(self, cache: object, x: Tensor) -> RowStates:
        """The state to go on from, or the error that says why this cache is none for x."""
        if not isinstance(cache, TitansCache):
            raise TypeError(f"past_key_values must be a TitansCache, got {type(cache).__name__}")
        if cache.state is None:
            return RowStates.begin(self.model.begin(x.shape[0]))
        if cache.state.batch != x.shape[0]:
            raise ValueError(f"past_key_values must have the batch size {x.shape[0]}, got {cache.state.batch}")
        if len(cache.state.counts) != x.shape[0]:
            raise ValueError(f"past_key_values must count the tokens of each row, got {cache.state.counts}")
        self.model.check_state(cache.state.state, x)
        return cache.state

    @unchanged_parameters()
    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers."""
        return super().generate(*args, **kwargs)

    # ---- What `generate` asks ----------------------------------------------------------------------------------------

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _prepare_model_inputs(self, *args: Any) -> tuple[Tensor, str, dict[str, Any]]:
        """As in transformers, and checked before anything is done with it."""
        prompt, name, more = super()._prepare_model_inputs(*args)
        self.check_inputs(**({"input_ids": None, "inputs_embeds": None} | {name: prompt}))
        return prompt, name, more

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict, *args: Any) -> None:
        if generation_config.cache_implementation is not None:
            given = generation_config.cache_implementation
            raise ValueError(
                f"cache_implementation must be None: the state is constant in size as it is, got {given!r}"
            )
        given = model_kwargs.get("past_key_values")
        if given is not None and not generation_config.use_cache:
            raise ValueError("use_cache must be True where past_key_values is given: it is moved on, token by token")
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)
        if generation_config.use_cache and given is None:
            model_kwargs["past_key_values"] = TitansCache()

    def _prepare_position_ids_for_generation(self, *args: Any) -> None:
        """None: those that `generate` makes count tokens and padding from what it is given on, which begins nothing."""

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        inputs_embeds: Tensor | None = None,
        tokenizer: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in transformers, but for tokens that would be cut off: that is refused.

        tokenizer: of stop_strings. `generate` hands it to the model too, which has no use for it.
        """
        if next_sequence_length is not None and next_sequence_length < 1:
            raise ValueError(
                "input_ids must hold all that past_key_values has read and what is new, or only what is new beside an "
                f"attention_mask over both: {1 - next_sequence_length} tokens are lacking"
            )
        return super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, inputs_embeds=inputs_embeds, **kwargs
        )

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: its pages hold keys and values of all tokens, and there are none."""
        raise NotImplementedError("continuous batching is not implemented: use generate with a padded batch")


def check_mask(mask: object, x: Tensor, state: RowStates) -> Tensor | None:
    """What an attention mask says of x [batch, tokens, dim], as booleans, or the error that says
    why it fits not."""
    if mask is None:
        return None
    mask = check_tensor("attention_mask", mask)
    batch, tokens, seen = *x.shape[:2], state.seen
    if mask.ndim != 2 or mask.shape[0] != batch or mask.shape[1] not in (tokens, seen + tokens):
        before = f", or {seen} more for what was read before" if seen else ""
        raise ValueError(f"attention_mask must have shape [{batch}, {tokens}]{before}, got {list(mask.shape)}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"attention_mask must hold 0 and 1 alone, got values from {mask.min():g} to {mask.max():g}")
    if mask.shape[1] > tokens:
        check_past(mask[:, :seen], state)
    return mask[:, -tokens:].to(x.device, torch.bool)


def check_past(mask: Tensor, state: RowStates) -> None:
    """Raise unless a mask over what was read before marks as many tokens as each row has read."""
    for row, (marked, count) in enumerate(zip(mask.sum(1).tolist(), state.counts, strict=True)):
        if marked != count:
            raise ValueError(
                f"attention_mask must mark what past_key_values has read: row {row} has read {count} tokens, "
                f"{marked:g} are marked. Without a mask, generate marks all tokens but pad_token_id, and a "
                "row that has ended reads the padding that generate writes behind it"
            )


def check_positions(positions: object, x: Tensor, mask: Tensor | None) -> Tensor | None:
    """Where documents begin in x [batch, tokens, dim], as booleans, or the error that says why the
    position_ids tell nothing of the kind.

    They must count on from token to token, padding counted or not, but where they are 0.
    """
    if positions is None:
        return None
    positions, (batch, tokens) = check_tensor("position_ids", positions), x.shape[:2]
    if positions.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"position_ids must be int64 or int32, got {positions.dtype}")
    if positions.shape not in ((batch, tokens), (1, tokens)):
        shape = list(positions.shape)
        raise ValueError(f"position_ids must have shape [{batch}, {tokens}] or [1, {tokens}], got {shape}")
    positions = positions.expand(batch, tokens).to(x.device)
    mask = torch.ones_like(positions, dtype=torch.bool) if mask is None else mask
    rows, places = mask.nonzero().unbind(1)
    own = positions[rows, places]
    step, same_row = own.diff(), rows.diff() == 0
    wrong = same_row & (own[1:] != 0) & (step != 1) & (step != places.diff())
    if bool(wrong.any()):
        where = int(wrong.nonzero()[0, 0]) + 1
        raise ValueError(
            "position_ids must be 0 at the first token of a document and count on inside it, "
            f"got {int(own[where])} after {int(own[where - 1])} in row {int(rows[where])}"
        )
    return positions == 0


def check_kept(keep: object, tokens: int) -> int | Tensor:
    """logits_to_keep, a number of positions or a tensor of places among `tokens` positions, or the
    error that says why it is none."""
    if not isinstance(keep, Tensor):
        return check_integer("logits_to_keep", keep, minimum=0)
    keep = check_tensor("logits_to_keep", keep)
    if keep.ndim != 1 or keep.numel() == 0 or keep.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"logits_to_keep must be whole numbers [n], n at least 1, got {keep.dtype} {list(keep.shape)}")
    check_range("logits_to_keep", keep, 0, tokens - 1)
    return keep


def check_count(count: object, counted: Tensor) -> int | float:
    """num_items_in_batch, or the error that says why it is none: at least 1, where a label counts."""
    if isinstance(count, Tensor):
        if check_tensor("num_items_in_batch", count).numel() != 1:
            raise ValueError(f"num_items_in_batch must be one number, got shape {list(count.shape)}")
        count = count.item()
    least = 1 if count != 0 or bool(counted.any()) else 0
    return check_number("num_items_in_batch", count, least, low_counts=True)


AutoModelForCausalLM.register(TitansMACConfig, TitansMACForCausalLM)
# Trainer looks here to know that labels are those of the next token, when it smooths them itself.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[TitansMACConfig.model_type] = TitansMACForCausalLM.__name__
