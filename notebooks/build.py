"""Builds the lessons: one source becomes an English and a Japanese notebook, each executed once.

    python notebooks/build.py [NN ...]          build every lesson, or those whose names begin so
    python notebooks/build.py --check [NN ...]  build nothing; list all that is wrong with sources and built notebooks
    python notebooks/build.py --stamp [NN ...]  record in each Japanese cell which English text it translates
    python notebooks/build.py --single [NN ...] write built lessons as files that run without a clone (single.py)
    python notebooks/build.py --edition student|teacher|slides [NN ...]   editions of built lessons (editions.py)
    python notebooks/build.py --site [FOLDER]   write the whole course as a static site, _site/ (site_builder/)

A source, notebooks/src/NN_name.py, is in jupytext's percent format. Code stands once, prose in both languages:

    # %% [markdown] lang="en"
    # An English cell, directly followed by its translation. Without lang= a cell belongs to both notebooks.

    # %% [markdown] lang="ja" en="0a1b2c3d"
    # `en` is the fingerprint of the English text that was translated: change that text, and --check asks for this one.

seconds.json keeps how long each lesson ran, rounded, and moves only when a lesson runs twice as long, or half as long.
What a lesson says of its time, in both languages, must be within a factor of 2 of it.

What the builder adds to a source: links to the lessons before and after, the map and the other language
(navigation.py); and answers to predictions are folded away: outputs of code cells between "**Predict before you
run.**" and the next prose are hidden in JupyterLab until their cell is run. claims.tsv says what decides a lesson's
claims (claims.py), which --check verifies.

The two notebooks have the same code and cell ids, but for `start()`, which in the Japanese one says `start("ja")`:
pictures, controls and verdicts then speak Japanese.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import claims
import editions
import jupytext
import navigation
import nbformat
import single
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent
LANGUAGES = ("en", "ja")
CELL_SECONDS, LESSON_SECONDS, CELL_LINES, MAX_BYTES = 60, 120, 15, 2_000_000
DERIVED = "editions"  # the folder beside this file where editions and single files are written
SITE = "_site"  # beside the notebooks' folder: where the site is written
SECONDS = "seconds.json"  # beside this file: how long each lesson's code ran
FACTOR = 2.0  # what a lesson states is within it of the record, and a record that is within it of a new run stays
STATED = {
    "en": re.compile(r"About (\d+) minutes to read, (\d+) with the exercises; the code runs in about (\d+) seconds\."),
    "ja": re.compile(r"読むのに約(\d+)分、演習も解くと約(\d+)分、コードの実行に約(\d+)秒かかります。"),
}
PREDICT = "**Predict before you run.**"
# No version of Python in it: one file, whichever built it.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SOURCE_ONLY = {"lang", "en", "lines_to_next_cell", "lines_to_end_of_cell_marker"}


# --- Reading a source ------------------------------------------------------------------------------------------------


def fingerprint(text: str) -> str:
    """Eight hex digits that tell one text from another."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


def read_source(path: Path) -> list[NotebookNode]:
    """The cells of a source, with ids that depend on nothing but the text: a translation has its original's."""
    cells, seen = jupytext.read(path, fmt="py:percent").cells, Counter[str]()
    for cell, original in with_originals(cells):
        digits = fingerprint(cell.source)
        seen[digits] += 1
        cell.id = f"{digits}-{seen[digits]}" if original is None else original.id
    return cells


def with_originals(cells: list[NotebookNode]) -> Iterator[tuple[NotebookNode, NotebookNode | None]]:
    """Every cell, and the English cell that it translates: the one before, if it is English and this one Japanese."""
    before = None
    for cell in cells:
        pair = before is not None and (before.metadata.get("lang"), cell.metadata.get("lang")) == LANGUAGES
        yield cell, before if pair else None
        before = cell


