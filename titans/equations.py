"""Where each equation of the paper (numbers of arXiv v1) is implemented, proved and explained.

`tests/proofs/test_equations.py` fails where a function, a test or a lesson that is named here does
not exist.
"""

from typing import NamedTuple


class Equation(NamedTuple):
    """what it says; the function that is it; the test that proves it; the lesson that explains it."""

    what: str
    code: str
    test: str
    lesson: str


EQUATIONS = {
    "8": Equation(
        "a write is a gradient step on the surprise",
        "titans.recurrence.surprise",
        "tests/proofs/test_recurrence.py::test_equation_8_a_write_is_a_step_down_the_gradient",
        "03_surprise_momentum_forgetting",
    ),
    "9-10": Equation(
        "past surprise is carried on by momentum",
        "titans.recurrence.recurrent_scan",
        "tests/proofs/test_recurrence.py::test_equations_9_and_10_past_surprise_is_carried_on",
        "03_surprise_momentum_forgetting",
    ),
    "11": Equation(
        "keys and values are projections of the token",
        "titans.neural_memory.NeuralMemory.project",
        "tests/memory/test_neural_memory.py::test_equation_11_keys_and_values_are_projections_of_the_token",
        "02_memory_module",
    ),
    "12": Equation(
        "the associative loss, and its gradient in factors",
        "titans.memory.DeepMemory.errors",
        "tests/proofs/test_recurrence.py::test_equation_12_surprise_is_the_slope_of_the_loss",
        "02_memory_module",
    ),
    "13-14": Equation(
        "the memory forgets before the surprise is added",
        "titans.recurrence.recurrent_scan",
        "tests/proofs/test_recurrence.py::test_equations_13_and_14_the_memory_forgets_before_the_surprise_is_added",
        "03_surprise_momentum_forgetting",
    ),
    "15": Equation(
        "reading is a forward pass",
        "titans.memory.DeepMemory.read",
        "tests/proofs/test_recurrence.py::test_equation_15_reading_is_a_forward_pass_with_the_weights_of_that_token",
        "02_memory_module",
    ),
    "16": Equation(
        "a chunk without momentum in closed form",
        "titans.chunked.chunk_mix",
        "tests/proofs/test_reductions.py::test_equation_16_as_printed",
        "05_training_in_parallel",
    ),
    "17": Equation(
        "the linear case as products of matrices",
        "titans.chunked.chunked_scan",
        "tests/proofs/test_reductions.py::test_equation_17_as_matrix_products_with_its_misprints_mended",
        "05_training_in_parallel",
    ),
    "18": Equation(
        "momentum in a chunk is a linear recurrence",
        "titans.chunked.chunk_mix",
        "tests/proofs/test_reductions.py::test_equation_18_momentum_in_a_chunk_is_a_linear_recurrence",
        "05_training_in_parallel",
    ),
    "19": Equation(
        "persistent tokens stand before all others",
        "titans.attention.attend",
        "tests/models/test_attention.py::test_equation_19_attention_is_softmax_over_prefix_and_past",
        "06_persistent_memory",
    ),
    "20": Equation(
        "attention onto persistent tokens is a feed-forward network",
        "titans.attention.attend",
        "tests/models/test_attention.py::test_equation_20_persistent_keys_and_values_alone_are_a_feed_forward_network",
        "06_persistent_memory",
    ),
    "21-25": Equation(
        "MAC: the memory is read into the context of each segment, and written with what attention makes of it",
        "titans.blocks.MAC.forward",
        "tests/models/test_blocks.py::test_equations_21_to_25_MAC_token_by_token",
        "07_mac",
    ),
    "26-28": Equation(
        "MAG: the memory is gated by a sliding window",
        "titans.blocks.MAG.forward",
        "tests/models/test_blocks.py::test_equations_26_to_28_MAG_token_by_token",
        "08_variants",
    ),
    "29-31": Equation(
        "MAL: a sliding window sees what the memory answers",
        "titans.blocks.MAL.forward",
        "tests/models/test_blocks.py::test_equations_29_to_31_MAL_token_by_token",
        "08_variants",
    ),
}
