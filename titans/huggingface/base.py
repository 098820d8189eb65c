"""What transformers asks of every model: embeddings, a start, files, checkpointing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from titans.huggingface.config import TitansMACConfig
from titans.model import Block, TitansLM
from titans.observe import memories
from titans.state import State
from titans.unchanged import long_way


class CheckpointedBlock(GradientCheckpointingLayer, Block):
    """A block whose activations can be computed again in the backward pass instead of kept.

    A checkpoint hands gradients on to tensors alone, so a state passes it as its tensors.
    """

    def __call__(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if not (self.gradient_checkpointing and self.training):
            return super().__call__(x, state)
        made: list[Any] = []
        parts = () if state is None else state.tensors().values()
        y, *tensors = super().__call__(x, *parts, state=state, made=made)
        new, made[0] = made[0].with_tensors(tensors), None  # nothing of the first run need be kept
        return y, new

    def forward(self, x: Tensor, *parts: Any, state: State | None = None, made: list | None = None) -> Any:
        """As a `Block`'s, or from the tensors of a state to tensors; `made` gets the state that the
        first are of."""
        if made is None:
            return super().forward(x, *parts)
        with long_way():  # it is run again with gradients, and must give as many tensors then
            y, new = super().forward(x, None if state is None else state.with_tensors(parts))
        if not made:
            made.append(new)
        return y, *new.tensors().values()


class CheckpointedLM(TitansLM):
    """A `TitansLM` of blocks that can be checkpointed."""

    block_type = CheckpointedBlock


class UndecayedRMSNorm(nn.RMSNorm, nn.LayerNorm):  # type: ignore[misc]
    """What nn.RMSNorm computes, and for Trainer a norm, whose scale no weight decay reaches: that
    goes by the kind nn.LayerNorm, or by names that are not ours (norm_mixer, norm_ffn, ...).

    `of` makes one of an nn.RMSNorm; it is built no other way.
    """

    @classmethod
    def of(cls, norm: nn.RMSNorm) -> None:
        """Change the kind of a norm, in its place."""
        norm.__class__ = cls
        norm.register_parameter("bias", None)  # as a LayerNorm without one has it


class TitansPreTrainedModel(PreTrainedModel):
    """A `TitansLM` as `self.model`, with what transformers does to models.

    Under Trainer's `weight_decay` fall projections, convolutions, embeddings, M_0, persistent tokens
    and memory queries, not the scales of norms nor the gates' biases: as in `titans.training`, where
    `parameter_groups` says why.
    """

    config: TitansMACConfig
    config_class = TitansMACConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["CheckpointedBlock"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"model.head.weight": "model.embedding.weight"}

    def __init__(self, config: TitansMACConfig) -> None:
        super().__init__(config)
        config.check()
        self.model = CheckpointedLM(config.to_titans())
        for module in self.model.modules():
            if type(module) is nn.RMSNorm:
                UndecayedRMSNorm.of(module)
        if config.initializer_range is not None:
            gates = {memory.to_gates for memory in memories(self.model)}
            for module in self.model.modules():
                if isinstance(module, nn.Linear | nn.Embedding) and module not in gates:
                    self._init_weights(module)
        self._mark_started()
        self.post_init()

    def _mark_started(self) -> None:
        """Whatever has numbers now is not to be started again; see `initialize_weights`."""
        for tensor in self.parameters():
            tensor._is_hf_initialized = not tensor.is_meta

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.model.head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.model.head = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in transformers. States of the old vocabulary are refused afterwards.

        Raises ValueError, afterwards too, if a special token of the configuration is none of the
        new vocabulary.
        """
        embedding = super().resize_token_embeddings(*args, **kwargs)
        self.model.config = self.config.to_titans()
        self._mark_started()
        self.config.check()
        return embedding

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Tensors that have no start, nor were brought by a file, start as in a new model; those on
        the meta device have no numbers, and wait."""
        lacking = [
            name
            for name, tensor in self.named_parameters()
            if not (tensor.is_meta or getattr(tensor, "_is_hf_initialized", False))
        ]
        if lacking:
            fresh = dict(type(self)(self.config).named_parameters(remove_duplicate=False))
            for name in lacking:
                self.get_parameter(name).copy_(fresh[name])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but for a file that is cut off, lacks tensors or has others: that is
        refused.

        ignore_mismatched_sizes=True lets what is missing, or of another size, start as in a new
        model; with output_loading_info=True nothing is refused, because what is missing is told
        there.
        """
        checked = pretrained_model_name_or_path is not None and not kwargs.get("output_loading_info")
        try:
            loaded = super().from_pretrained(
                pretrained_model_name_or_path, *args, **(kwargs | {"output_loading_info": True} if checked else kwargs)
            )
        except SafetensorError as error:
            raise ValueError(f"{pretrained_model_name_or_path} must hold whole safetensors files: {error}") from error
        if not checked:
            return loaded
        model, info = loaded
        for words, names in (("lacks", sorted(info["missing_keys"])), ("has unknown", sorted(info["unexpected_keys"]))):
            if names and not kwargs.get("ignore_mismatched_sizes"):
                found = f"{words} {len(names)} tensors: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
                raise ValueError(f"{pretrained_model_name_or_path} is no file of this model: it {found}")
        return model

    def attention_kernel(self) -> AbstractContextManager:
        """attn_implementation="eager" computes attention step by step, "sdpa" with the best kernel
        there is."""
        return sdpa_kernel(SDPBackend.MATH) if self.config._attn_implementation == "eager" else nullcontext()
