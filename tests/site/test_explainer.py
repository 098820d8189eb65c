"""The memory that learns in the page: its numbers are the library's, whatever the reader does, its sentences true."""

from __future__ import annotations

import json
import re
from functools import lru_cache, partial

import pytest
import torch
from PIL.Image import open as read_picture

from tests.paths import NOTEBOOKS
from tests.site.explainer_page import FILES, HEIGHTS, SITE, write_page
from titans import DeepMemory, Gates, chunked_scan, recurrent_scan
from titans.lesson.lesson_09 import bare_player

SMALL = ("01", "03", "09")
SCENES = ("day", "again", "momentum", "alike", "lie", "fade")
FORGETTING = 0.3  # while the memory is made to forget
EXACT = 1e-12
exact = partial(torch.tensor, dtype=torch.float64)
PLAYER = "document.querySelector('.titans-explainer').player"
SEEN = ".tx :is(button, input, select, canvas, fieldset, table):visible"
PHONE = {"window": 390, "is_mobile": True, "has_touch": True}


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a player; afterwards: nothing was asked of the network, and no error was shown."""
    pages, wrong = [], []

    def open_page(lesson="", language="en", theme="light", width=1100, window=1440, **context):
        page = browser.new_page(viewport={"width": window, "height": HEIGHTS[window]}, **context)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith("file:") else wrong.append(request.url))
        address = write_page(tmp_path / f"{lesson}{language}{theme}.html", lesson, language, theme, width=width)
        page.goto(address)
        page.locator(".tx").wait_for()
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert wrong == []


# ---------------------------------------------------------------- the engine against the library


def far(ours, theirs):
    """How far two series are apart, in parts of the largest number where that is above 1."""
    return float(((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).detach())


def stream(dim, tokens=24, seed=0):
    """Keys, values, queries of length about 1 and gates, a third of these exactly 0 or 1: [1, 1, tokens, dim]."""
    random = torch.Generator().manual_seed(seed)
    k, v, q = (torch.randn(1, 1, tokens, dim, generator=random).double() / dim**0.5 for _ in range(3))
    k = k / k.norm(dim=-1, keepdim=True).clamp(min=1)
    gates = torch.rand(3, 1, 1, tokens, generator=random).double()
    ends = torch.randint(0, 6, gates.shape, generator=random)
    gates = torch.where(ends == 0, 0.0, torch.where(ends == 1, 1.0, gates))
    return q, k, v, Gates(*gates)


def library(q, k, v, gates):
    """Answers [tokens, dim], M and S after each token [tokens, dim, dim], by the two scans, which agree."""
    memory = DeepMemory(k.shape[-1], depth=1).double()
    state, steps = memory.initial_state(1), []
    for t in range(k.shape[2]):
        part = slice(t, t + 1)
        y, state = recurrent_scan(
            memory, state, q[:, :, part], k[:, :, part], v[:, :, part], Gates(*(g[..., part] for g in gates))
        )
        steps.append((y[0, 0, 0], state.weights[0][0, 0], state.momentum[0][0, 0]))
    y, M, S = (torch.stack(series).detach() for series in zip(*steps, strict=True))
    closed, end = chunked_scan(memory, memory.initial_state(1), q, k, v, gates, chunk_size=1)
    assert far(closed[0, 0], y) < EXACT
    assert far(end.weights[0][0, 0], M[-1]) < EXACT
    return y, M, S


RUN = """([q, k, v, gates]) => {
    const memory = new TitansMemory.MatrixMemory(v[0].length, k[0].length)
    return k.map((key, t) => {
        const u = memory.write(key, v[t], gates[t])
        return [[...memory.read(q[t])], [...memory.M], [...memory.S], u]
    })
}"""


def engine(page, q, k, v, gates):
    """The same from the page, and |u_t|."""
    named = [
        dict(zip(("theta", "eta", "alpha"), token, strict=True)) for token in torch.stack([*gates])[:, 0, 0].T.tolist()
    ]
    steps = page.evaluate(RUN, [*(x[0, 0].tolist() for x in (q, k, v)), named])
    y, M, S, u = (exact(series) for series in zip(*steps, strict=True))
    shape = (-1, v.shape[-1], k.shape[-1])
    return y, M.reshape(shape), S.reshape(shape), u


@pytest.fixture(scope="module")
def bare(browser):
    """A page of nothing but the engine."""
    page = browser.new_page()
    page.add_script_tag(path=SITE / "memory.js")
    yield page
    page.close()


@pytest.mark.parametrize(("dim", "seed"), [(1, 0), (2, 1), (3, 2), (6, 3), (8, 4), (16, 5)])
def test_the_engine_computes_what_both_scans_compute(bare, dim, seed):
    given = stream(dim, seed=seed)
    wanted, (*got, u) = library(*given), engine(bare, *given)
    for name, ours, theirs in zip(("answers", "M", "S"), got, wanted, strict=True):
        assert far(ours, theirs) < EXACT, name
    _, k, v, _ = (part[0, 0] if torch.is_tensor(part) else part for part in given)
    before = torch.cat((torch.zeros(1, dim, dim).double(), wanted[1][:-1]))
    error = torch.einsum("tij,tj->ti", before, k) - v
    assert (u - 2 * error.norm(dim=-1) * k.norm(dim=-1)).abs().max() <= EXACT * max(1, u.max())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("2 * (answer", "(answer"),
        ("answer[row] - v[row]", "answer[row] + v[row]"),
        ("eta * this.S[at] - theta * u", "eta * this.S[at] + theta * u"),
        ("eta * this.S[at] - theta * u", "eta * (this.S[at] - theta * u)"),
        ("(1 - alpha) * this.M[at] + this.S[at]", "(1 - alpha) * (this.M[at] + this.S[at])"),
        ("Float64Array", "Float32Array"),
    ],
)
def test_a_wrong_engine_is_seen(browser, right, wrong):
    source = (SITE / "memory.js").read_text(encoding="utf-8")
    assert right in source
    page = browser.new_page()
    page.add_script_tag(content=source.replace(right, wrong))
    given = stream(3)
    assert any(
        (ours - theirs).abs().max() > 1e-9
        for ours, theirs in zip(engine(page, *given)[:3], library(*given), strict=True)
    )
    page.close()


# ---------------------------------------------------------------- what a player shows


def key(person, cast, columns):
    """A column of one's own; Anna's key has 0.6 of Ana's in it."""
    k = torch.zeros(columns, dtype=torch.float64)
    k[cast.index(person)] = 0.8 if person == "Anna" else 1.0
    if person == "Anna":
        k[cast.index("Ana")] = 0.6
    return k


