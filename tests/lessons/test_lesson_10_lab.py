"""Lesson 10's lab: what it shows is what the library computes, whatever text it is given."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.text import Text as Words

from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.lessons.legible import WORDS, contrast, problems
from tests.lessons.translated import left_in_english
from titans.checkpoints import load_checkpoint
from titans.corpus import Text, as_bytes, bits, is_held_out
from titans.lesson.kit.host import speak
from titans.lesson.lesson_10 import lab as text_lab
from titans.lesson.lesson_10 import lines, reading, texts
from titans.observe import closed, edited_gates, memories, observed
from titans.scan import Gates

ODD = {
    "empty": "",
    "one byte": "x",
    "a line's end": "\n",
    "Japanese": "変数 = 長さ(文字列)  # コメント\n" * 3,
    "an emoji": "print('🙂 naïve café')",
    "controls": "\0\x07a\tb\r\n\x7f",
    "half a pair": "a\ud800b",
    "formula and code": "cost = $5 and `x` $y$ \\frac{1}",
    "long": "def f(x):\n    return x\n" * 400,
    "lines": "\n" * 3000,
    "wide": "長" * 900,
}
OF_ALL = {
    **{kind: texts.passage(kind).text for kind in ("repeated", "other", "name", "file")},
    "Japanese": ODD["Japanese"],
}


def same(one, other, within: float = 1e-4) -> bool:
    return bool(torch.allclose(one, other, atol=within, rtol=0, equal_nan=True))


@pytest.fixture(scope="module")
def lab():
    """One lab for the tests that only move its controls."""
    return text_lab.text_lab()


# ---- What is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_ALL)
def test_bits_are_those_of_the_library(name):
    model, data = load_checkpoint("text/mac")[0], as_bytes(OF_ALL[name])[None]
    for frozen, reader in ((None, model), (0, closed(model))):
        found = reading.read(OF_ALL[name], frozen)
        assert found.bits.shape == (data.shape[1],)
        assert math.isnan(found.bits[0])
        assert same(found.bits[1:], bits(reader, data)[0])


def test_chances_are_those_of_the_byte_before():
    model, text = load_checkpoint("text/mac")[0], OF_ALL["name"]
    found, tokens = reading.read(text), as_bytes(text).long()[None]
    with torch.no_grad():
        chances = model(tokens).logits[0, :-1].softmax(-1)
    assert same(found.chances[1:], chances)
    assert found.chances[0].isnan().all()
    given = found.chances.gather(1, tokens.mT)[1:, 0]
    assert same(found.bits[1:], -given.log2(), 1e-3)


@torch.no_grad()
def noted(model, text):
    """Surprise and gates as the library has them of a text read at once, [bytes] each."""
    with observed(memories(model)[0]) as calls:
        model(as_bytes(text).long()[None])
    surprise = torch.cat([call.surprise()[0, 0] for call in calls])
    return surprise, [
        torch.cat([gate[0, 0, :, 0] for gate in gates]) for gates in zip(*(c.tokens.gates for c in calls), strict=True)
    ]


@pytest.mark.parametrize("name", OF_ALL)
def test_surprise_and_gates_are_the_librarys(name):
    model = load_checkpoint("text/mac")[0]
    for frozen, reader in ((None, model), (0, closed(model))):
        found = reading.read(OF_ALL[name], frozen)
        surprise, gates = noted(reader, OF_ALL[name])
        assert same(found.surprise, surprise)
        for ours, theirs in zip((found.theta, found.eta, found.alpha), gates, strict=True):
            assert same(ours, theirs)


@pytest.mark.parametrize("frozen", [1, 64, 70, 200, 383])
def test_frozen_is_the_model_with_gates_of_zero_from_there(frozen):
    """Cut by hand out of one call of the whole text: the gates of its tokens, counted."""
    model, text = load_checkpoint("text/mac")[0], OF_ALL["repeated"]
    read = [0]

    def from_there(gates: Gates) -> Gates:
        places = read[0] + torch.arange(gates.theta.shape[2])
        read[0] += gates.theta.shape[2]
        return Gates(*(gate * (places < frozen)[:, None] for gate in gates))

    with edited_gates(model, from_there):
        surprise, gates = noted(model, text)
    read[0] = 0
    with edited_gates(model, from_there):
        wanted = bits(model, as_bytes(text)[None])[0]
    found = reading.read(text, frozen)
    assert same(found.bits[1:], wanted)
    assert same(found.surprise, surprise)
    assert same(found.theta, gates[0])
    assert (found.theta[frozen:] == 0).all()
    assert (found.theta[:frozen] > 0).all()
    assert not same(found.bits[frozen + 64 :], reading.read(text).bits[frozen + 64 :], 0.01)


def test_a_text_is_read_once():
    first = reading.read(OF_ALL["name"], 100)
    assert reading.read(OF_ALL["name"], 100) is first
    assert reading.trained() is reading.trained()
    assert all(not layer.gate_edits and not layer.observers for layer in memories(reading.trained()))


def test_without_its_checkpoint_nothing_is_shown(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(reading, "load_checkpoint", missing)
    with pytest.raises(FileNotFoundError, match="text/mac"):
        reading.trained.__wrapped__()


# ---- The texts -------------------------------------------------------------------------------------------------------


def test_the_second_reading_has_the_places_of_the_first():
    text, spans = texts.repeated()
    first, second = spans["first"], spans["second"]
    assert text[slice(*first)] == text[slice(*second)] == texts.PASSAGE
    segment = reading.trained().config.segment_len
    assert [end % segment for end in (*first, *second)] == [0] * 4
    assert second[0] - first[1] > 2 * segment


def test_another_passage_differs_in_the_first_reading_alone():
    (text, spans), (other, marked) = texts.repeated(), texts.other_first()
    first, second = spans["first"], spans["second"]
    assert (marked["another"], marked["passage"]) == (first, second)
    assert other[: first[0]] + other[first[1] :] == text[: first[0]] + text[first[1] :]
    assert other[slice(*first)] == texts.OTHER != texts.PASSAGE
    off, alone = (reading.read(one, 0).bits[slice(*second)] for one in (text, other))
    assert same(off, alone, 1e-3)  # with writes off, what was read before is all the same


def test_without_writing_next_to_nothing_of_the_first_reading_is_left():
    """A tenth, at most, of the difference that writing makes: what convolutions bring over the segment's beginning."""
    spans, differences = texts.repeated().spans, []
    (first, _), (second, end) = spans["first"], spans["second"]
    later = 16
    for frozen in (0, None):
        bits = reading.read(OF_ALL["repeated"], frozen).bits
        apart = bits[first + later : first + end - second] - bits[second + later : end]
        differences.append(float(apart.abs().mean()))
    assert differences[0] < 0.1 * differences[1]


