"""One file a lesson: a notebook that runs without a clone, for it carries what it needs of the library.

Its first cell (bootstrap.py) takes the library that is installed, if it fits, else one from a release, if the
repository has an address (navigation.REPOSITORY), else the one that the file carries: the code that this lesson
imports, all results' cards, and the trained models that it loads.
"""

from __future__ import annotations

import base64
import io
import re
import tarfile
import tomllib
from pathlib import Path

import navigation
import nbformat
from nbformat import NotebookNode

LINE = 1000  # letters of a line of what is carried
BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
PACKAGE = "titans-step-by-step"
WORDS = {
    "en": {
        "head": "This lesson's library: the one that is installed, or else the one that this file carries.",
        "installing": "installing",
        "failed": "could not be installed",
        "ready": "Everything that this lesson needs is here.",
    },
    "ja": {
        "head": "ライブラリを用意します。インストール済みならそれを、なければこのファイルに入っているものを使います。",
        "installing": "インストール中",
        "failed": "インストールできませんでした",
        "ready": "このレッスンに必要なものがそろいました。",
    },
}
# What lessons say of an import that fails, which is of a clone.
FAILS = re.compile(r"^(If the import fails|import に失敗するときは).*?\n\n", re.DOTALL)
INTRO = {
    "en": "*This file runs by itself: nothing to clone. It needs Python 3.11 or later and, where a package is missing, "
    "the internet once. Run the cells from the top; the first one brings the library.*",
    "ja": "*このファイルは単独で動くので、クローンは要りません。必要なのは Python 3.11 以降です。"
    "足りないパッケージがあるときだけ、最初にインターネットに接続します。"
    "上から順に実行してください。最初のセルがライブラリを用意します。*",
}


def version(root: Path) -> str:
    """This library's version."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def single(source: Path, language: str, built: NotebookNode) -> NotebookNode:
    """A built lesson as a file that runs by itself."""
    notebook = nbformat.from_dict(built)
    notebook.cells = notebook.cells[1:-1]  # without links to its neighbours, which are not there
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = unlinked(FAILS.sub("", cell.source), language)
    first = nbformat.v4.new_code_cell(bootstrap(source, language), id="bootstrap")
    first.metadata["jupyter"], first.metadata["cellView"] = {"source_hidden": True}, "form"  # JupyterLab; Colab
    intro = nbformat.v4.new_markdown_cell(INTRO[language], id="single-file")
    notebook.cells = [intro, first, *notebook.cells]
    return notebook


def bootstrap(source: Path, language: str) -> str:
    """The code of the first cell."""
    root = source.parents[2]
    number, release = version(root), navigation.release(version(root))
    # Not base 85, which is shorter: IPython takes a ">>>" away where a line begins so, in a string too. In long lines,
    # since a notebook's JSON has some ten letters more for each.
    packed = "" if release else base64.b64encode(archive(root, source)).decode()
    carried = "".join(packed[start : start + LINE] + "\n" for start in range(0, len(packed), LINE))
    code = BOOTSTRAP.read_text(encoding="utf-8")
    given = {"PACKAGE": PACKAGE, "VERSION": number, "RELEASE": release, "LANGUAGE": language, "WORDS": WORDS[language]}
    names = "".join(f"{name} = {value!r}\n" for name, value in given.items())
    return f'# {WORDS[language]["head"]}\n{names}CARRIED = """\n{carried}"""\n{code}'.rstrip()


def archive(root: Path, source: Path) -> bytes:
    """The library as far as a lesson needs it, packed; the same bytes for the same files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as tar:
        for path in needed(root, source):
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)
        tar.addfile(tarfile.TarInfo("titans/carried"))  # which titans/installed.py looks for
    return packed.getvalue()


def needed(root: Path, source: Path) -> list[Path]:
    """The package's files without other lessons' rooms, other tools, and models that the lesson does not name."""
    package, room = root / "titans", f"lesson_{source.name[:2]}"
    files = [*package.rglob("*.py"), *package.glob("*.txt"), *package.glob("lesson/*/*.json")]
    kept = [file for file in files if not re.search(r"/(huggingface|__pycache__)/|/lesson_(?!\d\d/)", file.as_posix())]
    kept = [file for file in kept if file.parent.name == room or not file.parent.name.startswith("lesson_")]
    texts = [source, *(package / "lesson" / room).glob("*.py"), *(package / "lesson" / "kit").glob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts)
    models = [file for file in package.glob("shipped/*/*.safetensors") if named(file, text)]
    return sorted([*kept, *package.glob("shipped/*/card.json"), *models])


def named(model: Path, text: str) -> bool:
    """Whether code names a shipped model: whole, or its folder and then its own name by itself."""
    name = f"{model.parent.name}/{model.stem}"
    if f'"{name}"' in text:
        return True
    parts = [part for part in re.findall(rf'f"{model.parent.name}/([^"{{]*){{', text) if model.stem.startswith(part)]
    rests = (re.escape(model.stem.removeprefix(part)).replace(r"\-", "[- ]") for part in parts)
    return any(re.search(rf'["\'(, ]{rest}["\'),]', text) for rest in rests)


def unlinked(text: str, language: str) -> str:
    """Prose whose links lead to the repository, or, while it has no address, without those that lead to its files."""

    def link(found: re.Match[str]) -> str:
        address = navigation.address(found[2], language)
        return f"[{found[1]}]({address})" if address else found[1]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)", link, text)
