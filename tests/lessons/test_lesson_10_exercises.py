"""Lesson 10's exercises: what a reader might write, and a rule for the dearest bytes that does better than the one to
beat."""

import random
import re

import pytest
import torch

from titans.checkpoints import load_checkpoint
from titans.corpus import Text, as_bytes, bits
from titans.lesson.kit.exercise import Verdict
from titans.lesson.lesson_10 import exercises
from titans.observe import closed

torch.set_num_threads(1)

# ---- Exercises 1 and 2 on the model itself ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return load_checkpoint("text/mac")[0].requires_grad_(False)


def test_exercise_1_computes_what_the_library_does(model):
    tokens = as_bytes("def total(rows):\n    return sum(rows)\n").long()
    by_exercise = exercises.BITS.truth(model(tokens[None]).logits[0], tokens)
    torch.testing.assert_close(by_exercise, bits(model, tokens[None])[0], rtol=1e-4, atol=1e-4)


def test_what_overflows_is_told_what_to_do():
    def naive(logits, tokens):
        chances = logits.exp() / logits.exp().sum(-1, keepdim=True)
        return -chances[torch.arange(len(tokens) - 1), tokens[1:]].log2()

    verdict = exercises.BITS.check(naive)
    assert verdict.outcome == "not finite"
    assert "log_softmax" in verdict.english
    assert "log_softmax" in verdict.japanese


def by_memory(text, bits_on, bits_off, n):
    saving = torch.cat((torch.zeros(1), bits_off - bits_on))
    saved = {}
    for word in re.finditer(r"\w+", text):
        first, end = word.span()
        saved[word[0]] = saved.get(word[0], 0) + saving[first:end].sum()
    return sorted(saved, key=saved.get, reverse=True)[:n]


def test_exercise_2_deals_out_what_the_memory_saved_on_all_bytes_of_names(model):
    text = "import os\n\n\n" + "".join(f"def first_{n}(self):\n    return self.last_{n} + {n}\n\n" for n in range(6))
    tokens = as_bytes(text).long()[None]
    on, off = bits(model, tokens)[0], bits(closed(model), tokens)[0]
    inside = torch.tensor([letter.isalnum() or letter == "_" for letter in text])[1:]
    names = exercises.BY_MEMORY.names((text, on, off, 3))
    saved = {name: float(re.search(r"saved: (-?[\d.]+)", facts)[1]) for name, facts in names.items()}
    assert sum(saved.values()) == pytest.approx(float((off - on)[inside].sum()), abs=0.01 * len(saved))
    assert by_memory(text, on, off, 3) == sorted(saved, key=saved.get, reverse=True)[:3]


def test_a_name_in_pieces_is_none_of_the_names():
    verdict = exercises.BY_MEMORY.check(lambda text, on, off, n: ["find all"])
    assert verdict.outcome == "type"
    assert "none of the names that there are" in verdict.english


def test_what_decides_on_a_name_is_said():
    verdict = exercises.BY_MEMORY.check(lambda text, on, off, n: by_memory(text, on, off, n)[1:])
    assert verdict.outcome == "different"
    assert re.search(r"'\w+' belongs in the list: n = \d, bits saved: -?[\d.]+, rank 1\.", verdict.english)


# ---- Exercise 3 ------------------------------------------------------------------------------------------------------


def rarest(text, n):
    """The rarest characters; a word's first counts as half as frequent."""
    starts = [not (place and text[place - 1].isalnum()) for place in range(len(text))]
    return sorted(range(len(text)), key=lambda place: text.count(text[place]) / (1 + starts[place]))[:n]


def rarest_as_a_tensor(text, n):
    counts = torch.tensor([text.count(letter) for letter in text])
    starts = torch.tensor([not (place and text[place - 1].isalnum()) for place in range(len(text))])
    return (counts / (1 + starts)).topk(n, largest=False).indices


