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
from titans.checkpoints import load_checkpoint
from titans.corpus import Text, as_bytes, bits
from titans.lesson.kit import cards, interventions
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
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
    first, second = trials.borders(files, before, after)
    places = (2048, 4096, 6144)
    assert all(place % model.config.segment_len == 0 for place in places)
    assert len(first) == len(second) == len(places) * len(files)
    for row, (old, new) in enumerate(zip(first, second, strict=True)):
        file, place = files[row % len(files)], places[row // len(files)]  # so one row's file is not the next one's
        assert torch.equal(old, file[place - before : place])
        assert torch.equal(new, file[place : place + after])


def test_there_are_some_hundred_borders_with_512_bytes_before_each():
    first, _ = trials.borders(trials.held_out(8192), 512, 512)
    assert 60 < len(first) < 150
    assert first.shape[1] == 512


def test_a_state_is_the_same_however_the_bytes_were_cut(model, files):
    whole = model(files[:1, :1500].long()).state.tensors()
    for name, tensor in trials.read(model, files[:1, :1500]).tensors().items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-4, atol=1e-4)


def test_what_is_held_out_is_the_beginning_of_every_long_file():
    long = [file for file in Text().part("held out").values() if len(file) >= 8192]
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
    assert changed / len(files) > 0.9
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
    context, _ = trials.borders(files, 512, 64)
    changed = trials.what_was_read(context)
    assert list(changed) == ["as they are", "lines shuffled", "names renamed", "another file"]
    assert all(what.shape == context.shape and what.dtype == context.dtype for what in changed.values())
    assert changed["as they are"] is context
    for row, _ in enumerate(context):
        assert data(changed["lines shuffled"][row]) == trials.shuffled(data(context[row]), 0)
        assert data(changed["names renamed"][row]) == trials.renamed(data(context[row]), 0)
        assert torch.equal(changed["another file"][row], context[row - 1])


def test_what_else_the_two_changes_changed():
    """The line before the border stands elsewhere, and a word that the border cuts begins otherwise."""
    context, rest = trials.borders(trials.held_out(8192), 512, 64)
    changed = trials.what_was_read(context)
    moved = [data(a[-16:]) != data(b[-16:]) for a, b in zip(changed["lines shuffled"], context, strict=True)]
    assert sum(moved) > 0.8 * len(moved)
    cut = [
        row
        for row, _ in enumerate(rest)
        if re.search(rb"[A-Za-z_]\w{3,}$", data(context[row])) and re.match(rb"\w", data(rest[row]))
    ]
    begun = [data(changed["names renamed"][row][-4:]) != data(context[row][-4:]) for row in cut]
    assert len(cut) > 3
    assert sum(begun) > 0.8 * len(begun)


def test_64_bytes_are_a_line_or_two(files):
    context, _ = trials.borders(files, 64, 64)
    assert 1 < sum(data(row).count(b"\n") for row in context) / len(context) < 3


def test_where_all_that_was_read_is_kept_nothing_is_changed(model, files):
    found = trials.by_content(model, files[:2], kept=128, before=128)
    assert set(found.values()) == {found["as they are"]}
    last = trials.by_content(model, files[:2], kept=64, before=128)
    assert last["as they are"] == found["as they are"]
    assert last["another file"] != found["as they are"]
    context, rest = trials.borders(files[:2], 128, 64)
    mixed = torch.cat((context.roll(1, 0)[:, :64], context[:, 64:]), dim=1)
    wanted = bits(model, rest, model(mixed.long()).state).mean()
    assert last["another file"] == pytest.approx(float(wanted), abs=1e-4)


def test_names_read_before_by_a_plain_count(files):
    found = trials.names_read_before(files, (0, 64, 512))
    for length in found:
        known = asked = 0
        for place in (2048, 4096, 6144):
            for file in files:
                before, behind = data(file[place - length : place]), data(file[place : place + 64])
                stand = set(trials.WORD.findall(before))
                for name in trials.WORD.findall(behind):
                    known, asked = known + (name in stand), asked + 1
        assert found[length] == known / asked
    assert found[0] == 0


