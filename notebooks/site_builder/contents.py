"""The sources of one language's pages: Markdown and notebooks, as Sphinx reads them."""

from __future__ import annotations

import csv
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import single
from nbformat import NotebookNode

from site_builder import reference
from site_builder.links import DOCUMENTS, Places, module_name
from site_builder.words import EQUATIONS, SAY

LIVE = ("Live picture", "動かせる図")  # how the text of a live picture begins
PLAYER = '<div class="titans-explainer" data-lang="{language}" data-kind="{kind}" data-lesson="{number}"></div>'
PLAYED = {"01": "key_lab()", "03": "gates_lab()", "09": "bare_player()"}  # the live pictures that play in the page
ASSETS = Path(__file__).resolve().parents[1] / "site"
FORMULA = re.compile(r"(?<!\$)\$[^$`]+\$(?!\$)")  # of which a line must not begin with "-", which would be a list
MINUTES = re.compile(r"About (\d+) minutes to read|読むのに約(\d+)分")


def write(folder: Path, places: Places) -> None:
    """Write every source of one language, and under files/ what its pages show or hand out."""
    for name in ("lessons", "api", "files"):
        (folder / name).mkdir(parents=True)
    shutil.copy(places.root / "notebooks" / "memory_at_work.png", folder / "files")
    lessons = {name: built(places, name) for name in places.lessons}
    for name, text in documents(places, lessons):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    for name, notebook in lessons.items():
        hand_out(folder / "files", places, name, notebook)
        nbformat.write(lesson(notebook, places, name), folder / "lessons" / f"{name}.ipynb")


def built(places: Places, name: str) -> NotebookNode:
    """A lesson as it is committed."""
    return nbformat.read(places.root / "notebooks" / places.language / f"{name}.ipynb", as_version=4)


def hand_out(folder: Path, places: Places, name: str, notebook: NotebookNode) -> None:
    """A lesson to download: as it is committed, and as one file that runs by itself."""
    source = places.root / "notebooks" / "src" / f"{name}.py"
    nbformat.write(notebook, folder / f"{name}.ipynb")
    nbformat.write(single.single(source, places.language, notebook), folder / f"{name}_single.ipynb")


# --- Lessons ----------------------------------------------------------------------------------------------------------


def lesson(notebook: NotebookNode, places: Places, name: str) -> NotebookNode:
    """A lesson without the links of its notebook, which the site has itself, its pictures with their alt text, and
    what follows a prediction folded."""
    page, origin = f"lessons/{name}.ipynb", f"notebooks/{places.language}/{name}.ipynb"
    shown = nbformat.from_dict(notebook)
    cells = []
    for cell in shown.cells[1:-1]:
        cells.append(cell)
        if cell.cell_type == "markdown":
            text = FORMULA.sub(lambda found: found[0].replace("\n", " "), single.FAILS.sub("", cell.source))
            cell.source = places.rewritten(text, origin, page)
            continue
        cell.outputs = [output for output in cell.outputs if output.get("data") != {}]
        if cell.metadata.pop("jupyter", {}).get("outputs_hidden") and cell.outputs:
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
        for output in (output for output in cell.outputs if "image/png" in output.get("data", {})):
            cell.metadata["mystnb"] = {"image": {"alt": output.metadata["image/png"]["alt"]}}
            if output.data["text/plain"].startswith(LIVE):
                cells += live(cell, places, name[:2])
    shown.cells = cells
    return shown


def live(cell: NotebookNode, places: Places, number: str) -> list[NotebookNode]:
    """What follows a live picture, of which the page has a few states: how to see it move, or a player in its place."""
    if number in PLAYED and PLAYED[number] in cell.source:
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
        text = PLAYER.format(language=places.language, kind="small", number=number)
    else:
        text = f"*{SAY[places.language]['live']}*"
    return [nbformat.v4.new_markdown_cell(text, id=f"{cell.id}-live")]


def title(notebook: NotebookNode) -> str:
    """A lesson's title without its number."""
    return re.search(r"^# \d\d · (.*)$", notebook.cells[1].source, re.MULTILINE)[1]  # type: ignore[index]


# --- Documents --------------------------------------------------------------------------------------------------------


def documents(places: Places, lessons: dict[str, NotebookNode]) -> Iterator[tuple[str, str]]:
    """Every page that is no lesson: its name and its text."""
    for name, origin in DOCUMENTS.items():
        if name != "index":
            text = places.text(origin)
            text = listed(text, places) if name == "lessons" else text
            yield name, imported(places, text, f"{origin}.md", f"{name}.md")
    yield "glossary", glossary(places)
    yield "equations", equations(places, lessons)
    for module in places.modules:
        yield f"api/{module_name(module.relative_to(places.root).as_posix())}", reference.page(module, places.root)
    yield "api/index", modules(places)
    yield "index", front(places, lessons)


def imported(places: Places, text: str, origin: str, page: str) -> str:
    """A document of the repository, without what only GitHub needs: comments, and the link to the other language."""
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"^\[(日本語|English)\]\(\w+\.md\)\n", "", text, flags=re.MULTILINE)
    return places.rewritten(text, origin, page)


def listed(text: str, places: Places) -> str:
    """The table of lessons with a link from each title, in place of a column of links to both languages."""

    def row(found: re.Match[str]) -> str:
        number, lesson, *others, _ = (cell.strip() for cell in found[0][1:-1].split("|"))
        link = next((f"{places.language}/{name}.ipynb" for name in places.lessons if name[:2] == number), None)
        return "| " + " | ".join([number, f"[{lesson}]({link})" if link else lesson, *others]) + " |"

    return re.sub(r"^\|.*\|$", row, text, flags=re.MULTILINE)


