"""TitansMACConfig: the configuration of a MAC model as transformers knows configurations."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import AutoConfig, PreTrainedConfig

from titans.checks import check_flag, check_integer, keep_integers, keep_number
from titans.config import TitansConfig

# Fields of public implementations that are not implemented here, each with the one value that asks
# for nothing.
NOT_IMPLEMENTED: dict[str, Any] = {
    "num_residual_streams": 1,
    "use_flex_attn": False,
    "neural_memory_add_value_residual": False,
    "neural_mem_weight_residual": False,
    "neural_memory_qkv_receives_diff_views": False,
    "neural_memory_batch_size": None,
    "neural_memory_kwargs": None,
    "neural_memory_model": None,
    # Of transformers itself:
    "output_attentions": False,
    "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False,
    "per_layer_config": None,
    "problem_type": None,
    "experts_implementation": None,
    "tie_last_hidden_states": True,
}
TWO_LABELS = {0: "LABEL_0", 1: "LABEL_1"}  # what transformers gives every configuration, if it needs labels or not
# What transformers itself and its tools write into any configuration, and read there: kept as it is.
KEPT = {
    *("auto_map", "quantization_config", "custom_pipelines", "tokenizer_class", "processor_class"),
    "transformers_weights",
}
# What it passes, reads and stores besides fields.
OF_TRANSFORMERS = KEPT | {
    *("name_or_path", "_name_or_path", "model_type", "torch_dtype", "attn_implementation", "_commit_hash"),
    *("_attn_implementation", "_attn_implementation_internal", "_experts_implementation_internal"),
    "_output_attentions",
}


class TitansMACConfig(PreTrainedConfig):
    """What a MAC model is. Every field has a default that works; one that is unknown or not
    implemented is refused.

    num_tokens: vocabulary. d_model: features. depth: layers.
    num_heads, dim_head: attention heads, and the features of each; None takes d_model / num_heads.
    ff_mult: hidden width of the feed-forward network / d_model.
    segment_len: tokens of an attention segment. The memory is read for it with the weights at its
        start.
    sliding_window_attn: a token sees the context_window - 1 tokens before it, over borders of
        segments, instead of those of its own segment only. context_window has no other use: without
        sliding_window_attn it does nothing.
    neural_memory_segment_len: tokens that share the weights at which the memory's gradients are
        taken, its chunk (D1). It may be longer than segment_len: the chunk then runs on over the
        border. Tokens are still written one by one, and the next segment reads all that was written
        before it.
    num_memory_layers: layers of the network that the memory is; 1 is a matrix.
    num_longterm_mem_tokens: learned queries that read the memory at the start of each segment.
    persistent_size: learned tokens before all others, in every layer its own.
    neural_memory_layers: layers that have a memory, counted from 1; None for all. The others are
        attention alone.
    neural_mem_gate_attn_output: True lets the memory's read gate the attention's output (equation
        25), False adds it.
    dropout: share of what a layer adds that is zeroed in training.
    initializer_range: standard deviation of the embedding and of all projections at the start.
        None, the default, is this library's own start. Gates, norms, convolutions, M_0 and learned
        tokens start as they are meant to in both.
    use_cache: whether a call returns the state, which then is constant in size.
    pad_token_id, bos_token_id, eos_token_id: for generation; eos may be a list.
    tie_word_embeddings: one matrix for the embedding and the logits.
    What transformers and its tools write into any configuration, such as auto_map and
    quantization_config, is kept as it is.

    Raises TypeError or ValueError, naming the field, for a value that does not fit.
    """

    model_type: ClassVar[str] = "titans_mac"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "vocab_size": "num_tokens",
        "hidden_size": "d_model",
        "num_hidden_layers": "depth",
        "num_attention_heads": "num_heads",
        "head_dim": "dim_head",
    }

    num_tokens: int = 10_000
    d_model: int = 256
    depth: int = 2
    num_heads: int = 4
    dim_head: int | None = None
    ff_mult: float = 2.0
    segment_len: int = 32
    sliding_window_attn: bool = False
    context_window: int = 256
    neural_memory_segment_len: int = 16
    num_memory_layers: int = 2
    num_longterm_mem_tokens: int = 4
    persistent_size: int = 8
    neural_memory_layers: list[int] | tuple[int, ...] | None = None
    neural_mem_gate_attn_output: bool = True
    dropout: float = 0.0
    initializer_range: float | None = None
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **more: Any) -> None:
        kind = more.get("model_type", self.model_type)
        if kind != self.model_type:
            raise ValueError(f"model_type must be {self.model_type!r}, got {kind!r}")
        for name, value in list(more.items()):
            if name in NOT_IMPLEMENTED:
                _refuse(name, more.pop(name))
            elif name in self.attribute_map:
                self._check_alias(name, value)
            elif name not in OF_TRANSFORMERS and (name, value) != ("num_labels", len(TWO_LABELS)):
                raise ValueError(f"{name} is no field of {type(self).__name__}, got {value!r}")
        if self.label2id not in (None, {label: place for place, label in TWO_LABELS.items()}):
            raise ValueError(f"label2id is not implemented here, got {self.label2id}")
        dtype = getattr(torch, self.dtype, self.dtype) if isinstance(self.dtype, str) else self.dtype
        if not isinstance(dtype, torch.dtype | None):
            raise ValueError(f"dtype must be None, a dtype of torch or its name, got {self.dtype!r}")
        super().__post_init__(**more)
        self.check()

    def check(self) -> None:
        """Raise unless every field is what the class's description says."""
        keep_integers(self, "num_tokens", "d_model", "depth", "num_heads", "segment_len", "context_window")
        keep_integers(self, "neural_memory_segment_len", "num_memory_layers")
        keep_integers(self, "num_longterm_mem_tokens", "persistent_size", minimum=0)
        for name in ("sliding_window_attn", "neural_mem_gate_attn_output", "use_cache", "tie_word_embeddings"):
            check_flag(name, getattr(self, name))
        for name in ("output_hidden_states", "return_dict"):
            check_flag(name, getattr(self, name))
        keep_number(self, "ff_mult", 0)
        keep_number(self, "dropout", 0, 1, low_counts=True)
        if self.initializer_range is not None:
            keep_number(self, "initializer_range", 0)
        self._check_heads()
        self._check_memory_layers()
        self._check_token_ids()
        given = vars(self) | {"output_attentions": self.output_attentions}
        for name in NOT_IMPLEMENTED.keys() & given.keys():
            _refuse(name, given[name])
        if self.id2label != TWO_LABELS:
            raise ValueError(f"num_labels and id2label are not implemented here, got {self.id2label}")
        self.to_titans()

    def _check_alias(self, name: str, value: object) -> None:
        """Raise if a field is set by its own name and, otherwise, by transformers' common one."""
        own = self.attribute_map[name]
        if getattr(self, own) not in (value, getattr(type(self), own)):
            raise ValueError(f"{own} and {name} are one field, got {getattr(self, own)!r} and {value!r}")

    def _check_heads(self) -> None:
        if self.dim_head is None:
            if self.d_model % self.num_heads:
                given = f"got d_model={self.d_model}, num_heads={self.num_heads}"
                raise ValueError(f"d_model must be a multiple of num_heads where dim_head is None, {given}")
            self.dim_head = self.d_model // self.num_heads
        keep_integers(self, "dim_head")

    def _check_memory_layers(self) -> None:
        layers = self.neural_memory_layers
        if layers is not None and not isinstance(layers, list | tuple):
            raise TypeError(f"neural_memory_layers must be None or a list of layers, got {layers!r}")
        if layers:
            self.neural_memory_layers = [check_integer("neural_memory_layers", one, 1, self.depth) for one in layers]

    def _check_token_ids(self) -> None:
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            value = getattr(self, name)
            if name == "eos_token_id" and isinstance(value, list):
                value = [self._check_token_id(name, one) for one in value]
            else:
                value = self._check_token_id(name, value)
            setattr(self, name, value)

    def _check_token_id(self, name: str, value: int | None) -> int | None:
        return None if value is None else check_integer(name, value, 0, self.num_tokens - 1)

    def to_titans(self) -> TitansConfig:
        """The same model in this library's own words."""
        layers = self.neural_memory_layers
        return TitansConfig(
            variant="mac",
            vocab_size=self.num_tokens,
            dim=self.d_model,
            layers=self.depth,
            heads=self.num_heads,
            dim_head=self.dim_head or 0,
            ffn_expansion=self.ff_mult,
            segment_len=self.segment_len,
            window=self.context_window,
            sliding=self.sliding_window_attn,
            chunk_size=self.neural_memory_segment_len,
            memory_depth=self.num_memory_layers,
            memory_layers=None if layers is None else tuple(layers),
            memory_gate=self.neural_mem_gate_attn_output,
            persistent_tokens=self.persistent_size,
            memory_tokens=self.num_longterm_mem_tokens,
            dropout=self.dropout,
        )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but for what it sets afterwards, which is checked, and what it leaves
        over, refused."""
        wants_rest = kwargs.pop("return_unused_kwargs", False)
        for name in NOT_IMPLEMENTED.keys() & kwargs.keys():
            _refuse(name, kwargs.pop(name))
        kept = {name: kwargs.pop(name) for name in KEPT & kwargs.keys()}
        config, rest = super().from_dict(config_dict | kept, return_unused_kwargs=True, **kwargs)
        config.check()
        if rest and not wants_rest:
            raise ValueError(f"{', '.join(rest)} is no field of {cls.__name__}")
        return (config, rest) if wants_rest else config


def _refuse(name: str, value: Any) -> None:
    """Raise if a field that is not implemented asks for something."""
    if value != NOT_IMPLEMENTED[name] or type(value) is not type(NOT_IMPLEMENTED[name]):
        raise ValueError(f"{name} is not implemented here, it must be {NOT_IMPLEMENTED[name]!r}, got {value!r}")


AutoConfig.register(TitansMACConfig.model_type, TitansMACConfig)