def told(page):
    """What the player says that it reads: story, tokens, gates that its sliders show, moment, person asked for."""
    return page.evaluate(
        f"""() => {{
        const {{ story, tokens, frozen, position, asked }} = {PLAYER}.reading
        const sliders = [...document.querySelectorAll('[data-gate]')]
        const half = story.beta ? 2 : 1
        return {{ cast: story.cast, drinks: story.drinks, columns: story.columns, position, asked,
            beta: Boolean(story.beta),
            frozen: Math.min(frozen, tokens.length),
            gates: {{ theta: 0, eta: 0, alpha: 0,
                ...Object.fromEntries(sliders.map((slider) => [slider.dataset.gate, slider.value / half])) }},
            tokens: tokens.map(({{ kind, person, drink, k, v }}) =>
                ({{ kind, person, drink, k: [...k], v: [...v] }})) }}
    }}"""
    )


def square(facts):
    """A stream for the library: keys, values and gates from the words, in a square memory."""
    tokens, cast, drinks = facts["tokens"], facts["cast"], facts["drinks"]
    size, columns = max(len(drinks), facts["columns"]), facts["columns"]
    k, v = torch.zeros(len(tokens), size).double(), torch.zeros(len(tokens), size).double()
    gates = torch.zeros(3, len(tokens)).double()
    for t, token in enumerate(tokens):
        gates[:, t] = exact([facts["gates"][name] for name in ("theta", "eta", "alpha")])
        if token["kind"] in ("fact", "lie"):
            k[t, :columns], v[t, drinks.index(token["drink"])] = key(token["person"], cast, columns), 1.0
        elif token["kind"] == "noise":
            k[t, :columns], v[t, : len(drinks)] = exact(token["k"]), exact(token["v"])
            assert abs(k[t].norm() - 1) < EXACT
        else:
            gates[0, t] = 0
            gates[2, t] = max(gates[2, t], FORGETTING) if token["kind"] == "forget" else gates[2, t]
        if t >= facts["frozen"]:
            gates[:, t] = 0
    return k[None, None], v[None, None], Gates(*gates[:, None, None])


