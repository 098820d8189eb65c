"""What the tasks tell, ask and fill in is what they say, and nothing of it can be known without a memory."""

import pytest
import torch

from titans.config import TitansConfig
from titans.model import IGNORED_LABEL
from titans.tasks import (
    Needle,
    Recall,
    Task,
    TwoFacts,
    TwoFactsCurriculum,
    TwoHops,
    TwoHopsCurriculum,
    VariedRecall,
    alphabet,
    drifting_regression,
    text,
    text_batch,
)
from titans.training import Run

TASKS = [
    Recall(),
    Recall(pairs=3, keys=5, values=4, noise=2),
    Needle("noise"),
    Needle("text", digits=3, before=0),
    VariedRecall(4),
    TwoFacts(),
    TwoFacts("same", pairs=2, both=0.5),
    TwoHops(),
    TwoHops(2, 5, end_first=False, twice=0.5),
]
HIDDEN = (TwoFacts, TwoHops)  # answers that are not shown
each_task = pytest.mark.parametrize("task", TASKS, ids=repr)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@each_task
def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(task: Task):
    one, same, other = (task.sample(4, 20, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.tokens, same.tokens)
    assert torch.equal(one.labels, same.labels)
    assert one.tokens.shape != other.tokens.shape or not torch.equal(one.tokens, other.tokens)


@each_task
def test_tokens_are_in_the_vocabulary_and_labels_are_tokens_or_do_not_count(task: Task):
    batch = task.sample(50, 40, seeded())
    assert 0 <= int(batch.tokens.min()) <= int(batch.tokens.max()) < task.vocab_size
    counts = batch.labels != IGNORED_LABEL
    assert isinstance(task, HIDDEN) or torch.equal(batch.labels[counts], batch.tokens[counts])
    assert int(batch.labels.max()) < task.vocab_size
    assert (counts.sum(1) == counts[0].sum()).all()


def test_recall_asks_every_pair_that_it_told_in_another_order():
    task = Recall()
    told = task.tell(100, seeded())
    facts = told.tokens.view(100, 6, 2)
    asked = told.asked.tokens.view(100, 6, 2)
    assert torch.equal(facts.sort(dim=1).values[:, :, 0], asked.sort(dim=1).values[:, :, 0])
    for pairs, questions in zip(facts.tolist(), asked.tolist(), strict=True):
        assert dict(pairs) == dict(questions)
        assert len(dict(pairs)) == 6  # no key twice
    assert (facts != asked).any(dim=(1, 2)).sum() > 90
    labels = told.asked.labels.view(100, 6, 2)
    assert torch.equal(labels[:, :, 1], asked[:, :, 1])
    assert (labels[:, :, 0] == IGNORED_LABEL).all()


def test_varied_recall_trains_with_any_number_of_pairs_from_two_and_tests_with_all():
    task = VariedRecall(pairs=5, keys=8)
    batches = [task.sample(3, 10, seeded(seed)) for seed in range(60)]
    assert {int((batch.labels != IGNORED_LABEL).sum(1)[0]) for batch in batches} == {2, 3, 4, 5}
    assert all(batch.tokens.shape[1] == 10 + 4 * int((batch.labels[0] != IGNORED_LABEL).sum()) for batch in batches)
    assert task.tell(3, seeded()).tokens.shape == (3, 10)


def facts_told(row: list[int], below: int) -> dict[int, int]:
    """What leads to what: neighbours that are both below a token id, taken two by two from where they begin."""
    pairs, place = {}, 0
    while place + 1 < len(row):
        if row[place] < below:
            pairs[row[place]] = row[place + 1]
            place += 1
        place += 1
    return pairs


@pytest.mark.parametrize("end_first", [True, False])
def test_two_hops_lead_where_their_facts_lead_and_every_kind_of_question_occurs(end_first: bool):
    task, kinds = TwoHops(chains=3, things=6, noise=4, twice=0.5, end_first=end_first), set()
    told = task.tell(60, seeded())
    for row, asked, labels in zip(told.tokens.tolist(), *(t.tolist() for t in told.asked), strict=True):
        leads = facts_told(row, 18)
        assert len(leads) == 6
        assert (row[0] >= 6) == end_first  # the first key is a b
        assert all(18 <= token < 22 for token in row[6:-6])
        assert len(asked) == 7
        for place in range(0, 6, 2):
            mark, key, answer = asked[place], asked[place + 1], labels[place + 2]
            assert answer == (leads[leads[key]] if mark == task.vocab_size - 1 else leads[key])
            kinds.add((mark, key // 6))
        assert [place for place, label in enumerate(labels) if label != IGNORED_LABEL] == [2, 4, 6]
    assert kinds == {(23, 0), (22, 0), (22, 1)}


@pytest.mark.parametrize("of", ["sum", "same"])
def test_two_facts_are_joined_as_it_says_and_of_one_the_value_is_asked_for(of: str):
    task, alone = TwoFacts(of, pairs=4, keys=6, values=3, noise=2, both=0.5), []
    told = task.tell(60, seeded())
    for row, asked, labels in zip(told.tokens.tolist(), *(t.tolist() for t in told.asked), strict=True):
        value = {key: token - 6 for key, token in facts_told(row, 6).items()}
        for place in range(0, 8, 2):
            one, other, answer = asked[place], asked[place + 1], labels[place + 2] - 6
            joined = (value[one] + value[other]) % 3 if of == "sum" else int(value[one] == value[other])
            assert answer == (value[one] if one == other else joined)
            alone.append(one == other)
    assert 0.4 < sum(alone) / len(alone) < 0.6
    both = TwoFacts(of, pairs=4, keys=6).tell(60, seeded()).asked.tokens[:, :8].view(60, 4, 2)
    assert (both[..., 0] != both[..., 1]).all()


def test_a_curriculum_begins_with_what_is_easier_and_is_measured_on_what_is_not():
    task = TwoHopsCurriculum(chains=3)
    config = TitansConfig(vocab_size=task.vocab_size, dim=8, heads=1, layers=1)
    run = Run(config, task, between=(3, 3), steps=10, rows=64)
    twice = task.vocab_size - 1
    shares = [float((run.batch(0, step).tokens == twice).any(1).float().mean()) for step in range(10)]
    assert shares[:2] == [0, 0]
    assert min(shares[2:]) > 0.5
    assert len({run.batch(0, step).tokens.shape[1] for step in range(10)}) == 2  # two chains, or three
    measured = task.tell(8, seeded()).asked.tokens
    assert (measured[:, ::2] == twice).all()
    assert (TwoFactsCurriculum().tell(8, seeded()).asked.tokens == TwoFacts().tell(8, seeded()).asked.tokens).all()
    joint = TwoFactsCurriculum().sample(64, 3, seeded()).tokens[:, -9:-1].view(64, 4, 2)
    assert 0.3 < float((joint[..., 0] == joint[..., 1]).float().mean()) < 0.7


def test_recall_has_noise_of_its_own_between_and_as_much_as_asked_for():
    task = Recall()
    batch = task.sample(20, 30, seeded())
    assert batch.tokens.shape == (20, 12 + 30 + 12)
    between = batch.tokens[:, 12:42]
    assert int(between.min()) >= 64
    assert int(between.max()) < task.vocab_size == 96


def test_values_of_recall_are_even_so_that_chance_is_one_in_values():
    answers = Recall().tell(4000, seeded()).asked.tokens[:, 1::2] - 32
    shares = torch.bincount(answers.flatten(), minlength=32) / answers.numel()
    assert (shares - 1 / 32).abs().max() < 0.005


@pytest.mark.parametrize("kind", ["noise", "text"])
def test_a_needle_is_asked_for_by_its_mark_and_hidden_nowhere_else(kind: str):
    task = Needle(kind, digits=4)
    told = task.tell(30, seeded())
    needle = told.tokens[:, -5:]
    assert torch.equal(needle, told.asked.tokens)
    assert (needle[:, 0] == task.vocab_size - 1).all()
    assert torch.equal(told.asked.labels[:, 1:], needle[:, 1:])
    hay = torch.cat((told.tokens[:, :-5], task.pass_time(30, 200, seeded(1))), dim=1)
    assert int(hay.max()) < len(alphabet()) <= int(needle.min())


def test_a_needle_may_stand_anywhere_in_a_segment():
    lengths = {Needle().tell(1, seeded(seed)).tokens.shape[1] for seed in range(300)}
    assert lengths == set(range(5, 38))


def test_hay_of_text_is_text():
    read = "".join(alphabet()[token] for token in text_batch(1, 60, seeded(3))[0])
    assert read in text() + text()
    assert not set(alphabet()) & set("0123456789")


def test_a_drifting_regression_drifts_as_far_as_it_says():
    """v is A k: least squares over a short stretch finds A_0; later it is another, of the same size."""
    k, v = drifting_regression(1, 4000, 4, seeded(), drift=0.05)
    assert k.shape == v.shape == (1, 1, 4000, 4)
    assert (k.norm(dim=-1) - 1).abs().max() < 1e-5
    still_k, still_v = drifting_regression(1, 50, 4, seeded(), drift=1e-9)
    found = torch.linalg.lstsq(still_k[0, 0], still_v[0, 0])
    assert (still_k[0, 0] @ found.solution - still_v[0, 0]).abs().max() < 1e-4
    drifted = torch.linalg.lstsq(k[0, 0, :50], v[0, 0, :50]).solution
    errors = (k[0, 0] @ drifted - v[0, 0]).norm(dim=1)
    assert errors[2000:].mean() > 3 * errors[:50].mean()
    assert 0.3 < v[0, 0, 2000:].norm(dim=1).mean() / v[0, 0, :50].norm(dim=1).mean() < 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Recall(pairs=0), ValueError, "pairs must be at least 1, got 0"),
        (lambda: Recall(keys=2.5), TypeError, "keys must be an integer, got 2.5"),
        (lambda: Recall(pairs=9, keys=8), ValueError, "pairs must be at most keys, got pairs=9 and keys=8"),
        (lambda: VariedRecall(1), ValueError, "pairs must be at least 2, got 1"),
        (lambda: Needle("hay"), ValueError, "kind must be one of 'noise', 'text', got 'hay'"),
        (lambda: Needle(digits=0), ValueError, "digits must be at least 1, got 0"),
        (lambda: Needle(before=-1), ValueError, "before must be at least 0, got -1"),
        (lambda: drifting_regression(1, 0, 4, seeded()), ValueError, "tokens must be at least 1, got 0"),
        (lambda: drifting_regression(1, 5, 4, seeded(), drift=2), ValueError, r"drift must be in \(0, 1\], got 2"),
    ],
)
def test_a_task_refuses_what_it_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()
