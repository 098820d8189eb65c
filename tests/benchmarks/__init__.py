"""How fast the scan and the layer are, against what they ought to be: `python -m tests.benchmarks`."""
