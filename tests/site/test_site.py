"""The static site: every link leads somewhere, every formula is set, every picture says what it shows, both languages
have the same pages, and in a browser without a network nothing is missing and nobody is shut out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import nbformat
import pytest

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, ROOT
from tests.site.every_page import problems
from tests.site.pages import dead, inside, raw_mathematics, read

LESSONS = sorted(path.stem for path in (NOTEBOOKS / "src").glob("[0-9][0-9]_*.py"))
LOOKED_AT = ["index", "lessons/03_surprise_momentum_forgetting", "library", "api/titans.neural_memory"]
PAGES = [f"{language}/{name}.html" for language in build.LANGUAGES for name in LOOKED_AT]
TABLES = ["speed", "results", "lessons", "decisions", "guide", "library", "start", "glossary"]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def pages(site):
    return {path.relative_to(site).as_posix(): read(path) for path in sorted(site.rglob("*.html"))}


# --- Without a browser ------------------------------------------------------------------------------------------------


def test_both_languages_have_the_same_pages_with_every_lesson(pages):
    english, japanese = ({name[3:] for name in pages if name.startswith(each)} for each in ("en/", "ja/"))
    assert english == japanese
    assert {f"lessons/{name}.html" for name in LESSONS} < english
    assert {
        f"{name}.html" for name in ("index", "glossary", "equations", "questions", "decisions", "results")
    } < english


def test_every_page_switches_to_the_same_place_in_the_other_language(pages):
    for name in (name for name in pages if name.startswith("en/")):
        other = pages[f"ja/{name[3:]}"]
        sections, others = ({i for i in each.ids if i.startswith("section-")} for each in (pages[name], other))
        assert sections == others, name
        for page, language in ((pages[name], "ja"), (other, "en")):
            switch = [link for link in page.links if link.endswith(f"../{language}/{name[3:]}")]
            assert len(switch) == 1, name


def test_every_link_and_everything_that_is_loaded_is_there(pages, site):
    assert {name: missing for name, page in pages.items() if (missing := dead(page, site))} == {}


def test_nothing_is_loaded_from_elsewhere(pages, site):
    assert {name for name, page in pages.items() for each in page.loaded if not inside(each)} == set()
    for style in site.rglob("*.css"):
        for url in re.findall(r"url\(\s*[\"']?([^\"')]+)", style.read_text(encoding="utf-8")):
            assert url.startswith(("data:", "#")) or (style.parent / url).is_file(), (style.name, url)


@pytest.mark.parametrize("language", build.LANGUAGES)
@pytest.mark.parametrize("name", LESSONS)
def test_every_formula_of_a_lesson_is_set(pages, name, language):
    notebook = nbformat.read(NOTEBOOKS / language / f"{name}.ipynb", as_version=4)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    written = {equation.strip("$") for text in prose for equation in build.structure(text)["equations"]}
    assert written
    assert written - pages[f"{language}/lessons/{name}.html"].formulas == set()


def test_no_formula_is_left_as_it_was_written(pages, site):
    assert raw_mathematics("a $x_t$") == ["$x_t$"]
    assert raw_mathematics("5 $ or 6 $") == []
    left = {name: raw_mathematics(page.prose) for name, page in pages.items()}
    assert {name: found for name, found in left.items() if found} == {}
    assert not any("katex-error" in (site / name).read_text(encoding="utf-8") for name in pages)


def test_every_picture_says_what_it_shows_and_how_large_it_is(pages):
    for name, page in pages.items():
        for picture in page.pictures:
            assert len(picture.get("alt") or "") > 20, (name, picture)
            assert {"width", "height"} <= picture.keys(), (name, picture)


@pytest.mark.parametrize("language", build.LANGUAGES)
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_shows_every_picture_of_its_notebook(pages, name, language):
    notebook = nbformat.read(NOTEBOOKS / language / f"{name}.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [each.metadata["image/png"]["alt"] for each in outputs if "image/png" in each.get("data", {})]
    assert [picture["alt"] for picture in pages[f"{language}/lessons/{name}.html"].pictures] == shown


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_the_indices_lead_from_every_equation_and_term(pages, language):
    from titans.equations import EQUATIONS

    index = pages[f"{language}/equations.html"]
    code = [link.split(".")[-1] for link in index.links if link.startswith("api/") and "#titans" in link]
    assert code == [equation.code.split(".")[-1] for equation in EQUATIONS.values()]
    assert {f"lessons/{equation.lesson}.html" for equation in EQUATIONS.values()} < set(index.links)
    terms = (NOTEBOOKS / "glossary.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for term in terms:
        assert term.split("\t")[0].split("/")[0] in pages[f"{language}/glossary.html"].prose


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_the_table_of_lessons_leads_to_each_lesson_in_the_language_of_the_page(pages, language):
    links = [link for link in pages[f"{language}/lessons.html"].links if re.search(r"/\d\d_\w+\.html$", link)]
    there = links[len(LESSONS) : -1]  # after those of the navigation, before the one to the next page
    assert there == [f"lessons/{name}.html" for name in LESSONS]


def test_the_glossary_shows_words_and_not_what_a_test_looks_for(pages):
    shown = pages["ja/glossary.html"].prose
    for word in ("たずねる", "伝える", "切り離す", "取り置き"):
        assert re.search(rf"^{word}$", shown, re.MULTILINE), word
    notes = [line for line in shown.splitlines() if re.search("[ぁ-ん]", line)]
    assert [note for note in notes if re.search(r"\b(as|of|in|by|before|without)\b", note)] == []


def test_no_word_of_the_theme_is_left_in_english(pages, site):
    theirs = r">\s*(On this page|Light mode|Dark mode|Menu|Expand|Next|Previous|Home)\s*<"
    for name in (name for name in pages if name.startswith("ja/")):
        assert re.findall(theirs, (site / name).read_text(encoding="utf-8")) == [], name


def test_an_indented_block_of_a_docstring_is_code_to_its_end(monkeypatch):
    monkeypatch.syspath_prepend(NOTEBOOKS)
    from site_builder import reference

    written = '"""Two lines.\n\n    q = W_Q x\n    y = M(q)\n\ndim: features,\n    of x.\n"""'
    assert reference.docstring(ast.parse(written)).splitlines() == [
        "Two lines.",
        "",
        "    q = W_Q x",
        "    y = M(q)",
        "",
        "- **dim**: features,",
        "  of x.",
    ]


def test_the_reference_describes_what_titans_exports(pages):
    import titans

    listed = pages["en/api/index.html"].links
    for name in titans.__all__:
        assert any(link.endswith(f".{name}") for link in listed), name


def test_buttons_that_lead_to_the_repository_are_there_only_when_it_has_an_address(pages, monkeypatch):
    assert not any("colab" in link for name, page in pages.items() for link in page.links if "/lessons/" in name)
    monkeypatch.syspath_prepend(NOTEBOOKS)
    from site_builder import finish
    from site_builder.links import Places

    page = Path("lessons") / f"{LESSONS[0]}.html"
    links = finish.tools(page, Places(ROOT, "en", "https://github.com/someone/somewhere"))
    assert f"github/someone/somewhere/blob/main/notebooks/en/{LESSONS[0]}.ipynb" in links


def test_the_folder_has_both_languages_and_the_entrance_and_nothing_else(site):
    assert sorted(path.name for path in site.iterdir()) == [".nojekyll", "en", "index.html", "ja"]
    for language in build.LANGUAGES:
        folders = {path.name for path in (site / language).iterdir() if path.is_dir()}
        assert folders == {"_images", "_static", "api", "files", "lessons"}


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_what_is_handed_out_can_be_opened(site, language):
    for name in LESSONS:
        for form in (name, f"{name}_single"):
            nbformat.validate(nbformat.read(site / language / "files" / f"{form}.ipynb", as_version=4))


def test_only_a_site_is_replaced(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("not to be lost", encoding="utf-8")
    assert build.main(["--site", str(tmp_path)]) == 1
    assert "is there and is no site" in capsys.readouterr().err
    assert (tmp_path / "letter.txt").is_file()


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_a_network_misses_nothing_fits_a_phone_and_shuts_nobody_out(site, page, name):
    """Of every page: `python -m tests.site.every_page`."""
    assert (problems(page, site / name), page.wrong) == ([], [])


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_no_page_is_wider_than_a_phone(site, page, language):
    page.set_viewport_size(PHONE)
    wider = {}
    for file in sorted((site / language).rglob("*.html")):
        page.goto(file.as_uri(), wait_until="load")
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        wider[file.name] = page.evaluate("document.documentElement.scrollWidth") - PHONE["width"]
    assert {name: pixels for name, pixels in wider.items() if pixels > 0} == {}


@pytest.mark.parametrize("language", build.LANGUAGES)
@pytest.mark.parametrize("name", TABLES)
def test_a_table_on_a_phone_is_whole(site, page, name, language):
    """It is as wide as the page, or scrolls in itself to its last column, and what its rows are about stays in sight;
    the page does not move sideways."""
    page.set_viewport_size(PHONE)
    page.goto((site / language / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wrong = page.evaluate(
        """() => [...document.querySelectorAll('.table-wrapper')].filter(box => {
            const edge = box.getBoundingClientRect()
            box.scrollLeft = 9999
            return [...box.querySelectorAll('tbody tr')].some(row => {
                const cells = [...row.cells].map(e => e.getBoundingClientRect())
                return cells[0].left < edge.left - 1 || cells.pop().right > edge.right + 1
            })
        }).map(box => box.innerText.slice(0, 60))"""
    )
    assert wrong == []
    sentences = page.locator("table.sentences")
    assert sentences.count() > 0 or name in ("speed", "results", "glossary")
    for table in sentences.all():
        assert table.evaluate("e => e.scrollWidth") < PHONE["width"]
        named = table.locator("tbody tr").first.locator("td").evaluate_all("all => all.map(e => e.dataset.head)")
        assert named == table.locator("thead th").all_text_contents()


def test_on_paper_a_table_is_whole(site, page):
    page.set_viewport_size({"width": 672, "height": 900})  # A4 between its margins
    page.emulate_media(media="print")
    for name in TABLES:
        page.goto((site / "en" / f"{name}.html").as_uri())
        wide = "all => all.filter(e => e.offsetWidth > 673 || getComputedStyle(e.parentElement).overflowX != 'visible')"
        assert page.locator("table.docutils").evaluate_all(f"{wide}.length") == 0, name


@pytest.mark.parametrize("name", ["equations", *(f"lessons/{name}" for name in LESSONS)])
def test_no_equation_is_wider_than_a_phone(site, page, name):
    page.set_viewport_size(PHONE)
    page.goto((site / "en" / f"{name}.html").as_uri())
    wide = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
    assert page.locator(".math-block").evaluate_all(wide) == []


@pytest.mark.parametrize("name", ["lessons/09_at_test_time", "lessons/11_after_titans"])
def test_no_line_begins_with_a_comma_behind_a_formula(site, page, name):
    page.set_viewport_size(PHONE)
    page.goto((site / "ja" / f"{name}.html").as_uri())
    lonely = page.locator("article .katex").evaluate_all(
        """all => all.filter(e => e.offsetWidth < 100 && !e.closest('.together, .math-block') && /^[、。，）」：]/.test(
            e.nextSibling?.nodeType === Node.TEXT_NODE ? e.nextSibling.data : '')).length"""
    )
    broken = page.locator(".together").evaluate_all(
        """all => all.filter(e => {
            const formula = e.querySelector('.katex-html'), end = e.lastChild
            if (end.nodeType !== Node.TEXT_NODE || !end.data) return false
            const range = document.createRange()
            range.selectNode(end)
            return range.getBoundingClientRect().top > formula.getBoundingClientRect().bottom
        }).length"""
    )
    assert page.locator(".together").count() > 5
    assert (lonely, broken) == (0, 0)


def test_the_keys_of_the_memory_stay_at_the_edge_of_a_phone(site, page):
    page.set_viewport_size(PHONE)
    page.goto((site / "en/index.html").as_uri())
    for part in (".tx-M", ".tx-ask"):
        page.evaluate("part => document.querySelector(part).scrollIntoView()", part)
        box = page.locator(".tx-transport").bounding_box()
        assert abs(box["y"] + box["height"] - PHONE["height"]) < 1


def test_code_can_be_copied(site, browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto((site / "en/start.html").as_uri())
    page.locator("button.copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("python3 -m venv .venv && ")
    assert page.locator("button.copy").first.inner_text() == "Copied"
    context.close()


@pytest.mark.parametrize(
    ("language", "asked", "answer"),
    [
        ("en", "half-life", "lessons/03_surprise_momentum_forgetting.html"),
        ("en", "chunked_scan", "api/titans.chunked.html"),
        ("ja", "勾配降下", "lessons/02_memory_module.html"),
        ("ja", "テスト時", "lessons/09_at_test_time.html"),
        ("ja", "忘却", "lessons/03_surprise_momentum_forgetting.html"),
        ("ja", "chunked_scanの引数", "api/titans.chunked.html"),
    ],
)
def test_search_finds_what_is_asked(site, page, language, asked, answer):
    page.goto((site / language / "search.html").as_uri() + f"?q={asked}")
    page.wait_for_function("document.querySelector('.search-summary')?.textContent.match(/\\d/)", timeout=10_000)
    page.wait_for_selector(f"ul.search li a[href^='{answer}']", timeout=10_000)
    assert page.wrong == []


def test_the_switch_of_language_keeps_the_place(site, page):
    at_top = "Math.abs(document.getElementById('section-4').getBoundingClientRect().top) < innerHeight / 3"
    page.goto((site / PAGES[1]).as_uri() + "#section-4")
    page.wait_for_function(at_top)
    page.wait_for_timeout(300)
    switch = page.locator(".page-tools .language")
    switch.dispatch_event("pointerdown")
    page.goto((site / PAGES[1]).parent.as_uri() + "/" + switch.get_attribute("href"))
    assert page.url.endswith(f"/{PAGES[5]}#section-4")
    page.wait_for_function(at_top)


def test_the_front_page_loads_little(site, page):
    loaded = []
    page.on("request", lambda request: loaded.append(request))
    page.goto((site / "en/index.html").as_uri())
    page.wait_for_load_state("networkidle")
    kinds = ("script", "stylesheet", "font")
    names = {request.url.split("?")[0] for request in loaded if request.resource_type in kinds}
    sizes = [Path(url2pathname(urlsplit(name).path)).stat().st_size for name in names]
    assert len(sizes) > 5
    assert sum(sizes) <= 300_000


def test_the_first_page_leads_to_the_readers_language(site, browser):
    for locale, language in (("ja-JP", "ja"), ("fr-FR", "en")):
        context = browser.new_context(locale=locale)
        page = context.new_page()
        page.goto((site / "index.html").as_uri())
        page.wait_for_url(f"**/{language}/index.html")
        context.close()


def test_a_lesson_prints_with_its_folded_answers(site, page):
    page.goto((site / PAGES[1]).as_uri())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article details:not([open])").count() == 0
    assert len(page.pdf()) > 100_000