def test_a_name_is_met_again_in_one_segment_farther_off_than_attention_sees():
    text, spans = texts.name_again()
    segment = reading.trained().config.segment_len
    for start, end in spans.values():
        assert text[start:end] == texts.NAME
        assert start // segment == (end - 1) // segment
    assert text.count(texts.NAME) == len(spans)
    assert spans["name 2"][0] - spans["name 1"][1] > 300


def test_the_file_is_held_out():
    assert is_held_out(texts.FILE)
    data = bytes(Text().part("held out")[texts.FILE].tolist())
    assert texts.of_a_file().text.encode() in data
    assert len(texts.of_a_file().text) == texts.SHOWN


def test_a_long_text_is_cut_between_characters():
    assert texts.cut("x" * 5000) == "x" * texts.LONGEST
    assert texts.cut("長" * 900) == "長" * (texts.LONGEST // 3)
    assert texts.cut("a\ud800b") == "a?b"


# ---- What is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OF_ALL, *ODD])
def test_every_byte_has_a_cell_of_its_own_in_reading_order(name):
    text = texts.cut({**ODD, **OF_ALL}[name])
    found = lines.cells(text)
    places = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert len(places) == len(found.signs) == len(found.nth) == len(text.encode())
    assert all(one < other for one, other in pairwise(places))
    assert all(row < lines.ROWS and column < lines.COLUMNS for row, column in places)
    wholes = [sign for sign, (n, _) in zip(found.signs, found.nth, strict=True) if n == 1]
    assert len(wholes) == len(text)
    outline = lines.outlines(text)
    assert np.isfinite(outline.vertices).all()
    if len(outline.vertices):
        assert (outline.vertices.min(0) > -2).all()
        assert (outline.vertices.max(0) < (lines.COLUMNS * lines.WIDE + 4, lines.ROWS * lines.HIGH + 2)).all()


def test_lines_end_where_the_texts_do_if_there_is_room():
    text = OF_ALL["repeated"]
    found = lines.cells(text)
    ends = [n + 1 for n, letter in enumerate(text) if letter == "\n"][:-1]
    assert [found.columns[n] for n in ends] == [0] * len(ends)
    assert found.rows[-1] + 1 == len(ends) + 1
    crowded = lines.cells("a\n" * 100)
    assert crowded.rows[-1] == 200 // lines.COLUMNS


def test_signs():
    assert [lines.sign(letter) for letter in "a \n\t\0é🙂"] == ["a", "␣", "↵", "→", "□", "é", lines.sign("🙂")]
    assert [lines.byte_sign(byte) for byte in (97, 32, 10, 0, 0xE3, 255)] == ["a", "␣", "↵", "00", "E3", "FF"]


def test_letters_stand_out_on_every_colour():
    for colours in (lines.PAID, lines.SAVED):
        for share in np.linspace(0, 1, 33):
            assert contrast((0, 0, 0), colours(share)[:3]) >= WORDS
    assert contrast((0, 0, 0), (float(lines.UNKNOWN),) * 3) >= WORDS
    assert lines.SIZE >= 8


def test_a_colour_is_that_of_its_value():
    found = lines.coloured(np.array([np.nan, 0.0, 4.0, 8.0, 99.0]), lines.PAID, (0, 8))
    wanted = [(0.85,) * 3, *(lines.PAID(share)[:3] for share in (0.0, 0.5, 1.0, 1.0))]
    assert np.allclose(found, wanted)


def show(lab, **values):
    """Move controls, and the numbers behind the picture: reading shown, reading with writes off, the text."""
    for name, value in values.items():
        lab.controls[name].value = value
    now = lab.values()
    text = texts.passage(now["text"], now["own"]).text
    frozen = now["start"] if now["freeze"] else None
    return reading.read(text, frozen), reading.read(text, 0), text


def drawn(lab):
    """The drawing's parts, by what they are: the cells' colours, and all words."""
    (mesh, *_), words = (
        [a for a in lab.moving if type(a).__name__ == "QuadMesh"],
        [a.get_text() for a in lab.moving if isinstance(a, Words) and a.get_visible()],
    )
    return np.asarray(mesh.get_array()).reshape(lines.ROWS, lines.COLUMNS, 3), "\n".join(words)


@pytest.mark.parametrize("colour", text_lab.MEASURES)
@pytest.mark.parametrize("kind", ["repeated", "name", "file"])
@pytest.mark.parametrize("freeze", [False, True])
def test_the_cells_have_the_colours_of_what_was_measured(lab, colour, kind, freeze):
    shown, off, text = show(lab, text=kind, colour=colour, freeze=freeze, start=100)
    whole = reading.read(text)
    values, scale, low, high = {
        "bits": (shown.bits, lines.PAID, 0, 8),
        "surprise": (shown.surprise, lines.PAID, 0, float(whole.surprise.max())),
        "theta": (shown.theta, lines.PAID, 0, float(whole.theta.max())),
        "saved": (off.bits - shown.bits, lines.SAVED, -4, 4),
    }[colour]
    cells, found = lines.cells(text), drawn(lab)[0]
    for place in (0, 1, 99, 100, 101, 300, len(text) - 1):
        value = float(values[place])
        wanted = (0.85,) * 3 if math.isnan(value) else scale(min(max((value - low) / (high - low), 0), 1))[:3]
        assert np.allclose(found[cells.rows[place], cells.columns[place]], wanted, atol=0.01)
    lab.controls["freeze"].value = False


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("place", [1, 63, 64, 130, 390, 577])
def test_the_byte_under_the_slider_is_told_with_the_librarys_numbers(lab, place, freeze):
    shown, off, text = show(lab, text="repeated", place=place, freeze=freeze, start=100)
    words = drawn(lab)[1]
    assert f"byte {place}: {lines.sign(text[place])}\n" in words
    assert f"{float(shown.bits[place]):.2f} bits, with writes off {float(off.bits[place]):.2f}" in words
    assert f"surprise |u| = {float(shown.surprise[place]):.2f}" in words
    assert f"θ = {float(shown.theta[place]):.3f}   η = {float(shown.eta[place]):.2f}" in words
    for read in (shown, off):
        chances, tokens = read.chances[place].sort(descending=True)
        assert text_lab.best(read, place) == list(zip(tokens[:5].tolist(), chances[:5].tolist(), strict=True))
    came = ord(text[place])
    for part, read in zip(parts(lab), (shown, off), strict=True):
        names, shares, bars = part
        assert names[:5] == [lines.byte_sign(byte) for byte, _ in text_lab.best(read, place)]
        assert shares == [f"{c:.1%}" for _, c in text_lab.best(read, place)] + [
            f"{float(read.chances[place, came]):.1%}"
        ]
        assert bars == pytest.approx([0.52 * c for _, c in text_lab.best(read, place)])
        assert names[5].endswith(lines.byte_sign(came))
    lab.controls["freeze"].value = False


def parts(lab):
    """Names, shares and bars of both lists of expected bytes."""
    drawing = lab.draw.__self__
    for one in drawing.expected:
        yield [n.get_text() for n in one.names], [s.get_text() for s in one.shares], [b.get_width() for b in one.bars]


def test_the_means_are_those_of_the_stretches(lab):
    shown, off, _ = show(lab, text="repeated", freeze=True, start=64)
    first, second = slice(64, 192), slice(384, 512)
    found = text_lab.means(texts.repeated(), 64)
    for name, part in (("first", first), ("second", second), ("", slice(1, None))):
        wanted = [float(one[part].mean()) for one in (shown.bits, off.bits)]
        assert found[name][:2] == pytest.approx(wanted, abs=1e-5)
    columns = text_lab.table(found)
    assert columns[0].splitlines() == ["mean", "all", "1st reading", "in between", "2nd reading"]
    assert columns[1].splitlines()[1:] == [f"{numbers[0]:.2f}" for numbers in found.values()]
    assert all(column in drawn(lab)[1] for column in columns)
    lab.controls["freeze"].value = False


def test_the_lab_speaks_both_languages():
    check_words(text_lab.text_lab)


def test_every_control_of_the_lab_changes_its_picture():
    lab = text_lab.text_lab()
    lab.controls["freeze"].value = True
    lab.controls["place"].value = 384  # where its text begins to be looked at
    others = {
        "colour": ["surprise", "theta", "saved"],
        "place": [0, 1, 577],
        "start": [0, 300],
        "freeze": [False],
        "text": ["other", "name", "file", "own"],
    }
    for name, values in others.items():
        before, start = lab.png, lab.controls[name].value
        for value in values:
            lab.controls[name].value = value
            assert lab.png != before, (name, value)
        lab.controls[name].value = start
        assert lab.png == before
    lab.controls["own"].value = "print(1)\n"
    assert lab.controls["text"].value == "own"
    assert set(others) | {"own"} == set(lab.controls)


def test_sliders_end_where_the_text_does_and_a_change_is_drawn_once(lab, monkeypatch):
    show(lab, text="repeated", place=570, start=560)
    drawings = []
    draw = lab.draw
    monkeypatch.setattr(lab, "draw", lambda **values: (drawings.append(values), draw(**values)))
    lab.controls["own"].value = "x = [1, 2, 3]\n"
    assert len(drawings) == 1
    assert [lab.controls[name].max for name in ("place", "start")] == [13, 13]
    lab.controls["text"].value = "name"
    assert len(drawings) == 2
    assert lab.controls["place"].max == len(texts.NAMED) - 1
    assert lab.controls["place"].value == texts.name_again().spans["name 3"][0]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_any_text_is_shown(name, language):
    speak(language)
    lab = text_lab.text_lab()
    lab.controls["own"].value = ODD[name]
    lab.controls["text"].value = "own"
    last = max(len(texts.cut(ODD[name]).encode()) - 1, 0)
    assert lab.controls["place"].max == last
    for colour in text_lab.MEASURES:
        lab.controls["colour"].value = colour
    for place in {0, last // 2, last}:
        lab.controls["place"].value = place
    lab.controls["freeze"].value = True
    lab.controls["start"].value = last
    for artist in lab.moving:
        artist.set_animated(False)
    assert list(problems(lab.figure)) == []
    if name != "formula and code":  # whose $ stand for a formula in other pictures
        assert left_in_english(lab.figure) == []
    words = drawn(lab)[1]
    shortened = {"en": "1,000 bytes of it", "ja": "先頭の1,000バイト"}[language] in words
    assert shortened == (len(ODD[name].encode(errors="replace")) > texts.LONGEST)
    if name == "empty":
        assert {"en": "An empty text", "ja": "テキストが空です"}[language] in words
        assert not any(bar.get_visible() for one in lab.draw.__self__.expected for bar in one.bars)


def test_a_characters_bytes_are_told_one_by_one(lab):
    show(lab, own="é長", text="own")
    said = []
    for place in range(5):
        lab.controls["place"].value = place
        said.append(drawn(lab)[1])
    for place, part in enumerate(
        ("é (its byte 1 of 2)", "é (its byte 2 of 2)", *(f"長 (its byte {n} of 3)" for n in (1, 2, 3)))
    ):
        assert f"byte {place}: {part}" in said[place]
    assert "nothing foretells it" in said[0]
    assert "came: A9" in said[1]


def test_the_stills_show_what_their_words_say():
    """Read twice, a passage surprises less where its first reading was written, and as much where it was not."""
    lab = text_lab.text_lab()
    assert [(state["freeze"], state["start"], state["colour"]) for state in lab.states] == [
        (False, 64, "surprise"),
        (True, 64, "surprise"),
    ]
    written, frozen = (text_lab.means(texts.repeated(), start) for start in (None, 64))
    assert written["second"][2] < 0.95 * written["first"][2]
    assert frozen["second"][2] == pytest.approx(frozen["first"][2], rel=0.02)


def test_the_labs_strip_shows_what_its_controls_show():
    check_strip(text_lab.text_lab())


def test_a_failing_draw_reaches_whoever_moved_the_control(monkeypatch):
    check_failing_draw(text_lab.text_lab(), "place", 3, monkeypatch)


def test_a_change_is_quick(lab):
    """Bounds with room for a busy machine; what has been computed once is kept."""
    show(lab, text="repeated", place=10)
    start = time.perf_counter()
    lab.controls["place"].value = 11
    assert time.perf_counter() - start < 1
    start = time.perf_counter()
    reading.read.__wrapped__("y" * texts.LONGEST)
    assert time.perf_counter() - start < 5