def truth(facts):
    """M and S at every moment [1 + tokens, drinks, columns] and |u_t|, from the library."""
    parts = ("cast", "drinks", "columns", "frozen", "gates", "tokens")
    return computed(json.dumps({part: facts[part] for part in parts}))


@lru_cache
def computed(text):
    facts = json.loads(text)
    k, v, gates = square(facts)
    _, M, S = library(k, k, v, gates)
    zero = torch.zeros_like(M[:1])
    M, S = torch.cat((zero, M)), torch.cat((zero, S))
    u = 2 * (torch.einsum("tij,tj->ti", M[:-1], k[0, 0]) - v[0, 0]).norm(dim=-1) * k[0, 0].norm(dim=-1)
    rows, columns = len(facts["drinks"]), facts["columns"]
    return M[:, :rows, :columns], S[:, :rows, :columns], u


def values(figure):
    """The numbers of a matrix that is shown, all their digits."""
    return exact(json.loads(f"[{figure.get_attribute('data-values')}]"))


def near(text, x):
    """Whether a text is this number in two digits, or whole from 100 on; a half may be rounded either way."""
    return abs(float(text.replace("−", "-")) - float(x)) <= (0.005 if abs(x) < 100 else 0.5) + 1e-9


def settled(page):
    """Waits until nothing is on its way any more."""
    page.wait_for_function(f"() => {{ const p = {PLAYER}; return !p.playing && !p.frame }}")


def agrees(page):
    """Everything that is shown is what the library computes from the words, the sliders and the moment."""
    settled(page)
    facts = told(page)
    M, S, u = truth(facts)
    at, drinks, cast = facts["position"], facts["drinks"], facts["cast"]
    answers = M[at] @ key(facts["asked"], cast, facts["columns"])

    for letter, wanted in (("M", M[at]), ("S", S[at])):
        figure = page.locator(f"[data-matrix={letter}]")
        if letter == "S" and not figure.count():
            continue
        assert far(values(figure), wanted.flatten()) < EXACT
        texts = figure.locator(".tx-cell").all_text_contents()
        assert all(near(text, x) for text, x in zip(texts, wanted.flatten().tolist(), strict=True))

    rows = page.eval_on_selector_all(
        ".tx-answer", "rows => rows.map(r => [r.dataset.drink, +r.dataset.value, r.innerText])"
    )
    assert [drink for drink, _, _ in rows] == drinks
    assert far(exact([value for _, value, _ in rows]), answers) < EXACT
    assert all(near(text.split()[-1], x) for (_, _, text), x in zip(rows, answers.tolist(), strict=True))
    scales = page.eval_on_selector_all(".tx-bar", "bars => bars.map(b => +b.style.transform.match(/[-.0-9]+/)[0])")
    assert all(abs(s - x) < 1e-3 for s, x in zip(scales, answers.clamp(-0.3, 1.3).tolist(), strict=True))

    order = answers.argsort(descending=True)
    verdict = page.locator(".tx-verdict")
    if answers[order[0]] >= 0.1:
        assert verdict.get_attribute("data-best") == drinks[order[0]]
        assert near(re.search(r"\d+(\.\d\d)?", verdict.inner_text()).group(), answers[order[0]])
    else:
        assert verdict.get_attribute("data-best") == ""
    lead = float(answers[order[0]] - answers[order[1]])
    assert abs(float(verdict.get_attribute("data-lead")) - lead) < EXACT * max(1, abs(lead))
    if at:
        narrated(page, facts, M, u)
        surprise = float(page.locator(".tx").get_attribute("data-surprise"))
        assert abs(surprise - u[at - 1]) < EXACT * max(1, surprise)
        shown = page.locator(".tx-surprise").text_content().split()[-1]
        assert near(shown, u[at - 1] / (2 if facts["beta"] else 1))
    drawn = page.evaluate(f"() => [[...{PLAYER}.shown.curves], [...{PLAYER}.shown.surprise]]")
    curves = torch.einsum("pij,j->pi", M, key(facts["asked"], cast, facts["columns"]))
    assert far(exact(drawn[0]), curves.flatten()) < 1e-3
    assert far(exact(drawn[1]), u) < 1e-3
    assert page.locator(".tx-chip.tx-now").count() == min(1, at)
    return facts, answers, u