def test_there_is_more_to_find_the_further_back_one_looks():
    """The share of names grows over all of the lengths, beyond the reach of the memory."""
    shares = list(trials.names_read_before(trials.held_out(8192), (0, 64, 128, 256, 512, 1024, 2048)).values())
    assert shares == sorted(shares)
    assert shares[-1] > shares[4] + 0.05


# ---- The share of the memory -----------------------------------------------------------------------------------------


def test_nothing_read_before_is_a_memory_begun_anew(model, files, cases):
    found = trials.span(model, files[:3], (0, 512))
    _, rest = trials.borders(files[:3], 512, 64)
    assert found[0] == pytest.approx(float(bits(model, rest).mean()), abs=1e-6)
    begun, kept = (trials.memory_cases(model, files[:3], after=64)[name] for name in ("begun anew", "as it is"))
    assert found[0] == pytest.approx(float(begun.mean()), abs=1e-6)
    assert found[512] == pytest.approx(float(kept.mean()), abs=1e-6)


def test_the_four_memories_by_the_plainest_means(model, files):
    found = trials.memory_cases(model, files[:2], before=128, after=64)
    context, rest = (part.long() for part in trials.borders(files[:2], 128, 64))

    def cost(state) -> Tensor:
        chances = model(rest, state).logits.softmax(-1)[:, :-1]
        return -chances.gather(2, rest[:, 1:, None])[..., 0].log2()

    wanted = {
        "as it is": cost(model(context).state),
        "begun anew": cost(None),
        "another file's": torch.stack([cost(model(context.roll(1, 0)).state)[row] for row in range(len(rest))]),
    }
    with interventions.held(model, theta=0.0, eta=0.0, alpha=0.0):
        wanted["never written"] = cost(model(context).state)
    assert found.keys() == wanted.keys()
    for name, costs in found.items():
        torch.testing.assert_close(costs, wanted[name], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found["never written"], found["as it is"], atol=0.05)


def beyond(cases: dict[str, Tensor], case: str, first: int, end: int) -> float:
    """Bits a byte more than with the memory as it is, of bytes `first` to `end` behind the border."""
    return float((cases[case] - cases["as it is"])[:, max(first - 1, 0) : end - 1].mean())


def test_never_written_costs_most_and_as_much_on_every_byte(cases):
    costs = {name: float(cost.mean()) for name, cost in cases.items()}
    assert max(costs, key=lambda name: costs[name]) == "never written"
    bands = [beyond(cases, "never written", first, first + 64) for first in range(0, 320, 64)]
    assert all(0.2 < band < 0.5 for band in bands)


def test_a_new_memory_catches_up_in_two_hundred_bytes(cases):
    first, second, *_, last = (beyond(cases, "begun anew", first, first + 64) for first in range(0, 320, 64))
    assert 0.1 < first < 0.3
    assert second < first / 3
    assert abs(last) < 0.03


def test_another_files_memory_misleads_at_first(cases):
    assert beyond(cases, "another file's", 0, 64) > beyond(cases, "begun anew", 0, 64) + 0.03
    assert abs(beyond(cases, "another file's", 256, 320)) < 0.05


def test_leaving_out_after_training_costs_more_than_before_it(cases):
    """At the end of a file, where the share of the memory is that of the whole."""
    before = median("attention") - median("mac")
    assert beyond(cases, "never written", 256, 320) > 2 * before
    assert 0.05 < before < 0.15


def test_at_a_border_attention_sees_nothing_of_what_was_before(model, files):
    """With writes off, only the convolutions bring anything over it, by a segment each: two of each layer, so that
    of what stands four segments before nothing is left."""
    never = closed(model)
    context, rest = trials.borders(files[:3], 512, 64)
    mixed = torch.cat((context.roll(1, 0)[:, :-256], context[:, -256:]), dim=1)
    own, late, other = (bits(never, rest, trials.read(never, what)) for what in (context, mixed, context.roll(1, 0)))
    torch.testing.assert_close(own, late, rtol=0, atol=1e-3)
    assert (own - other).abs().max() > 0.1


