"""Lesson 10: what it measures is what its words say, its tables and pictures show the card, and its claims hold."""

import json
import re
import zlib
from collections import Counter

import pytest
import torch
from torch import Tensor

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_words
from tests.paths import SOURCES
from titans import text_measures
from titans.checkpoints import load_checkpoint
from titans.corpus import Text, as_bytes, bits
from titans.lesson.kit import cards
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.kit.watching import memory_of
from titans.lesson.lesson_10 import exercises, pictures, reading, texts, trials
from titans.observe import closed
from titans.recipes import RECIPES

CARD = cards.card("text")
RUNS = CARD["runs"]
LAST = "16384"


@pytest.fixture(scope="module")
def model():
    return load_checkpoint("text/mac")[0].requires_grad_(False)


@pytest.fixture(scope="module")
def files() -> Tensor:
    """Ten held-out files, of thirty or so that are long enough."""
    return trials.held_out(8192)[::3]


@pytest.fixture(scope="module")
def cases(model, files) -> dict[str, Tensor]:
    return trials.memory_cases(model, files, after=320)


def median(run: str, end: str = LAST, kind: str = "bits") -> float:
    return RUNS[run][kind][end]["median"]


def data(row: Tensor) -> bytes:
    return bytes(row.tolist())


# ---- Places and what stands before them ------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(512, 64), (2048, 512), (0, 64)])
def test_borders_are_those_of_segments_and_rows_are_pieces_of_their_files(model, files, before, after):
    first, second = text_measures.borders(files, before, after)
    places = (2048, 4096, 6144)
    assert all(place % model.config.segment_len == 0 for place in places)
    assert len(first) == len(second) == len(places) * len(files)
    for row, (old, new) in enumerate(zip(first, second, strict=True)):
        file, place = files[row % len(files)], places[row // len(files)]  # so one row's file is not the next one's
        assert torch.equal(old, file[place - before : place])
        assert torch.equal(new, file[place : place + after])


def test_there_are_some_hundred_borders_with_512_bytes_before_each():
    first, _ = text_measures.borders(trials.held_out(8192), 512, 512)
    assert 60 < len(first) < 150
    assert first.shape[1] == 512


def test_a_state_is_the_same_however_the_bytes_were_cut(model, files):
    whole = model(files[:1, :1500].long()).state.tensors()
    for name, tensor in text_measures.read(model, files[:1, :1500]).tensors().items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-4, atol=1e-4)


def test_what_is_held_out_is_the_beginning_of_every_long_file():
    """But for tables of characters."""
    parts = Text().part("held out").items()
    long = [file for name, file in parts if len(file) >= 8192 and not name.startswith("encodings/")]
    assert torch.equal(trials.held_out(8192), torch.stack([file[:8192] for file in long]))


# ---- What is changed in what was read --------------------------------------------------------------------------------

WORDS = re.compile(rb"[A-Za-z0-9_]+")


@pytest.mark.parametrize("seed", [0, 1])
def test_renamed_keeps_lengths_and_all_that_is_no_name_and_one_name_for_one(files, seed):
    changed = 0
    for row in files:
        old = data(row[2048:2560])
        new = trials.renamed(old, seed)
        assert len(new) == len(old)
        places = [match.span() for match in re.finditer(rb"[A-Za-z_][A-Za-z_0-9]{3,}", old)]
        inside = {place for span in places for place in range(*span)}
        assert all(old[place] == new[place] for place in range(len(old)) if place not in inside)
        names: dict[bytes, bytes] = {}
        for first, end in places:
            assert names.setdefault(old[first:end], new[first:end]) == new[first:end]
        changed += sum(a != b for a, b in names.items()) / len(names)
        assert all(names[word] == word for word in (b"return", b"self", b"import") if word in names)
    assert changed / len(files) > 0.75
    assert trials.renamed(old, seed) == new != trials.renamed(old, seed + 1)