def narrated(page, facts, M, u):
    """The sentence about the last token says the library's numbers: the answer before and after, and the surprise."""
    at = facts["position"]
    token, text = facts["tokens"][at - 1], page.locator(".tx-told").inner_text()
    if token["kind"] not in ("fact", "lie") or at > facts["frozen"]:
        return
    k, row = key(token["person"], facts["cast"], facts["columns"]), facts["drinks"].index(token["drink"])
    wanted = (M[at - 1, row] @ k, M[at, row] @ k, u[at - 1] / (2 if facts["beta"] else 1))
    said = re.findall(r"−?\d+(?:\.\d\d)?", text)[-3:]
    assert all(near(number, x) for number, x in zip(said, wanted, strict=True)), text


def do(page, name):
    page.locator(f"[data-do={name}]").click()


def moved(page, slider, keys):
    """Presses keys on a slider; the value that it then has."""
    slider.focus()
    for press in keys:
        page.keyboard.press(press)
    return float(slider.input_value())


def test_every_control_of_the_front_page_shows_what_the_library_computes(opened):
    page = opened(reduced_motion="reduce")
    page.evaluate(f"{PLAYER}.stepMs = 400")
    driven = set()
    first, _, _ = agrees(page)

    for name, wanted in (("step", 9), ("back", 8), ("restart", 0), ("step", 1)):
        do(page, name)
        driven.add(name)
        assert agrees(page)[0]["position"] == wanted
    do(page, "play")
    page.wait_for_function(f"() => {PLAYER}.reading.position >= 2")
    do(page, "play")
    driven.add("play")
    assert 2 <= agrees(page)[0]["position"] < len(first["tokens"])
    page.evaluate(f"{PLAYER}.stepMs = 50")

    scrub = page.locator(".tx-scrub")
    assert moved(page, scrub, ["End"]) == len(first["tokens"])
    agrees(page)
    assert moved(page, scrub, ["ArrowLeft"] * 9) == len(first["tokens"]) - 9
    agrees(page)
    box = page.locator(".tx-curves").bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    assert agrees(page)[0]["position"] in (12, 13)
    driven.add("scrub")

    for person in first["cast"]:
        page.locator(f".tx-person input[value={person}]").check(force=True)
        assert agrees(page)[0]["asked"] == person
        driven.add(person)
    page.locator(".tx-person input[value=Anna]").check(force=True)

    for gate, keys in (("theta", ["ArrowRight"] * 7), ("eta", ["End"]), ("eta", ["Home"]), ("alpha", ["PageUp"])):
        slider = page.locator(f"[data-gate={gate}]")
        value = moved(page, slider, keys)
        assert page.locator(f"output[for={slider.get_attribute('id')}]").inner_text() == f"{value:.2f}"
        assert agrees(page)[0]["gates"][gate] == value
        driven.add(gate)
    assert page.locator(".tx-dotted:not(.tx-absent)").count() == 1

    for name, kinds in (("lie", ["lie"]), ("repeat", ["fact"]), ("noise", ["noise"] * 3), ("forget", ["forget"] * 4)):
        before = told(page)
        do(page, name)
        after, _, _ = agrees(page)
        start, end = before["position"], before["position"] + len(kinds)
        assert after["position"] == end
        assert [token["kind"] for token in after["tokens"][start:end]] == kinds
        assert after["tokens"][end:] == before["tokens"][start:]
        driven.add(name)
    place = next(t for t, token in enumerate(after["tokens"]) if token["kind"] == "lie")
    lie, repeated = after["tokens"][place : place + 2]
    assert lie["person"] == repeated["person"] == "Anna"
    assert lie["drink"] != repeated["drink"] == "cola"

    page.locator(".tx-tell select").nth(0).select_option("Emi")
    page.locator(".tx-tell select").nth(1).select_option("juice")
    do(page, "tell")
    after, answers, _ = agrees(page)
    assert after["asked"] == "Emi"
    assert answers.argmax() == after["drinks"].index("juice")
    driven |= {"tell", "who", "what"}

    do(page, "reset")
    again, _, _ = agrees(page)
    assert {**again, "asked": first["asked"]} == first
    driven.add("reset")
    for scene in SCENES[1:] + SCENES[:1]:
        page.locator(f"[data-scene={scene}]").click()
        agrees(page)
        do(page, "step")
        agrees(page)
        driven.add(f"scene {scene}")
    assert page.locator(".tx :is(button, input, select):visible").count() == len(driven)


