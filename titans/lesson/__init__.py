"""What the lessons use and the model does not: pictures, live pictures, laboratories, exercise checks.

Nothing outside this package imports it. It needs the extra `lessons` (matplotlib, ipywidgets).
"""

import sys

import torch


def start() -> None:
    """Begin a lesson: one seed, and one thread, which is faster for the small tensors of a lesson."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_printoptions(precision=4, sci_mode=False)
    print(f"titans is ready (Python {sys.version_info.major}, PyTorch {torch.__version__.split('.')[0]})")
