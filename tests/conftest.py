from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Asserts of the rooms' helpers say as much as those of the tests.
pytest.register_assert_rewrite(*(f"tests.{room.parent.name}" for room in Path(__file__).parent.glob("*/__init__.py")))

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run where there is one, and are no part of the suite elsewhere."""
    if not torch.cuda.is_available():
        without = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]