@pytest.mark.parametrize("lesson", SMALL)
def test_every_control_of_a_small_player_shows_what_the_library_computes(opened, lesson):
    page = opened(lesson, language="ja", width=736, reduced_motion="reduce")
    agrees(page)
    for name in ("step", "step", "back"):
        do(page, name)
        agrees(page)
    moved(page, page.locator(".tx-scrub"), ["End"])
    agrees(page)
    for slider in page.locator("[data-gate]").all():
        for keys in (["End"], ["Home"], ["PageUp", "PageUp", "ArrowRight"]):
            moved(page, slider, keys)
            agrees(page)
    for person in page.locator(".tx-person input").all():
        person.check(force=True)
        agrees(page)
    if lesson == "09":
        moved(page, page.locator(".tx-scrub"), ["Home"] + ["ArrowRight"] * 18)
        do(page, "freeze")
        moved(page, page.locator(".tx-scrub"), ["End"])
        frozen, _, _ = agrees(page)
        assert frozen["frozen"] == 18
        do(page, "freeze")
        assert agrees(page)[0]["frozen"] == 40
    do(page, "reset")
    agrees(page)
    do(page, "play")
    page.wait_for_function(f"() => !{PLAYER}.playing || {PLAYER}.reading.position > {told(page)['position']}")
    do(page, "restart")
    assert agrees(page)[0]["position"] == 0


def test_going_back_and_forth_shows_the_same_numbers_again(opened):
    page = opened()
    M, S, _ = truth(told(page))
    random = torch.Generator().manual_seed(1)
    for at in torch.randint(0, len(M), (40,), generator=random).tolist():
        page.evaluate(f"at => {PLAYER}.seek(at)", at)
        for letter, wanted in (("M", M), ("S", S)):
            assert far(values(page.locator(f"[data-matrix={letter}]")), wanted[at].flatten()) < EXACT
    agrees(page)


def test_the_player_of_lesson_09_gives_the_answers_that_the_lesson_tells(opened):
    page = opened("09", width=736)
    facts = told(page)
    said = [(token["person"] or "", token["drink"] or "") for token in facts["tokens"]]
    assert said == bare_player.SCRIPT
    for change, arguments in (
        ({}, (False, False, None)),
        ({"eta": 0.0}, (True, False, None)),
        ({"alpha": 0.0}, (False, True, None)),
        ({"frozen": 18}, (False, False, 18)),
    ):
        frozen = change.pop("frozen", 40)
        now = {**facts, "gates": {**facts["gates"], **change}, "frozen": frozen}
        M, _, u = truth(now)
        answers = torch.stack(
            [M[1:] @ key(name, facts["cast"], facts["columns"]) for name in bare_player.PEOPLE], dim=1
        )
        recorded = bare_player.record(*arguments)
        assert (answers - torch.from_numpy(recorded.answers)).abs().max() < 1e-12
        facts_only = torch.tensor([bool(person) for person, _ in said])
        assert (u - torch.from_numpy(recorded.surprise))[facts_only].abs().max() < 1e-12


# ---------------------------------------------------------------- what its sentences say


def scene(page, name, **gates):
    """Answers of the person who is asked [1 + tokens, drinks] and |u_t|, from the library, gates changed."""
    page.locator(f"[data-scene={name}]").click()
    facts = told(page)
    M, S, u = truth({**facts, "gates": {**facts["gates"], **gates}})
    answers = {person: M @ key(person, facts["cast"], facts["columns"]) for person in facts["cast"]}
    return answers, u, facts["position"], facts["drinks"], S