def first_letters(text, n):
    return [word.start() for word in re.finditer(r"\w+", text)][:n]


def anywhere(text, n):
    return random.Random(text).sample(range(len(text)), n)


PASSED = [rarest, rarest_as_a_tensor, lambda text, n: set(rarest(text, n)), lambda text, n: tuple(rarest(text, n))]
WRONG = {
    "first letters": [first_letters],
    "chance": [anywhere, lambda text, n: range(n)],
    "turned round": [lambda text, n: sorted(range(len(text)), key=lambda place: -text.count(text[place]))[:n]],
    "one off": [
        lambda text, n: [place - 1 for place in first_letters(text, n) if place],
        lambda text, n: [place + 1 for place in rarest(text, n) if place + 1 < len(text)],
    ],
    "few": [lambda text, n: rarest(text, n)[:4], lambda text, n: []],
}
REFUSED = {
    "todo": [lambda text, n: ...],
    "count": [lambda text, n: range(n + 1), lambda text, n: [letter.isupper() for letter in text]],
    "range": [lambda text, n: [-1], lambda text, n: [len(text)], lambda text, n: [0.5]],
    "shape": [lambda text, n: 3, lambda text, n: [[1, 2]]],
    "type": [lambda text, n: "12", lambda text, n: iter([1]), lambda text, n: {1: 2}],
    "nothing": [lambda text, n: None],
    "not finite": [lambda text, n: [float("nan")]],
    "error": [lambda text, n: [text.index("\0\0")]],
    "not a function": [None, ..., [1]],
}


def test_a_rule_that_names_the_rarest_characters_passes_in_any_form():
    for guess in PASSED:
        verdict = exercises.check_spikes(guess)
        assert verdict.outcome == "passed", verdict


@pytest.mark.parametrize(("outcome", "guess"), [(name, guess) for name, several in WRONG.items() for guess in several])
def test_a_rule_that_does_not_do_has_its_sentence_and_three_bytes_that_it_missed(outcome, guess):
    verdict = exercises.check_spikes(guess)
    assert verdict.outcome == outcome, verdict
    assert verdict.english.count("«") == verdict.japanese.count("«") == 3
    assert re.search("[ぁ-ん]", verdict.japanese)
    assert exercises.check_spikes(guess) == verdict


@pytest.mark.parametrize(
    ("outcome", "guess"), [(name, guess) for name, several in REFUSED.items() for guess in several]
)
def test_what_is_no_list_of_places_is_refused(outcome, guess):
    verdict = exercises.check_spikes(guess)
    assert isinstance(verdict, Verdict)
    assert verdict.outcome == outcome, verdict
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_asked_for_lies_between_the_rule_to_beat_and_one_that_beats_it(seed):
    """Whatever passages are drawn: chance finds a tenth, the first letters of words clearly more, and the rarest
    characters more again, by more than the factor that is asked for."""
    tokens = exercises.passages(seed)
    texts, wanted = [exercises.as_text(row) for row in tokens], exercises.dearest(tokens)
    n = len(wanted[0])

    def share(rule):
        return exercises.share_found([rule(text, n) for text in texts], wanted)

    assert {len(places) for places in wanted} == {exercises.LENGTH // exercises.DEAREST}
    assert abs(share(anywhere) - 1 / exercises.DEAREST) < 0.03
    assert share(first_letters) > 1.5 / exercises.DEAREST
    assert share(first_letters) == share(exercises.first_letters)
    assert share(rarest) > exercises.BEYOND * share(first_letters)


def test_passages_are_held_out_and_others_for_another_seed():
    one, other = exercises.passages(1), exercises.passages(2)
    assert one.shape == other.shape == (exercises.PASSAGES, exercises.LENGTH)
    assert not torch.equal(one, other)
    files = [bytes(file.tolist()) for file in Text().part("held out").values()]
    assert all(any(bytes(row.tolist()) in file for file in files) for row in one)
