"""What transformers' source archive tests of every model, run on TitansMACForCausalLM.

The installed package has none of these tests, so they are not part of the suite; the tests of this folder restate them.

    pip download --no-deps --no-binary transformers transformers==5.23.0 && tar xf transformers-5.23.0.tar.gz
    touch transformers-5.23.0/tests/__init__.py  # not in the archive
    pip install parameterized
    TRANSFORMERS_SOURCE=transformers-5.23.0 pytest tests/huggingface/shipped.py

With 5.23.0, 76 of its 164 tests apply and pass. 86 skip themselves: they need an accelerator, or are of other kinds of
models. Three things are left out because they are refused: the fields `num_labels` and `chunk_size_feed_forward`, and
`shift_labels`, labels of a sequence that is cut across devices, which cannot hand a state from one to the next.
The archive lacks the tests of generation; what their documentation asks is in `test_generation.py`.
"""

from __future__ import annotations

import importlib
import os
import sys
import unittest
from pathlib import Path
from types import ModuleType

import torch

from tests.huggingface.models import make_config
from titans.huggingface import TitansMACConfig, TitansMACForCausalLM


def module(name: str, **contents: object) -> None:
    """A module of the archive's tests that it lacks, with what others import from it."""
    made = ModuleType(name)
    made.__dict__.update(contents, __path__=[])
    sys.modules[name] = made


package = ModuleType("shipped")
package.__path__ = [str(Path(os.environ["TRANSFORMERS_SOURCE"]).resolve() / "tests")]
sys.modules["shipped"] = package
module("shipped.exporters")
module("shipped.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
module("shipped.generation")
module("shipped.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
module("shipped.utils")
module("shipped.utils.test_configuration_utils", config_common_kwargs={"return_dict": False, "dtype": "float16"})
common = importlib.import_module("shipped.test_modeling_common")
configuration = importlib.import_module("shipped.test_configuration_common")


class Sizes:
    """What the tests ask of a `model_tester`."""

    batch_size, seq_length, is_training = 3, 11, True
    hidden_size, num_hidden_layers, num_attention_heads, vocab_size = 16, 2, 2, 49

    def get_config(self) -> TitansMACConfig:
        return make_config(pad_token_id=0, bos_token_id=1, eos_token_id=2)

    def prepare_config_and_inputs_for_common(self) -> tuple[TitansMACConfig, dict[str, torch.Tensor]]:
        ids = common.ids_tensor([self.batch_size, self.seq_length], self.vocab_size)
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class ShippedTest(common.ModelTesterMixin, common.GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (TitansMACForCausalLM,)
    has_attentions = False  # attention weights are never built whole

    def setUp(self) -> None:
        self.model_tester = Sizes()
        self.config_tester = configuration.ConfigTester(self, TitansMACConfig, d_model=16, num_heads=2)
        self.config_tester.create_and_test_config_with_num_labels = lambda: None

    def _prepare_for_class(self, inputs: dict, model_class: type, return_labels: bool = False) -> dict:
        inputs = super()._prepare_for_class(inputs, model_class, return_labels)
        return inputs | {"labels": inputs["input_ids"].clone()} if return_labels else inputs

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    @unittest.skip("shift_labels is refused")
    def test_causal_lm_loss_honors_shift_labels(self) -> None:
        pass

    @unittest.skip("chunk_size_feed_forward is refused")
    def test_feed_forward_chunking(self) -> None:
        pass
