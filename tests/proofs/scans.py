"""The two scans and the activations that proofs run on, and the cases that can be compared."""

from __future__ import annotations

import pytest

from tests.proofs import proofs
from tests.proofs.strategies import ACTIVATIONS, Case, make
from titans import chunked_scan, recurrent_scan

SCANS = {"recurrent": recurrent_scan, "chunked": chunked_scan}
each_scan = pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def is_tame(case: Case) -> bool:
    """Descent does not diverge: where it does, rounding grows with everything else, and there is nothing to compare."""
    problem = make(case)
    found = proofs.results(problem, *proofs.run(proofs.plain_loop(case), problem))
    return max(float(tensor.detach().abs().max()) for tensor in found.values()) < 1e3