def test_what_the_scenes_say_is_true(opened):
    page = opened()
    tea, coffee, milk, _, cola = range(5)

    answers, _, start, *_ = scene(page, "day")
    assert answers["Ana"][start].argmax() == tea
    assert answers["Ana"][12].argmax() == cola

    answers, u, *_ = scene(page, "again")  # each telling takes 2θ of what is still wrong
    assert (u[1:] / u[:-1] - (1 - 2 * 0.2)).abs().max() < 1e-9
    answers, u, *_ = scene(page, "again", theta=0.5)
    assert abs(answers["Ben"][1, coffee] - 1) < EXACT
    assert u[1:].max() < EXACT

    answers, *_ = scene(page, "momentum")
    assert (answers["Ana"][1:, tea].diff() > 0).all()
    assert answers["Ana"].max() < 1
    assert (scene(page, "momentum", eta=0.0)[0]["Ana"][1:, tea].diff() == 0).all()
    assert scene(page, "momentum", eta=0.61)[0]["Ana"].max() > 1

    answers, _, start, *_ = scene(page, "alike")
    assert (answers["Ana"][start:, tea].diff() < 0).all()
    assert (answers["Ana"][start:, cola].diff() > 0).all()
    assert (answers["Ben"][start:].diff(dim=0) == 0).all()

    answers, _, start, *_ = scene(page, "lie")
    assert [answers["Ben"][at].argmax().item() for at in (start, start + 1, start + 2)] == [coffee, cola, coffee]
    assert scene(page, "lie", theta=0.1)[0]["Ben"][start + 1].argmax() == coffee

    answers, _, start, *_ = scene(page, "fade")
    faded = answers["Cleo"][start:, milk]
    assert (faded[1:] / faded[:-1] - 0.9).abs().max() < 1e-12
    assert (scene(page, "fade", alpha=0.0)[0]["Cleo"][start:, milk].diff() == 0).all()


def test_what_the_gates_say_is_true(opened):
    page = opened()
    page.locator("[data-scene=day]").click()
    facts = told(page)

    def read(**gates):
        return truth({**facts, "gates": {**facts["gates"], **gates}})

    assert read(theta=0.0)[0].abs().max() == 0  # at 0 it learns nothing
    M, S, _ = read(eta=0.0, alpha=0.0)
    silent = [t for t, token in enumerate(facts["tokens"]) if token["kind"] == "silence"]
    assert silent
    assert all((M[t + 1] == M[t]).all() and (S[t + 1] == 0).all() for t in silent)  # written only when told, no fading
    M, _, _ = read(eta=0.0, alpha=0.25)
    assert all((M[t + 1] - 0.75 * M[t]).abs().max() < EXACT for t in silent)  # α is the share that is lost
    anna = M @ key("Anna", facts["cast"], facts["columns"])
    assert (anna - (0.6 * M[..., 0] + 0.8 * M[..., 1])).abs().max() < EXACT  # the note below M

    beta = told(opened("01", width=736))  # the share of the error that a write takes away
    for theta in (0.1, 0.5, 0.7):
        M, _, _ = truth({**beta, "gates": {"theta": theta, "eta": 0.0, "alpha": 0.0}})
        k, v, _ = square(beta)
        for t in range(len(M) - 1):
            before, after = (v[0, 0, t] - M[at] @ k[0, 0, t] for at in (t, t + 1))
            assert (after - (1 - 2 * theta) * before).abs().max() < EXACT


# ---------------------------------------------------------------- looks and manners


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("window", sorted(HEIGHTS))
def test_nothing_moves_but_what_should(opened, language, window):
    """No part jumps: not when the script arrives, not while the memory reads; nothing is wider than the window."""
    for lesson in ("", *SMALL) if window == 390 else ("", "09"):
        page = opened(lesson, language, width=736 if lesson else 1100, window=window)
        shift = page.evaluate(
            """() => new Promise(resolve => new PerformanceObserver(list => resolve(list.getEntries().reduce(
                (sum, entry) => sum + entry.value, 0))).observe({type: 'layout-shift', buffered: true})
                || setTimeout(() => resolve(0), 100))"""
        )
        assert shift < 0.01
        heights = page.evaluate(
            f"""() => {{
            const player = {PLAYER}, heights = new Set()
            for (const person of player.reading.story.cast) {{
                player.ask(person)
                for (let at = 0; at <= player.reading.tokens.length; at++) {{
                    player.seek(at)
                    heights.add(player.root.offsetHeight)
                }}
            }}
            return [...heights]
        }}"""
        )
        assert len(heights) == 1, (lesson, heights)
        assert page.evaluate("document.documentElement.scrollWidth") <= window


