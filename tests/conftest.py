import pytest
import torch
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.proofs")

# The tensors here are tiny: a second thread only costs time.
torch.set_num_threads(1)

# The same examples in every run; a failing one is printed with what replays it.
settings.register_profile(
    "titans",
    deadline=None,
    derandomize=True,
    print_blob=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("titans")
