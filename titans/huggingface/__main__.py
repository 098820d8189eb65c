"""An example of everything: `python -m titans.huggingface`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from titans.huggingface import TitansCache, TitansMACConfig, TitansMACForCausalLM


def main() -> None:
    """Build a model, train a step, generate, save, load, and go on from a saved state."""
    disable_progress_bar()
    torch.manual_seed(0)
    config = TitansMACConfig(num_tokens=100, d_model=32, depth=2, num_heads=2, segment_len=8, context_window=16)
    model = TitansMACForCausalLM(config)
    input_ids = torch.randint(config.num_tokens, (1, 24))

    outputs = model(input_ids=input_ids, labels=input_ids)
    print(f"logits {list(outputs.logits.shape)}, loss {outputs.loss:.2f}")
    outputs.loss.backward()
    torch.optim.AdamW(model.parameters(), lr=1e-2).step()
    print(f"loss after one step of training {model(input_ids=input_ids, labels=input_ids).loss:.2f}")

    model.eval()
    whole = model.generate(input_ids, max_new_tokens=20, do_sample=False)
    first = model.generate(input_ids, max_new_tokens=12, do_sample=False, return_dict_in_generate=True)
    print(f"{input_ids.shape[1]} tokens read, 20 written: {whole[0, 24:].tolist()}")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        first.past_key_values.save(Path(folder) / "state.safetensors")
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        state = TitansCache.load(Path(folder) / "state.safetensors")
    rest = loaded.generate(first.sequences, past_key_values=state, max_new_tokens=8, do_sample=False)
    print(f"the last 8 of them by the loaded model from the saved state: {rest[0, -8:].tolist()}")
    print(f"the same as in one call: {torch.equal(rest, whole)}")


if __name__ == "__main__":
    main()