def test_scenes_are_of_one_height_on_a_phone(opened):
    for language in ("en", "ja"):
        page = opened(language=language, window=390)
        heights = set()
        for name in SCENES:
            page.locator(f"[data-scene={name}]").click()
            heights.add(page.evaluate(f"{PLAYER}.root.offsetHeight"))
        assert len(heights) == 1, (language, heights)


@pytest.mark.parametrize("lesson", ["", *SMALL])
@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_control_has_a_name_in_the_language_of_the_page(opened, language, lesson):
    page = opened(lesson, language, window=390)
    names, sliders, small = [], 0, []
    for _ in parts_in_turn(page):
        names += page.locator(SEEN).evaluate_all(
            """seen => seen.map(e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText
                || e.querySelector('legend, caption')?.innerText || e.innerText)"""
        )
        sliders += page.get_by_role("slider").count()
        small += page.locator(".tx :is(button, select, .tx-person, .tx-part):visible").evaluate_all(
            """seen => seen.filter(e => {
            const box = e.getBoundingClientRect(); return box.height < 40 || box.width < 40 }).map(e => e.outerHTML)"""
        )
    assert all(names)
    if language == "ja":
        latin = {"Ana", "Anna", "Ben", "Cleo", "Dan"}  # the lessons' names
        assert [name for name in names if not re.search(r"[ぁ-んァ-ヶ一-龠]", name) and name not in latin] == []
    assert page.locator("[aria-live=polite]").count() == 1
    assert sliders == len(page.locator("input[type=range]").all())
    assert small == []


def parts_in_turn(page):
    """On a phone: the name of each part of a player that can be shown below the answers, while it is."""
    for part in page.locator(".tx-part input").all():
        part.check(force=True)
        yield part.get_attribute("value")


def test_on_a_phone_each_part_is_there_when_it_is_chosen_and_only_then(opened):
    shown = {"gates": ".tx-gates", "events": ".tx-events", "stream": ".tx-time", "S": ".tx-S"}
    for lesson, parts in (("", [*shown]), ("01", ["gates", "stream"]), ("09", ["gates", "stream", "S"])):
        page, heights = opened(lesson, **PHONE), set()
        assert page.locator(".tx-gates").is_visible()
        for part in parts_in_turn(page):
            there = [name for name, place in shown.items() if page.locator(place).is_visible()]
            assert there == [part]
            assert parts.pop(0) == part
            heights.add(page.evaluate(f"{PLAYER}.root.offsetHeight"))
        assert (parts, len(heights)) == ([], 1)
    page = opened(window=800, width=758)
    assert page.locator(".tx-part:visible").count() == 0
    assert all(page.locator(place).is_visible() for place in shown.values())


@pytest.mark.parametrize("language", ["en", "ja"])
def test_on_a_phone_matrix_answers_and_gates_are_in_sight_together_and_move_together(opened, language):
    page = opened(language=language, **PHONE)
    page.evaluate("document.querySelector('.tx-M').scrollIntoView({block: 'start'})")
    keys = page.locator(".tx-transport").bounding_box()
    assert abs(keys["y"] + keys["height"] - HEIGHTS[390]) < 1  # at the window's edge, wherever one scrolls
    before = page.locator(".tx-M").get_attribute("data-values")
    for gate in ("theta", "eta"):
        slider = page.locator(f"[data-gate={gate}]")
        box = slider.bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] < keys["y"]
        page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
        assert page.locator(".tx-M").get_attribute("data-values") != before
        agrees(page)
        before = page.locator(".tx-M").get_attribute("data-values")
    for name, place in (("step", 9), ("back", 8)):
        page.locator(f"[data-do={name}]").tap()
        assert agrees(page)[0]["position"] == place
    assert page.evaluate("scrollY") > 0


