"""Where the site has what a file of the repository links to."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

DOCUMENTS = {  # a page for each of these files
    "index": "README",
    "start": "notebooks/INSTALL",
    "lessons": "notebooks/LESSONS",
    "library": "notebooks/LIBRARY",
    "results": "notebooks/RESULTS",
    "speed": "notebooks/SPEED",
    "decisions": "notebooks/DECISIONS",
    "questions": "notebooks/QUESTIONS",
    "guide": "notebooks/GUIDE",
}
OTHERS = {
    "notebooks/README.md": "index.md",
    "notebooks/README_ja.md": "index.md",
    "notebooks/glossary.tsv": "glossary.md",
    "titans/huggingface": "api/index.md",
}
# Code, which is left as it is; a picture; a link, whose label may hold code and brackets.
LINK = re.compile(
    r"(?P<code>^ *```.*?^ *```|`[^`\n]+`)"
    r"|(?P<picture>!?)\[(?P<label>(?:[^\[\]`]|`[^`]*`|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def slug(title: str) -> str:
    """The anchor that GitHub gives to a heading."""
    title = re.sub(r"[^\w\- ]", "", title.lower())
    return title.strip().replace(" ", "-")


class Places:
    """The pages of one language: which file is where."""

    def __init__(self, root: Path, language: str, repository: str) -> None:
        self.root, self.language, self.repository = root, language, repository
        self.suffix = "_ja" if language == "ja" else ""
        self.lessons = [path.stem for path in sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))]
        self.modules = [path for path in sorted((root / "titans").glob("*.py")) if path.stem != "__init__"]
        self.modules += sorted((root / "titans" / "huggingface").glob("[a-z]*.py"))

    def text(self, name: str) -> str:
        """A document in this language."""
        return (self.root / f"{name}{self.suffix}.md").read_text(encoding="utf-8")

    def misprints(self) -> str:
        """The anchor of the paper's misprints, the only section of its page."""
        (title,) = re.findall(r"^## (.*)$", self.text(DOCUMENTS["decisions"]), re.MULTILINE)
        return slug(title)

    def page(self, path: str, anchor: str) -> str | None:
        """The page, from the top of a language, that has a file of the repository."""
        document = re.sub(r"(_ja)?\.md$", "", path)
        if found := re.fullmatch(r"notebooks/(en|ja)/(\w+)\.ipynb", path):
            return f"lessons/{found[2]}.ipynb" if found[2] in self.lessons else None
        if document in DOCUMENTS.values():
            page = next(name for name, stem in DOCUMENTS.items() if stem == document)
            return f"{page}.md#{anchor}" if anchor else f"{page}.md"
        if self.root / path in self.modules:
            return "equations.md" if path == "titans/equations.py" else f"api/{module_name(path)}.md"
        return OTHERS.get(path)

    def rewritten(self, text: str, origin: str, page: str) -> str:
        """A text of a file of the repository, "notebooks/QUESTIONS.md", with links that its page on the site can
        follow, "questions.md". What leads nowhere there is left without a link."""

        def link(found: re.Match[str]) -> str:
            label, target = found["label"], found["target"]
            if found["code"] or re.match(r"[a-z]+:", target) or (target.startswith("#") and origin.endswith(".ipynb")):
                return found[0]
            path, _, anchor = target.partition("#")
            path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)) if path else origin
            if found["picture"]:
                return f"![{label}]({up(page)}files/{posixpath.basename(path)})"
            if other := re.fullmatch(rf"notebooks/(?!{self.language}/)(en|ja)/(\w+)\.ipynb", path):
                return f'<a href="{up(page)}../{other[1]}/lessons/{other[2]}.html">{label}</a>'
            if place := self.page(path, anchor):
                return f"[{label}]({up(page)}{place})"
            on_web = f"{self.repository}/blob/main/{path}" + (f"#{anchor}" if anchor else "")
            return f"[{label}]({on_web})" if self.repository else label

        return LINK.sub(link, text)


def up(page: str) -> str:
    """From a page to the top of its language."""
    return "../" * page.count("/")


def module_name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")
