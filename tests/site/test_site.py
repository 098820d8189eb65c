"""The static site: every link leads somewhere, every formula is set, every picture says what it shows, both languages
have the same pages, and in a browser without a network nothing is missing and nobody is shut out."""

from __future__ import annotations

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