def unexecuted(source: Path, cells: list[NotebookNode], language: str) -> NotebookNode:
    """The notebook of one language, without outputs."""
    first, last = navigation.cells(source, language)
    chosen, predicted = [first], False
    for cell in cells:
        code = cell.cell_type == "code"
        if not code and cell.metadata.get("lang") != "ja":
            predicted = PREDICT in cell.source
        if code or cell.metadata.get("lang", language) == language:
            make = nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell
            metadata = {key: value for key, value in cell.metadata.items() if key not in SOURCE_ONLY}
            if code and predicted:
                metadata["jupyter"] = {"outputs_hidden": True}
            text = started(cell.source, language) if code else cell.source
            text = joined(text) if cell.metadata.get("lang") == "ja" else text
            chosen.append(make(text, id=cell.id, metadata=metadata))
    return nbformat.v4.new_notebook(cells=[*chosen, last], metadata=METADATA)


def started(code: str, language: str) -> str:
    """A lesson's code in one language: `start()` is told which."""
    return re.sub(r"^start\(\)$", 'start("ja")', code, flags=re.MULTILINE) if language == "ja" else code


WIDE, POINTS = "\u3000-\u30ff\u3400-\u9fff\uff00-\uffef", "、。（）「」『』！？：；…〜・"
STANDS_ALONE = re.compile(
    r" *(#|---|[-*+] |\d+\. |\||>|<|\$\$|```|$)"
)  # a line that must stay one, or that begins anew


def joined(text: str) -> str:
    """Japanese prose without line breaks inside a paragraph: a browser shows each as a space, between letters a gap."""
    lines, fenced = [""], False
    for line in text.split("\n"):
        fence = line.lstrip().startswith("```")
        glue = None if fenced or fence or STANDS_ALONE.match(line) or ends_alone(lines[-1]) else gap(lines[-1], line)
        fenced ^= fence
        if glue is None:
            lines.append(line)
        else:
            lines[-1] += glue + line.lstrip()
    return "\n".join(lines[1:])


def ends_alone(line: str) -> bool:
    """Whether nothing may be joined to a line: a heading, a table's row, a formula of its own, a tag, a blank."""
    return not line.strip() or bool(re.match(r" *(#|\||<|```)", line)) or line.rstrip().endswith(("$$", ">", "  "))


def gap(before: str, after: str) -> str | None:
    """What stands between two lines of Japanese when they become one; None where neither end is Japanese."""
    last, first = before.rstrip().rstrip("*")[-1:], after.lstrip().lstrip("*")[:1]
    if before.rstrip().endswith(tuple(f"{point}**" for point in POINTS)):
        return " "  # bold that ends with a full stop would not end, were it followed by a letter
    if not (re.match(f"[{WIDE}]", last) or re.match(f"[{WIDE}]", first)):
        return None
    tight = last in POINTS or first in POINTS or last.isdigit() or first.isdigit()
    return "" if tight or (re.match(f"[{WIDE}]", last) and re.match(f"[{WIDE}]", first)) else " "


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- Building --------------------------------------------------------------------------------------------------------


def build(source: Path) -> float:
    """Execute a source in each language and write its notebooks; the seconds that the slower one ran, its kernel's
    start included.

    Raises what nbclient raises when a cell fails.
    """
    cells, seconds = read_source(source), 0.0
    for language in LANGUAGES:
        notebook, executed = (unexecuted(source, cells, language) for _ in range(2))
        path = notebook_path(source, language)
        path.parent.mkdir(exist_ok=True)
        seconds = max(seconds, execute(executed, path.parent))
        for cell, done in zip(code_cells(notebook), code_cells(executed), strict=True):
            cell.execution_count = done.execution_count
            cell.outputs = [clean(output) for output in done.outputs]
            if cell.outputs and "jupyter" in cell.metadata:
                # Where outputs are folded JupyterLab shows the first line of the first one: of an empty one, nothing.
                cell.outputs.insert(0, nbformat.v4.new_output("display_data"))
        nbformat.write(notebook, path)
    return seconds


def execute(notebook: NotebookNode, folder: Path) -> float:
    """Run a notebook's cells, as if it lay in a folder; the seconds that it took."""
    # A plotting backend that happens to be set outside must not replace the notebook's own.
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    start = time.perf_counter()
    client.execute(env=environment)
    return time.perf_counter() - start


def measured(folder: Path) -> dict[str, int]:
    """Seconds by lesson, as recorded."""
    path = folder / SECONDS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def record(source: Path, seconds: float) -> None:
    """Keep how long a lesson ran. A record that still holds stays as it is, so that a rebuild changes nothing."""
    folder = source.parent.parent
    known = measured(folder)
    if not close(known.get(source.stem, 0), seconds):
        known[source.stem] = max(1, round(seconds))
        (folder / SECONDS).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def close(one: float, other: float) -> bool:
    return one <= FACTOR * other and other <= FACTOR * one