def test_other_names_come_from_files_that_are_trained_on():
    old = b"    some_value = other_function(some_value, fourteen_words)\n"
    trained = b"\0".join(data(file) for file in Text().part("train").values())
    for name in trials.WORD.findall(trials.renamed(old, 3)):
        assert name in trained


@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_keeps_the_lines_and_not_their_order(files, seed):
    for row in files:
        old = data(row[2048:2560])
        new = trials.shuffled(old, seed)
        assert Counter(new.split(b"\n")) == Counter(old.split(b"\n"))
        assert len(new) == len(old)
        assert new != old


def test_only_one_thing_is_changed_in_each_that_is_read(files):
    context, _ = text_measures.borders(files, 512, 64)
    changed = trials.what_was_read(context)
    assert list(changed) == ["as they are", "lines shuffled", "names renamed", "another file"]
    assert all(what.shape == context.shape and what.dtype == context.dtype for what in changed.values())
    assert changed["as they are"] is context
    for row, _ in enumerate(context):
        assert data(changed["lines shuffled"][row]) == trials.shuffled(data(context[row]), 0)
        assert data(changed["names renamed"][row]) == trials.renamed(data(context[row]), 0)
        assert torch.equal(changed["another file"][row], context[row - 1])


def test_64_bytes_are_a_line_or_two(files):
    context, _ = text_measures.borders(files, 64, 64)
    assert 1 < sum(data(row).count(b"\n") for row in context) / len(context) < 3


def test_where_all_that_was_read_is_kept_nothing_is_changed(model, files):
    found = trials.by_content(model, files[:2], kept=128, before=128)
    assert set(found.values()) == {found["as they are"]}
    last = trials.by_content(model, files[:2], kept=64, before=128)
    assert last["as they are"] == found["as they are"]
    assert last["another file"] != found["as they are"]
    context, rest = text_measures.borders(files[:2], 128, 64)
    mixed = torch.cat((context.roll(1, 0)[:, :64], context[:, 64:]), dim=1)
    wanted = bits(model, rest, model(mixed.long()).state).mean()
    assert last["another file"] == pytest.approx(float(wanted), abs=1e-4)


# ---- The share of the memory -----------------------------------------------------------------------------------------


def beyond(cases: dict[str, Tensor], case: str, first: int, end: int) -> float:
    """Bits a byte more than with the memory as it is, of bytes `first` to `end` behind the border."""
    return float((cases[case] - cases["as it is"])[:, max(first - 1, 0) : end - 1].mean())


def test_leaving_out_after_training_costs_more_than_before_it(cases):
    """At the end of a file, where the share of the memory is that of the whole."""
    before = median("attention") - median("mac")
    assert beyond(cases, "never written", 256, 320) > 2 * before
    assert 0.05 < before < 0.15


def test_at_a_border_attention_sees_nothing_of_what_was_before(model, files):
    """With writes off, only the convolutions bring anything over it, by a segment each: two of each layer, so that
    of what stands four segments before nothing is left."""
    never = closed(model)
    context, rest = text_measures.borders(files[:3], 512, 64)
    mixed = torch.cat((context.roll(1, 0)[:, :-256], context[:, -256:]), dim=1)
    own, late, other = (
        bits(never, rest, text_measures.read(never, what)) for what in (context, mixed, context.roll(1, 0))
    )
    torch.testing.assert_close(own, late, rtol=0, atol=1e-3)
    assert (own - other).abs().max() > 0.1


def test_every_byte_is_written():
    """And not a few of them, as the pairs among noise in the other lessons."""
    theta = reading.read(texts.passage("file").text).theta
    assert (theta > 0.1 * theta.max()).float().mean() > 0.9


# ---- Without a network -----------------------------------------------------------------------------------------------


