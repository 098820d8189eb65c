"""`notebooks/build.py`, which is a program and in no package, as a module: `build`."""

from __future__ import annotations

import importlib.util
import sys

from tests.paths import NOTEBOOKS

sys.path.insert(0, str(NOTEBOOKS))  # as for a program: what stands beside it can be imported
spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
sys.path.remove(str(NOTEBOOKS))
