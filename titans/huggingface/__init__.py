"""The MAC model as a causal language model of Hugging Face's transformers, which is an optional
extra, `hf`.

Importing this package registers both classes with AutoConfig and AutoModelForCausalLM. `python -m
titans.huggingface` is an example of everything.
"""

from titans.huggingface.cache import TitansCache
from titans.huggingface.config import TitansMACConfig
from titans.huggingface.model import TitansMACForCausalLM

__all__ = ["TitansCache", "TitansMACConfig", "TitansMACForCausalLM"]