def test_compressors_and_counts_by_own_computation(files):
    found = trials.counted(files)
    sizes = [len(zlib.compress(data(file), level=9)) for file in files]
    assert found["zlib"] == pytest.approx(8 * sum(sizes) / (len(files) * 8192))
    counts = Counter(b"".join(data(file) for file in Text().part("train").values()))
    chances = torch.tensor([counts[byte] / counts.total() + 1e-12 for byte in range(256)], dtype=torch.float64)
    assert found["how often each byte occurs"] == pytest.approx(-float(chances.log2()[files.long()].mean()), abs=1e-3)
    assert found["256 bytes, all alike"] == 8


@pytest.mark.parametrize("name", trials.PACKERS)
def test_a_compressor_gains_from_what_comes_back_however_far_back_it_is(name):
    """A noise that nothing foretells costs eight bits a byte, and next to nothing where it comes a second time."""
    noise = as_bytes(torch.randint(256, (8192,), generator=torch.Generator().manual_seed(0)).byte().numpy().tobytes())
    pack, block = trials.PACKERS[name], data(noise[:1024])
    assert len(pack(data(noise))) >= 8192
    assert len(pack(data(noise[:7168]) + block)) < 7168 + len(block) / 5


def test_a_compressor_loses_what_comes_back_if_bytes_are_shuffled(files):
    """All that zlib has on a count of bytes is what came back in the same order."""
    order = torch.randperm(8192, generator=torch.Generator().manual_seed(0))
    mixed = trials.counted(files[:, order])
    assert mixed["zlib"] > mixed["how often each byte occurs"] - 0.2 > trials.counted(files)["zlib"] + 1


# ---- The table and the card ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("kind", ["bits", "anew", "halved", "reach"])
def test_a_table_is_the_card(language, kind):
    speak(language)
    lines = trials.table(CARD, kind).splitlines()
    assert len({columns(line) for line in lines}) == 1
    assert columns(lines[0]) <= 100
    ends = list(RUNS["mac"][kind])
    sign = "" if kind == "reach" else "–"
    assert lines[0].split() == [f"{sign}{int(end):,}" for end in ends]
    runs = [run for run, found in RUNS.items() if kind in found]
    assert len(lines) == 1 + len(runs)
    for run_name, line in zip(runs, lines[1:], strict=True):
        assert line.startswith(run_name if language == "en" else trials.ROWS[run_name])
        cells = re.findall(r"(\d\.\d\d) \((\d\.\d\d)\)", line)
        found = [RUNS[run_name][kind][end] for end in ends]
        assert cells == [(f"{each['median']:.2f}", f"{each['worst']:.2f}") for each in found]


def test_every_run_of_the_card_has_its_name_in_japanese():
    assert list(RUNS) == list(trials.ROWS) == list(RECIPES["text"].runs)
    assert [name for name, found in RUNS.items() if "anew" in found] == ["mac", "mac, single pieces"]


def test_the_card_has_three_seeds():
    """The lesson says so over its table."""
    assert CARD["seeds"] == [0, 1, 2]
    assert all(len(each["each"]) == 3 for found in RUNS.values() for each in found["bits"].values())


def test_fallen_apart_it_is_nearer_to_counting_pairs_than_to_any_other_model(files):
    pairs = trials.counted(files)["after the byte before it"]
    end = median("mac, single pieces")
    assert abs(end - pairs) < end - max(median(name) for name in RUNS if name != "mac, single pieces")


def stretches(steps: int = 200) -> list[list[tuple[int, int]]]:
    """Of every row of the recipe's MAC: the step at which a stretch begins, and its pieces."""
    recipe, rows = RECIPES["text"].runs["mac"], []
    for row in range(recipe.rows):
        found, step = [], 0
        while step < steps:
            found.append(recipe._stretch(0, row, step))
            step = sum(found[-1])
        rows.append(found)
    return rows