def test_keys_reach_every_control_and_show_where_they_are(opened):
    page = opened(window=390)
    reached, outlined = [], []
    for _ in range(page.locator(".tx :is(button, input, select):visible").count()):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
            const e = document.activeElement, seen = e.type === 'radio' ? e.nextSibling : e
            return [e.dataset.do || e.dataset.scene || e.dataset.gate || e.type, getComputedStyle(seen).outlineStyle]
        }"""
        )
        reached.append(name)
        outlined.append(outline)
    stops = 6 + 1 + 3 + 1 + 4  # scenes, who is asked, gates, which part is shown, the keys
    assert len(set(reached[:stops])) == stops - 1  # both groups are radios
    assert set(outlined[:stops]) == {"solid"}
    page.locator(".tx-part input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "events"
    told = [page.keyboard.press("Tab") or page.evaluate("document.activeElement.dataset.do") for _ in range(8)]
    assert told[2:] == ["tell", "lie", "repeat", "noise", "forget", "reset"]  # behind the two lists
    page.locator(".tx-person input:checked").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".tx").get_attribute("data-asked") == "Anna"
    page.locator("[data-do=step]").focus()
    page.keyboard.press("Space")
    assert page.locator(".tx").get_attribute("data-position") == "9"


@pytest.mark.parametrize("name", ["memory_at_work.webp", "memory_at_work_ja.webp"])
def test_the_moving_picture_moves_and_is_small(name):
    path = NOTEBOOKS / name
    assert path.stat().st_size <= 2_000_000
    with read_picture(path) as picture:
        assert picture.n_frames > 100
        assert picture.width >= 800


def test_words_are_there_in_both_languages_and_each_is_used(bare):
    keys = """words => Object.entries(words).map(([name, word]) =>
        word.constructor === Object ? [name, ...Object.keys(word)] : [name, typeof word])"""
    bare.add_script_tag(path=SITE / "words.js")
    english, japanese = (bare.evaluate(f"({keys})(TitansWords.{language})") for language in ("en", "ja"))
    assert english == japanese
    source = (SITE / "explainer.js").read_text(encoding="utf-8")
    assert [name for name, *_ in english if not re.search(rf"\b{name}\b", source)] == []
    assert len(english) > 50


def test_with_reduced_motion_nothing_glides(opened):
    page = opened(reduced_motion="reduce")
    for action in ("seek(12)", "ask('Ben')", "setGate('theta', 0.5)", "say(['Emi:tea'])"):
        page.evaluate(f"{PLAYER}.{action}")
        here = page.evaluate(f"() => [{PLAYER}.shown, {PLAYER}.goal].map(s => Object.values(s).map(a => [...a]))")
        assert here[0] == here[1]


def test_otherwise_it_does(opened):
    page = opened()
    far = page.evaluate(f"() => {{ {PLAYER}.seek(0); return {PLAYER}.shown.position[0] }}")
    assert far > 0
    settled(page)
    assert page.evaluate(f"{PLAYER}.shown.position[0]") == 0


@pytest.mark.parametrize("system", ["light", "dark"])
def test_colours_follow_the_theme_and_where_it_says_nothing_the_system(opened, system):
    page = opened(theme="auto", color_scheme=system)
    paper = "getComputedStyle(document.querySelector('.tx-M')).backgroundColor"
    seen = {}
    for theme in ("auto", "light", "dark"):
        page.evaluate("theme => { document.body.dataset.theme = theme }", theme)
        page.wait_for_timeout(50)
        drawn = page.evaluate("document.querySelector('.tx-curves').toDataURL()")
        seen[theme] = (
            page.evaluate(paper),
            drawn,
            page.evaluate("document.querySelector('.tx-cell').style.backgroundColor"),
        )
    assert seen["auto"] == seen[system]
    assert all(one != other for one, other in zip(seen["light"], seen["dark"], strict=True))


def test_what_the_site_put_there_is_for_print(opened, browser, tmp_path):
    page = browser.new_page()
    page.goto(write_page(tmp_path / "x.html", inside="<img alt='still' width=10 height=10>"))
    assert not page.locator("img").is_visible()
    page.emulate_media(media="print")
    assert page.locator("img").is_visible()
    assert not page.locator(".tx").is_visible()
    page.close()


def test_it_is_small():
    assert sum((SITE / name).stat().st_size for name in FILES) < 80_000