def test_what_begins_anew_is_mostly_the_memory_and_not_the_convolutions(model, files, cases):
    """A new state has no tokens for its convolutions either. With them, and a memory in which nothing was written, most
    of the cost is there."""
    context, rest = trials.borders(files, 64, 64)
    memory_alone = bits(model, rest, trials.read(closed(model), context))
    beyond_it = float((memory_alone - cases["as it is"][:, :63]).mean())
    assert beyond_it > 0.6 * beyond(cases, "begun anew", 0, 64)


def test_most_of_the_gain_is_from_the_last_64_bytes_and_from_512_on_there_is_none(model, files):
    reach = trials.span(model, files, (0, 64, 512, 1024))
    gain = reach[0] - reach[1024]
    assert 0.7 < (reach[0] - reach[64]) / gain < 0.9
    assert abs(reach[512] - reach[1024]) < 0.05 * gain


def test_what_is_old_is_in_the_way_where_nothing_is_forgotten(model, files):
    """With alpha at 0 it costs more than with the gate, the more so the more is written, and not the more is read:
    where the old bytes are read and not written, it costs what the last bytes cost alone."""
    some, never, lengths = files[::2], closed(model), (64, 256, 1024)
    with_gate = trials.span(model, some, lengths)
    with interventions.held(model, alpha=0.0):
        kept = trials.span(model, some, lengths)
        context, rest = trials.borders(some, 1024, 64)
        unwritten = trials.read(model, context[:, -64:], trials.read(never, context[:, :-64]))
        without = float(bits(model, rest, unwritten).mean())
    more = [kept[length] - with_gate[length] for length in lengths]
    assert 0 < more[0] < more[1] < more[2]
    assert without - with_gate[64] < more[2] / 2


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
@pytest.mark.parametrize("kind", ["bits", "anew"])
def test_a_table_is_the_card(language, kind):
    speak(language)
    lines = trials.table(CARD, kind).splitlines()
    assert len({columns(line) for line in lines}) == 1
    assert columns(lines[0]) <= 100
    ends = list(RUNS["mac"]["bits"])
    assert re.findall(r"–([\d,]+)", lines[0]) == [f"{int(end):,}" for end in ends]
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


def test_the_dearest_bytes_are_those_behind_the_head_for_all():
    """But where a memory falls apart, at the end."""
    for name, found in RUNS.items():
        costs = {end: each["median"] for end, each in found["bits" if name != "mac, single pieces" else "anew"].items()}
        assert max(costs, key=lambda end: costs[end]) == "1024", name


def test_begun_anew_the_mac_of_single_pieces_is_the_best_of_all_from_byte_64_on():
    for end in ("256", "1024", "4096", LAST):
        others = [median(name, end) for name in RUNS if name != "mac, single pieces"]
        assert median("mac, single pieces", end, "anew") < min(others)


def test_what_was_carried_is_worth_less_than_learning_to_carry_it_cost():
    worth = median("mac", LAST, "anew") - median("mac")
    cost = median("mac") - median("mac, single pieces", LAST, "anew")
    assert 0 < worth < cost


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


def test_mac_sees_few_beginnings_and_single_pieces_more():
    """Only a stretch that begins can begin a file: less than half of MAC's pieces, and every single piece."""
    runs = RECIPES["text"].runs
    assert runs["mac, single pieces"].rows == runs["mac"].rows == len(stretches())
    assert sum(map(len, stretches())) < 200 * runs["mac"].rows / 2


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


def test_read_twice_the_surprise_falls_and_the_bits_do_not():
    first, second = (twice("repeated")[name] for name in ("first", "second"))
    assert second[1] < 0.95 * first[1]
    assert second[0] > 0.95 * first[0]


# ---- It writes -------------------------------------------------------------------------------------------------------


def test_a_state_does_not_grow(model, files):
    sizes = {sum(t.numel() for t in trials.read(model, files[:1, :n]).tensors().values()) for n in (512, 1024, 2048)}
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