def test_a_step_of_the_recipe_has_beginnings_and_places_far_inside():
    """Most of them: each row draws its stretches by itself."""
    found = stretches()
    assert {pieces for row in found for _, pieces in row} == {1, 2, 4, 8, 16}
    begun = {first for row in found for first, _ in row}
    inside = {step for row in found for first, pieces in row for step in range(first + 4, first + pieces)}
    assert len(begun & set(range(200))) > 0.5 * 200
    assert len(inside & set(range(200))) > 0.5 * 200


def test_the_sizes_that_the_lesson_tells(model):
    run_ = RECIPES["text"].runs["mac"]
    c = model.config
    assert (c.layers, c.dim, c.segment_len, c.memory_layers, c.memory_depth) == (2, 128, 64, (2,), 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(5e5, rel=0.05)
    assert run_.rows * run_.between[0] * run_.steps == pytest.approx(6.5e6, rel=0.02)
    assert RECIPES["text"].runs["attention, as long"].steps / run_.steps == pytest.approx(2.1)


def test_a_window_of_512_is_the_equal_of_mac_in_operations_and_attention_takes_half():
    """Of a training step, forward and backward, on 512 bytes a row."""
    from torch.utils.flop_counter import FlopCounterMode

    from titans import TitansLM

    counts = {}
    for name in ("mac", "attention", "window of 512"):
        run_ = RECIPES["text"].runs[name]
        tokens = torch.randint(256, (1, run_.between[0]), generator=torch.Generator().manual_seed(0))
        with FlopCounterMode(display=False) as counter:
            TitansLM(run_.config)(tokens, labels=tokens).loss.backward()
        counts[name] = counter.get_total_flops() / tokens.numel()
    assert counts["window of 512"] == pytest.approx(counts["mac"], rel=0.25)
    assert counts["attention"] < counts["mac"]


# ---- Surprise --------------------------------------------------------------------------------------------------------


def twice(kind: str) -> dict[str, tuple[float, float]]:
    """Mean bits and mean surprise of every stretch that a text marks."""
    text, spans = texts.passage(kind)
    found = reading.read(text)
    return {
        name: (float(found.bits[first:end].mean()), float(found.surprise[first:end].mean()))
        for name, (first, end) in spans.items()
    }


# ---- It writes -------------------------------------------------------------------------------------------------------


def test_a_state_does_not_grow(model, files):
    states = [text_measures.read(model, files[:1, :n]) for n in (512, 1024, 2048)]
    sizes = {sum(tensor.numel() for tensor in state.tensors().values()) for state in states}
    assert len(sizes) == 1


def test_through_hugging_face_the_logits_are_the_same(model, files):
    pytest.importorskip("transformers")
    hub = trials.for_hugging_face(model)
    tokens = files[:2, :200].long()
    torch.testing.assert_close(hub(input_ids=tokens).logits, model(tokens).logits, rtol=0, atol=1e-4)
    assert hub.model.config is not model.config or hub.model.config == model.config
    cache = hub(input_ids=tokens[:, :150], use_cache=True).past_key_values
    rest = hub(input_ids=tokens[:, 150:], past_key_values=cache).logits
    torch.testing.assert_close(rest, model(tokens).logits[:, 150:], rtol=0, atol=1e-4)


# ---- Pictures --------------------------------------------------------------------------------------------------------


def told(make) -> dict[str, list[str]]:
    """The numbers with two decimals in a picture's alt text, in both languages."""
    found = {}
    for language in ("en", "ja"):
        speak(language)
        alt = make()._repr_mimebundle_()[1]["image/png"]["alt"]
        found[language] = re.findall(r"[+-]?\d+\.\d\d", alt)
    return found


def test_the_picture_by_place_tells_the_cards_numbers():
    check_words(lambda: pictures.by_place(CARD))
    base = {end: median("attention, as long", end) for end in ("64", LAST)}
    wanted = [
        f"{median('mac', '64') - base['64']:+.2f}",
        f"{median('mac') - base[LAST]:+.2f}",
        f"{median('mac, single pieces') - base[LAST]:+.2f}",
    ]
    assert told(lambda: pictures.by_place(CARD)) == {"en": wanted, "ja": wanted}


def test_the_picture_by_place_tells_another_cards_numbers():
    other = json.loads(json.dumps(CARD))
    other["runs"]["mac"]["bits"]["64"]["median"] += 0.25
    before, after = (told(lambda card=card: pictures.by_place(card))["en"] for card in (CARD, other))
    assert float(after[0]) == pytest.approx(float(before[0]) + 0.25)
    assert after[1:] == before[1:]


def test_the_picture_behind_a_border_tells_what_it_is_given(cases):
    check_words(lambda: pictures.after_a_border(cases))
    wanted = []
    for name in ("begun anew", "another file's", "never written"):
        rows = (cases[name] - cases["as it is"]).tolist()
        for part in (slice(0, 64), slice(192, 256)):  # of 319 bytes the last 63 fill no band
            values = [value for row in rows for value in row[part]]
            wanted.append(f"{sum(values) / len(values):.2f}")
    assert told(lambda: pictures.after_a_border(cases)) == {"en": wanted, "ja": wanted}


# ---- Exercises -------------------------------------------------------------------------------------------------------


def lessons_names() -> str:
    """The imports of the lesson's first cell."""
    source = (SOURCES / "10_language_model.py").read_text(encoding="utf-8")
    (cell,) = re.findall(r"^# %%\n(from dataclasses.*?)^start\(\)", source, flags=re.MULTILINE | re.DOTALL)
    return cell


def check_of(name: str):
    found = getattr(exercises, name)
    return getattr(found, "check", found)


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("10")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    assert check_of(name)(run(stub, exercises)).outcome == "todo"
    assert check_of(name)(run(lessons_names() + solution, exercises)).outcome == "passed"


def test_every_exercise_stands_in_the_lesson():
    assert [param.values[0] for param in exercise_cells("10")] == ["BITS", "BY_MEMORY", "check_spikes"]


def test_first_letters_find_more_than_twice_what_chance_does():
    shares = []
    for seed in range(2):
        tokens = exercises.passages(seed)
        wanted = exercises.dearest(tokens)
        named = [exercises.first_letters(exercises.as_text(row), len(wanted[0])) for row in tokens]
        shares.append(exercises.share_found(named, wanted))
    assert min(shares) > 2 / exercises.DEAREST


# ---- What becomes of a memory ----------------------------------------------------------------------------------------


def test_forgotten_leaves_a_share_and_the_convolutions(model, files):
    state = text_measures.read(model, files[:2, :512])
    first, now = model.initial_state(2).layers[1].memory.weights[0], state.layers[1].memory.weights[0]
    for kept in (0.0, 0.5, 1.0):
        layer = text_measures.forgotten(model, state, kept).layers[1]
        torch.testing.assert_close(layer.memory.weights[0], (1 - kept) * first + kept * now)
        assert layer.memory.chunk_weights[0] is layer.memory.weights[0] is layer.segment_weights[0]
        assert torch.equal(layer.memory.recent, state.layers[1].memory.recent)
        assert torch.equal(layer.recent, state.layers[1].recent)
        assert bool(layer.memory.rule_state[0].any()) == (kept > 0)


def test_a_memory_that_keeps_all_costs_what_it_costs(model, files):
    whole = text_measures.fading(model, files[:2, :1536], 512, 1.0)
    torch.testing.assert_close(whole, bits(model, files[:2, :1536]), rtol=0, atol=2e-4)
    half = text_measures.fading(model, files[:2, :1536], 512, 0.5)
    assert torch.equal(half[:, :511], whole[:, :511])
    assert not torch.allclose(half[:, 512:], whole[:, 512:], atol=1e-3)


def test_inside_by_the_plainest_means(model, files):
    found = text_measures.inside(model, files[:2, :1024], 512)
    state = text_measures.read(model, files[:2, :1024])
    assert found["last size"] == pytest.approx(float(state.layers[1].memory.weights[0].flatten(1).norm(dim=1).mean()))
    assert 50 < found["half-life"] < 5000


def test_reach_of_a_memory_that_reads_is_the_plain_model_behind_its_convolutions(model, files):
    """Read 64 bytes, forget, read on: the same by hand, for one file."""
    found = text_measures.reach(model, files[:1, :2112], (0, 128))
    for length in (0, 128):
        start = 2048 - length
        state = text_measures.forgotten(model, text_measures.read(model, files[:1, start - 64 : start]))
        costs = bits(model, files[:1, start:2112], state)
        assert found[str(length)] == pytest.approx(float(costs[:, length:].mean()), abs=1e-4)


def test_another_files_memory_comes_without_its_convolutions(model, files, monkeypatch):
    """The first of two rows then has the second's M and S, and its own three bytes."""
    seen = []
    monkeypatch.setattr(trials, "bits", lambda m, rest, state=None: seen.append(state) or torch.zeros(1))
    trials.memory_cases(model, files[:2, :4096])
    own, anew, other, _ = seen
    one, two = (state.layers[1].memory for state in (own, other))
    assert torch.equal(two.weights[0][0], one.weights[0][-1])
    assert torch.equal(two.recent, one.recent)
    assert torch.equal(anew.layers[1].memory.recent, one.recent)


def test_never_written_costs_most_and_as_much_on_every_byte(cases):
    more = (cases["never written"] - cases["as it is"]).mean(0)
    bands = [float(more[first:end].mean()) for first, end in ((0, 64), (64, 128), (128, 319))]
    assert min(bands) > 0.2
    assert max(bands) < 1.5 * min(bands)


def test_a_new_memory_catches_up_and_another_files_misleads(cases):
    own = cases["as it is"]
    new, other = ((cases[name] - own).mean(0) for name in ("begun anew", "another file's"))
    assert 0.05 < new[:64].mean() < other[:64].mean()
    assert abs(new[256:].mean()) < 0.02


def test_there_is_more_to_find_the_further_back_one_looks():
    found = trials.names_read_before(trials.held_out(8192), (64, 256, 1024))
    own, other = zip(*found.values(), strict=True)
    assert own[0] < 0.6 * own[1] < 0.6 * own[2]
    assert max(other) < 0.3 * own[2]


def test_bits_and_surprise_are_the_models_and_the_memorys(model, files):
    costs, surprise = trials.bits_and_surprise(model, files[:2, :128])
    torch.testing.assert_close(costs, bits(model, files[:2, :128]))
    text = bytes(files[0, :128].tolist()).decode()
    torch.testing.assert_close(surprise[0], reading.read(text).surprise[1:], rtol=1e-3, atol=1e-3)
    assert memory_of(model).observers == []


def test_the_second_reading_has_the_segments_of_the_first(model):
    """What stands before the passage is 64 bytes at first, and 64 + 128 + 192 later: whole segments."""
    sizes = {name: size for name, _, size in trials.PARTS_OF_TWICE}
    assert sizes["beginning"] % model.config.segment_len == 0
    assert (sizes["passage"] + sizes["between"]) % model.config.segment_len == 0


def test_a_row_of_mac_seldom_has_read_nothing():
    run = RECIPES["text"].runs["mac"]
    begins = sum(run._stretch(0, row, step)[0] == step for row in range(8) for step in range(200))
    assert 0.2 < begins / 1600 < 0.5


def test_what_is_dear_is_dear_for_all():
    """But for the MAC that falls apart."""
    for name, found in RUNS.items():
        costs = {end: cost["median"] for end, cost in found["bits"].items()}
        if name != "mac, single pieces":
            assert max(costs, key=lambda end: costs[end]) == "1024"