def front(places: Places, lessons: dict[str, NotebookNode]) -> str:
    """The front page: notebooks/site/index.md with the list of lessons, and the contents of the whole site."""
    say, items, trees = SAY[places.language], [], []
    for name, notebook in lessons.items():
        minutes = next(filter(None, MINUTES.search(notebook.cells[1].source).groups()))  # type: ignore[union-attr]
        time = f'<span class="minutes">{say["minutes"].format(minutes)}</span>'
        items.append(f"1. [**{title(notebook)}**](lessons/{name}.ipynb) {time}")
    for caption, pages in contents(places).items():
        trees += ["```{toctree}", ":hidden:", f":caption: {say[caption]}", "", *pages, "```", ""]
    text = (ASSETS / f"index{places.suffix}.md").read_text(encoding="utf-8")
    text = text.replace("{{ lessons }}", "\n".join(["```{container} lesson-list", "", *items, "```"]))
    player = PLAYER.format(language=places.language, kind="front", number="")
    return "\n".join(["---", "hide-toc: true", "---", text.replace("{{ player }}", player), *trees])


def contents(places: Places) -> dict[str, list[str]]:
    """Every page that the navigation lists, in order."""
    return {
        "course": ["lessons", *(f"lessons/{name}" for name in places.lessons)],
        "look up": ["glossary", "equations", "questions", "decisions", "results", "speed"],
        "project": ["start", "library", "api/index", "guide"],
    }


def glossary(places: Places) -> str:
    """The course's words in both languages, each with the lesson that uses it first."""
    say, japanese = SAY[places.language], places.language == "ja"
    with (places.root / "notebooks" / "glossary.tsv").open(encoding="utf-8", newline="") as file:
        terms = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    prose = {name: english(places.root / "notebooks" / "src" / f"{name}.py") for name in places.lessons}
    rows = []
    for term in terms:
        words = term["english"].split("/")
        own = [words[0], term["japanese"].split("/")[0]]
        first = next((name for name, text in prose.items() if any(used(word, text) for word in words)), None)
        link = f"[{first[:2]}](lessons/{first}.ipynb)" if first else ""
        note = (term["note"] or "") if re.search("[ぁ-鿿]", term["note"] or "") else ""
        rows.append("| " + " | ".join([*own[::-1], link, note] if japanese else [*own, link]) + " |")
    return "\n".join([f"# {say['glossary']}", "", say["glossary intro"], "", say["glossary head"], *rows, ""])


def english(source: Path) -> str:
    """A lesson's English prose, in small letters."""
    cells = re.split(r"^# %% ?", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return " ".join(cell.replace("\n#", "") for cell in cells if cell.startswith('[markdown] lang="en"')).lower()


def used(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word.lower())}\b", text) is not None


def equations(places: Places, lessons: dict[str, NotebookNode]) -> str:
    """The index of equations, from titans/equations.py."""
    registry = runpy.run_path(str(places.root / "titans" / "equations.py"))["EQUATIONS"]  # without PyTorch
    say, japanese = SAY[places.language], places.language == "ja"
    lines = [f"# {say['equations']}", "", say["equations intro"].format(f"decisions.md#{places.misprints()}"), ""]
    for number, equation in registry.items():
        tex, what = EQUATIONS[number]
        what = what if japanese else equation.what[0].upper() + equation.what[1:]
        path, _, test = equation.test.partition("::")
        proof = f"[`{test}`]({places.repository}/blob/main/{path})" if places.repository else f"`{test}`"
        lesson = f"[{equation.lesson[:2]} · {title(lessons[equation.lesson])}](lessons/{equation.lesson}.ipynb)"
        tex = r"\begin{gathered}" + tex.replace(r", \qquad ", r", \\ ") + r"\end{gathered}"  # one below the other
        lines += [f"## {say['equation'].format(number.replace('-', '–'))}", "", "$$", tex, "$$", ""]
        code = reference.defined(equation.code, places.root)
        lines += [what + say["end"], "", f"- {say['code']}{{py:obj}}`{equation.code} <{code}>`"]
        lines += [f"- {say['proof']}{proof}, `{path}`", f"- {say['lesson']}{lesson}", ""]
    return "\n".join(lines)


def modules(places: Places) -> str:
    """The first page of the reference: what `titans` itself has, and every module."""
    say = SAY[places.language]
    package = (places.root / "titans" / "__init__.py").read_text(encoding="utf-8")
    exported = [
        f"{module}.{name}"
        for module, listed in re.findall(r"^    from ([\w.]+) import (.*)$", package, re.MULTILINE)
        for name in listed.split(", ")
    ]
    places_of = [reference.defined(name, places.root) for name in exported]
    names = [f"- {{py:obj}}`titans.{name.split('.')[-1]} <{name}>`" for name in places_of]
    paths = [(module_name(module.relative_to(places.root).as_posix()), module) for module in places.modules]
    rows = [f"| [`{name}`]({name}.md) | {reference.first_line(module)} |" for name, module in paths]
    tree = ["```{toctree}", ":hidden:", "", *(name for name, _ in paths), "```", ""]
    head = [f"# {say['reference']}", "", say["reference intro"], "", *names, "", say["module"]]
    return "\n".join([*head, *rows, "", *tree])
