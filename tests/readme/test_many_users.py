"""Continuous batching: whoever comes and goes, each user gets what he would get alone, in every variant."""

from __future__ import annotations

import re

import pytest
import torch

from tests.paths import NOTEBOOKS
from tests.proofs.model_proofs import VARIANTS, make_model

EXAMPLE = next(
    block
    for block in re.findall(
        r"^```python\n(.*?)^```$", (NOTEBOOKS / "LIBRARY.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    if "def serve(" in block
)
LENGTHS = ((15, 9), (40, 3), (2, 12), (16, 1), (1, 20), (33, 7))  # tokens of the prompt, and of the answer


@pytest.mark.parametrize("seats", [1, 3, 6])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_each_user_gets_the_answer_that_he_would_get_alone(variant, seats):
    model = make_model(variant)
    requests = [
        (f"user {number}", torch.randint(7, (prompt,), generator=torch.Generator().manual_seed(number)), answer)
        for number, (prompt, answer) in enumerate(LENGTHS)
    ]
    names: dict = {}
    exec(EXAMPLE, names)
    served = names["serve"](model, requests, seats)
    assert served.keys() == {name for name, *_ in requests}
    for name, prompt, answer in requests:
        alone, _ = model.generate(prompt[None], answer)
        assert served[name] == alone[0, len(prompt) :].tolist()