def notebook_path(source: Path, language: str) -> Path:
    return source.parent.parent / language / f"{source.stem}.ipynb"


def clean(output: NotebookNode) -> NotebookNode:
    """An output without what changes from run to run or machine to machine."""
    output = nbformat.from_dict(json.loads(re.sub(r"ipykernel_\d+", "ipykernel", json.dumps(output))))
    # The committed notebook shows the picture, or the text; a live kernel shows the widget.
    output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    # Frames of files name this machine's folders and change with the library's lines; the cell's own frame stays.
    if output.output_type == "error":
        output.traceback = [entry for entry in output.traceback if not re.match(r"(\x1b\[[\d;]*m)*File ", entry)]
    return output


# --- Checking --------------------------------------------------------------------------------------------------------


def check(source: Path) -> Iterator[str]:
    """Everything that is wrong with a lesson, a line each."""
    cells = read_source(source)
    for problem in source_problems(cells):
        yield f"src/{source.name}, {problem}"
    for problem in time_problems(cells, measured(source.parent.parent).get(source.stem)):
        yield f"src/{source.name}: {problem}"
    notebooks = source.parent.parent
    yield from claims.problems(source.name[:2], cells, claims.read(notebooks), notebooks.parent)
    built = {}
    for language in LANGUAGES:
        path = notebook_path(source, language)
        name = f"{language}/{path.name}"
        if not path.is_file():
            yield f"{name} is missing: build it"
            continue
        if path.stat().st_size > MAX_BYTES:
            yield f"{name} has {path.stat().st_size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB"
        built[language] = nbformat.read(path, as_version=4)
        for problem in notebook_problems(built[language], unexecuted(source, cells, language)):
            yield f"{name}{problem}"
    if len(built) == 2 and shared(built["en"]) != shared(built["ja"]):
        yield f"{source.stem}: the outputs' kinds differ between the two notebooks: build it"
    if (starts := [line for cell in cells for line in cell.source.splitlines()].count("start()")) != 1:
        yield f"src/{source.name}: {starts} lines of code are start(), one must be"


def shared(notebook: NotebookNode) -> list[list[str]]:
    """What both languages have in common beside their code: what kinds of output each cell has."""
    return [[output.output_type for output in cell.outputs] for cell in code_cells(notebook)]


