"""One configuration for all variants."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

from titans.checks import check_choice, check_flag, check_integer, keep_integers, keep_number
from titans.neural_memory import FORGET_LAYERS

VARIANTS = ("mac", "mag", "mal", "lmm", "attention")


@dataclass(frozen=True)
class TitansConfig:
    """What a model is. Every field has a default that works.

    variant: "mac", "mag", "mal", "lmm", or "attention": MAC without its memory.
    vocab_size, dim, layers: tokens known, features, blocks.
    heads, dim_head: attention heads and the features of each; dim_head=0 takes dim / heads.
    ffn_expansion: hidden width of the SwiGLU / dim.
    segment_len: tokens that see one another in MAC and "attention". window: tokens that one sees in
        MAG and MAL.
    sliding: True lets a token of MAC or "attention" see the `window` tokens up to itself, over
        borders of segments.
    chunk_size: tokens that share the weights at which their gradients are taken (D1); a chunk and a
        segment are two things, and a chunk may be longer than a segment.
    memory_heads, memory_depth, memory_expansion, memory_residual: the memory, see `DeepMemory`.
    memory_layers: which layers of MAC have a memory, counted from 1; None for all. The others are
        "attention".
    memory_gate: False adds what MAC's memory reads to the attention's output, instead of gating it
        (equation 25).
    persistent_tokens: learned tokens before all others (equation 19), in every layer its own.
    memory_tokens: learned queries that read the memory at the start of each segment (MAC).
    conv_width, max_step, momentum, forgetting, forget_layers: see `NeuralMemory`.
    dropout: share of the numbers of each mixer's and network's output that is zeroed in training.
    """

    variant: str = "mac"
    vocab_size: int = 256
    dim: int = 64
    layers: int = 2
    heads: int = 2
    dim_head: int = 0
    ffn_expansion: float = 2.0
    segment_len: int = 32
    window: int = 64
    sliding: bool = False
    chunk_size: int = 16
    memory_heads: int = 1
    memory_depth: int = 2
    memory_expansion: int = 4
    memory_residual: bool = False
    memory_layers: tuple[int, ...] | None = None
    memory_gate: bool = True
    persistent_tokens: int = 4
    memory_tokens: int = 0
    conv_width: int = 4
    max_step: float = 1.0
    momentum: bool = True
    forgetting: bool = True
    forget_layers: str = "last"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, VARIANTS)
        check_choice("forget_layers", self.forget_layers, FORGET_LAYERS)
        sizes = ("vocab_size", "dim", "layers", "heads", "segment_len", "window", "chunk_size", "memory_heads")
        keep_integers(self, *sizes, "memory_depth", "memory_expansion", "conv_width")
        keep_integers(self, "persistent_tokens", "memory_tokens", "dim_head", minimum=0)
        keep_number(self, "ffn_expansion", 0)
        keep_number(self, "max_step", 0)
        keep_number(self, "dropout", 0, 1, low_counts=True)
        for name in ("ffn_expansion", "max_step", "dropout"):
            object.__setattr__(self, name, float(getattr(self, name)))  # 2 and 2.0 are one configuration
        for name in ("memory_residual", "momentum", "forgetting", "sliding", "memory_gate"):
            check_flag(name, getattr(self, name))
        for name in ("heads", "memory_heads"):
            if self.dim % getattr(self, name) and not (name == "heads" and self.dim_head):
                raise ValueError(f"dim must be a multiple of {name}, got dim={self.dim}, {name}={getattr(self, name)}")
        if self.head_size % 2:
            raise ValueError(f"dim_head must be even (rotary positions turn pairs of features), got {self.head_size}")
        if self.memory_tokens and self.variant != "mac":
            raise ValueError(f"memory_tokens must be 0 unless variant is 'mac', got {self.memory_tokens}")
        if self.sliding and self.variant not in ("mac", "attention"):
            raise ValueError(f"sliding must be False unless variant is 'mac' or 'attention', got {self.variant!r}")
        if not self.memory_gate and self.variant != "mac":
            raise ValueError(f"memory_gate must be True unless variant is 'mac', got {self.variant!r}")
        if self.memory_layers is not None:
            self._check_memory_layers()

    def _check_memory_layers(self) -> None:
        if self.variant != "mac":
            raise ValueError(f"memory_layers must be None unless variant is 'mac', got {self.variant!r}")
        if not isinstance(self.memory_layers, list | tuple):
            raise TypeError(f"memory_layers must be None or a tuple of layers, got {self.memory_layers!r}")
        layers = {check_integer("memory_layers", layer, 1, self.layers) for layer in self.memory_layers}
        object.__setattr__(self, "memory_layers", tuple(sorted(layers)))

    def variant_of(self, layer: int) -> str:
        """What mixes the tokens in a layer, counted from 1: in MAC those without a memory are "attention"."""
        return self.variant if self.memory_layers is None or layer in self.memory_layers else "attention"

    @property
    def head_size(self) -> int:
        """Features of an attention head."""
        return self.dim_head or self.dim // self.heads

    @cached_property
    def signature(self) -> str:
        """All fields as text, to tell one configuration from another."""
        fields = asdict(self) | {"dim_head": self.head_size}
        return " ".join(f"{name}={value!r}".replace(" ", "") for name, value in fields.items())
