"""What transformers asks of every model: embeddings, a start, files, checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from titans.hf.config import TitansMACConfig
from titans.model import TitansLM
from titans.neural_memory import NeuralMemory


class TitansPreTrainedModel(PreTrainedModel):
    """A `TitansLM` as `self.model`, with what transformers does to models."""

    config: TitansMACConfig
    config_class = TitansMACConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _tied_weights_keys: ClassVar[dict[str, str]] = {"model.head.weight": "model.embedding.weight"}

    def __init__(self, config: TitansMACConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing, self.checkpoint_every = False, 1
        self.model = TitansLM(config.to_titans())
        if config.initializer_range is not None:
            gates = {module.to_gates for module in self.model.modules() if isinstance(module, NeuralMemory)}
            for module in self.model.modules():
                if isinstance(module, nn.Linear | nn.Embedding) and module not in gates:
                    self._init_weights(module)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        return self.model.head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.model.head = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in transformers. States of the old vocabulary are refused afterwards."""
        embedding = super().resize_token_embeddings(*args, **kwargs)
        self.model.config = self.config.to_titans()
        return embedding

    def init_weights(self) -> None:
        """A new `TitansLM` has its start already; what is left is the tie of embedding and head, if there is one."""
        self.tie_weights(recompute_mapping=False)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Tensors that a file did not bring start as in a new model."""
        lacking = [name for name, tensor in self.named_parameters() if not getattr(tensor, "_is_hf_initialized", False)]
        if lacking:
            fresh = dict(type(self)(self.config).named_parameters())
            for name in lacking:
                self.get_parameter(name).copy_(fresh[name])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but for a file that lacks tensors or has others: that is refused.

        ignore_mismatched_sizes=True lets what is missing, or of another size, start as in a new model.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs["output_loading_info"] = True
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        for words, names in (("lacks", info["missing_keys"]), ("has unknown", info["unexpected_keys"])):
            if names and not kwargs.get("ignore_mismatched_sizes"):
                raise ValueError(
                    f"{pretrained_model_name_or_path} is no file of this model: it {words} {sorted(names)}"
                )
        return (model, info) if wants_info else model

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, every_n_layers: int = 1
    ) -> None:
        if enable and getattr(gradient_checkpointing_func, "keywords", {}).get("use_reentrant") is not False:
            raise ValueError("use_reentrant must be False: a state does not pass a reentrant checkpoint")
        self._gradient_checkpointing_func = gradient_checkpointing_func
        self.gradient_checkpointing, self.checkpoint_every = enable, every_n_layers