def source_problems(cells: list[NotebookNode]) -> Iterator[str]:
    """Prose without its translation, translations that are out of date, and pictures without alt text."""
    translated = {id(original) for _, original in with_originals(cells)}
    for cell, original in with_originals(cells):
        language, name = cell.metadata.get("lang"), title(cell)
        if language not in (None, *LANGUAGES) or (cell.cell_type == "code" and language):
            yield f"{name}: lang={language!r} must be 'en' or 'ja' and on prose"
        elif language == "en" and id(cell) not in translated:
            yield f"{name}: no Japanese cell directly after this English one"
        elif language == "ja" and original is None:
            yield f"{name}: no English cell directly before this Japanese one"
        if original is not None:
            for problem in translation_problems(cell, original):
                yield f"{name}: {problem}"
        code = [line for line in cell.source.splitlines() if not re.match(r"\s*(#|$)", line)]
        if cell.cell_type == "code" and len(code) > CELL_LINES:
            yield f"{name}: {len(code)} lines of code, more than {CELL_LINES}"
        if any("$" in folded for folded in re.findall(r"<details>.*?</details>", cell.source, flags=re.DOTALL)):
            yield f"{name}: a formula in <details>, which some programs show raw: in plain letters, `(1 − α)ⁿ`"
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(|<img(?![^>]*\salt=.[^\"'])", cell.source):
            yield f"{name}: a picture without alt text"


def stated_time(cells: list[NotebookNode], language: str) -> tuple[int, int, int] | None:
    """What a lesson says at its top: minutes to read, minutes with the exercises, seconds to run."""
    text = next((" ".join(cell.source.split()) for cell in cells if cell.metadata.get("lang") == language), "")
    found = STATED[language].search(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def time_problems(cells: list[NotebookNode], seconds: int | None) -> Iterator[str]:
    """A lesson that does not say how long it takes, or says what is not so."""
    stated = {language: stated_time(cells, language) for language in LANGUAGES}
    for language, time_ in stated.items():
        if time_ is None:
            yield f"its first {language} cell must say {STATED[language].pattern!r}"
        elif seconds is not None and not close(time_[2], seconds):
            yield f"says that its code runs in {time_[2]} s, and it ran {seconds} s ({SECONDS}), in {language}"
    if None not in stated.values() and stated["en"] != stated["ja"]:
        yield f"takes {stated['en']} minutes, minutes and seconds in English, {stated['ja']} in Japanese"
    if seconds is None:
        yield f"how long it runs is not in {SECONDS}: build it"


def translation_problems(cell: NotebookNode, original: NotebookNode) -> Iterator[str]:
    recorded, now = cell.metadata.get("en"), fingerprint(original.source)
    if recorded != now:
        yield f"translates English text {recorded}, which is now {now}: translate anew, then --stamp"
    japanese = structure(cell.source)
    for part, english in structure(original.source).items():
        if english != japanese[part]:
            yield f"{part} differ between English and Japanese cell: {english} and {japanese[part]}"


def title(cell: NotebookNode) -> str:
    """A cell's first line, to find it by."""
    return f"cell {(cell.source.splitlines() or [''])[0][:60]!r}"


def structure(text: str) -> dict[str, list[str]]:
    """What a translation has in common with its original, wherever in a sentence it stands."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    equations = re.findall(r"(?<!\\)\$\$.+?\$\$|(?<!\\)\$[^$]+\$", prose, flags=re.DOTALL)
    links = re.findall(r"\]\(\s*([^)\s]+)", prose)
    return {
        "equations": sorted("".join(equation.split()) for equation in equations),
        "links": sorted(link.replace("_ja.md", ".md").replace("/ja/", "/en/") for link in links),
        "heading levels": re.findall(r"^#{1,6}(?= )", prose, flags=re.MULTILINE),
    }


def notebook_problems(notebook: NotebookNode, wanted: NotebookNode) -> Iterator[str]:
    """How a built notebook differs from what its source says, and what its outputs must not hold."""
    if "widgets" in notebook.metadata:
        yield ": metadata.widgets is stored, with which GitHub refuses to show a notebook"
    elif notebook.metadata != wanted.metadata:
        yield ": its metadata is not what the builder writes: build it"
    have, want = ([(c.id, c.cell_type, c.source, c.metadata) for c in nb.cells] for nb in (notebook, wanted))
    if have != want:
        index = next((i for i, pair in enumerate(zip(have, want, strict=False)) if pair[0] != pair[1]), len(want))
        where = title(wanted.cells[index]) if index < len(want) else f"after its {len(want)} cells"
        yield f" differs from its source, first at {where}: build it"
    for cell in code_cells(notebook):
        for problem in output_problems(cell):
            yield f", {title(cell)}: {problem}"


def output_problems(cell: NotebookNode) -> Iterator[str]:
    if cell.execution_count is None:
        yield "never executed"
    fails = any(output.output_type == "error" for output in cell.outputs)
    expected = "raises-exception" in cell.metadata.get("tags", [])
    if fails and not expected:
        yield "holds an error"
    if expected and not fails:
        yield "is tagged raises-exception and holds no error"
    for output in cell.outputs:
        if output.get("name") == "stderr":
            yield f"holds a warning or other text on stderr: {output.text.strip()[:80]!r}"
        if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt"):
            yield "a picture without alt text"


# --- Command line ----------------------------------------------------------------------------------------------------


def stamp(source: Path) -> None:
    """Write the fingerprint of the English text into the header of each Japanese cell that follows one."""
    cells = with_originals(read_source(source))
    originals = iter([original for cell, original in cells if cell.metadata.get("lang") == "ja"])

    def stamped(header: re.Match[str]) -> str:
        original = next(originals)
        if original is None:
            return header[0]
        return re.sub(r' en="\w*"', "", header[0]) + f' en="{fingerprint(original.source)}"'

    text = source.read_bytes().decode()  # as bytes, so that line ends stay what they are
    text = re.sub(r'^# %% .*\blang="ja".*?(?=\s*$)', stamped, text, flags=re.MULTILINE)
    source.write_bytes(text.encode())


def derive(source: Path, edition: str | None) -> list[str]:
    """Write an edition of a built lesson, or the file that runs by itself, and print where; what went wrong."""
    problems = []
    for language in LANGUAGES:
        path = notebook_path(source, language)
        if not path.is_file():
            problems.append(f"{language}/{path.name} is missing: build it first")
            continue
        built = nbformat.read(path, as_version=4)
        folder = source.parent.parent / DERIVED / (edition or "single") / language
        folder.mkdir(parents=True, exist_ok=True)
        made = editions.edition(edition, source, language, built) if edition else single.single(source, language, built)
        nbformat.write(made, folder / path.name)
        if edition == "slides":
            page = editions.as_html(made, source.stem, language)
            (folder / f"{source.stem}.html").write_text(page, encoding="utf-8")
        print(folder / path.name)
        if (size := (folder / path.name).stat().st_size) > MAX_BYTES:
            problems.append(f"{folder / path.name} has {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB")
    return problems


def write_site(folder: Path, target: Path) -> list[str]:
    """Write the static site; what went wrong."""
    try:
        import site_builder
    except ImportError as error:
        return [f'the site needs the extra "site": pip install -e ".[site]" ({error})']
    return site_builder.build(folder.parent, target, navigation.REPOSITORY)


def build_timed(source: Path) -> str | None:
    """Build a lesson, print how long it took, and return what went wrong."""
    try:
        seconds = build(source)
    except (CellControlSignal, DeadKernelError, nbformat.ValidationError) as error:
        reason = str(error)[-3000:]  # its end says most
        return f"src/{source.name}: not built, a cell failed (the limit is {CELL_SECONDS} s a cell)\n{reason}"
    record(source, seconds)
    print(f"{source.stem}: built in {seconds:.1f} s", flush=True)
    return f"{source.stem} took {seconds:.0f} s, more than {LESSON_SECONDS} s" if seconds > LESSON_SECONDS else None


def unsourced(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / "src" / f"{name}.py").exists()]


def orphans(folder: Path) -> list[str]:
    """Notebooks that no source makes."""
    built = sorted(path for language in LANGUAGES for path in (folder / language).glob("*.ipynb"))
    return [f"{p.parent.name}/{p.name} has no source" for p in built if not (folder / "src" / f"{p.stem}.py").exists()]


def main(arguments: list[str] | None = None, folder: Path = NOTEBOOKS) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", metavar="NN", help="beginnings of names; default: every lesson")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="build nothing, list every problem")
    action.add_argument("--stamp", action="store_true", help="record the English texts that Japanese cells translate")
    action.add_argument("--single", action="store_true", help="write built lessons as files that run by themselves")
    action.add_argument("--edition", choices=editions.EDITIONS, help="write an edition of built lessons")
    action.add_argument(
        "--site", nargs="?", const=folder.parent / SITE, type=Path, metavar="FOLDER", help="write a site"
    )
    options = parser.parse_args(arguments)
    sources = sorted((folder / "src").glob("[0-9][0-9]_*.py"))
    unknown = [name for name in options.lessons if not any(source.name.startswith(name) for source in sources)]
    if unknown:
        parser.error(f"no lesson begins with {', '.join(unknown)}; there are: {', '.join(s.stem for s in sources)}")
    sources = [s for s in sources if not options.lessons or s.name.startswith(tuple(options.lessons))]

    problems = write_site(folder, options.site) if options.site else []
    for source in [] if options.site else sources:
        if options.stamp:
            stamp(source)
            continue
        if options.single or options.edition:
            problems += derive(source, options.edition)
            continue
        failure = None if options.check else build_timed(source)
        problems += [failure] if failure else check(source)
    if not (options.stamp or options.single or options.edition or options.site or options.lessons):
        problems += orphans(folder)
        problems += [f"{SECONDS} knows {name}, which has no source" for name in unsourced(folder, measured(folder))]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems and not (options.single or options.edition or options.site):
        print(f"{len(sources)} lesson(s): {'stamped' if options.stamp else 'no problem'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
