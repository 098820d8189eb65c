"""Where the site has what a file of the repository links to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

DOCUMENTS = {"questions": "notebooks/QUESTIONS", "guide": "notebooks/GUIDE"}  # a page for each of these files
# A page for each of these sections of the README. The name of what it says first, as the README heads it.
SECTIONS = {
    "start": "Start",
    "lessons": "Lessons",
    "library": "Library",
    "results": "Does it remember?",
    "speed": "Speed",
    "decisions": "Decisions",
}
ELSEWHERE = {"Questions that people ask": "questions"}  # a section that another page has
OTHERS = {
    "notebooks/README.md": "index.md",
    "notebooks/README_ja.md": "index.md",
    "notebooks/glossary.tsv": "glossary.md",
    "titans/huggingface": "api/index.md",
}
REST = "index"  # what has no page of its own
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


def headings(text: str) -> list[tuple[int, str, int]]:
    """Level, title and place of every heading of a document, none that stands in code."""
    bare = re.sub(r"^ *```.*?^ *```", lambda code: "`" * len(code[0]), text, flags=re.DOTALL | re.MULTILINE)
    return [(len(found[1]), found[2].strip(), found.start()) for found in re.finditer(r"^(#+) (.*)$", bare, re.M)]


def sections(text: str) -> list[tuple[str, str]]:
    """The sections of a document, title and text, each one level higher than it stands."""
    starts = [(title, place) for level, title, place in headings(text) if level == 2]
    ends = [place for _, place in starts[1:]] + [len(text)]
    return [(title, raised(text[start:end])) for (title, start), end in zip(starts, ends, strict=True)]


def raised(text: str) -> str:
    """A text whose headings stand one level higher."""
    for _, _, place in reversed(headings(text)):
        text = text[:place] + text[place + 1 :]
    return text


class Places:
    """The pages of one language: which file, or which section of one, is where."""

    def __init__(self, root: Path, language: str, repository: str) -> None:
        self.root, self.language, self.repository = root, language, repository
        self.suffix = "_ja" if language == "ja" else ""
        self.lessons = [path.stem for path in sorted((root / "notebooks" / "src").glob("[0-9][0-9]_*.py"))]
        self.modules = [path for path in sorted((root / "titans").glob("*.py")) if path.stem != "__init__"]
        self.modules += sorted((root / "titans" / "huggingface").glob("[a-z]*.py"))
        self.readme = self.text("README")
        self.anchors = dict(self.readme_anchors())

    def text(self, name: str) -> str:
        """A document in this language."""
        return (self.root / f"{name}{self.suffix}.md").read_text(encoding="utf-8")

    def section_pages(self) -> dict[str, str]:
        """The page of each section of the README, whose sections stand in one order in both languages."""
        english = [title for title, _ in sections((self.root / "README.md").read_text(encoding="utf-8"))]
        pages = {title: page for page, title in SECTIONS.items()} | ELSEWHERE
        if missing := pages.keys() - set(english):
            raise ValueError(f"the README has no section {sorted(missing)}, which site_builder/links.py names")
        own = [title for title, _ in sections(self.readme)]
        return {mine: pages[title] for mine, title in zip(own, english, strict=True) if title in pages}

    def readme_anchors(self) -> Iterator[tuple[str, str]]:
        """Every anchor of the README, and the page that has its heading."""
        pages, page = self.section_pages(), REST
        for level, title, _ in headings(self.readme):
            page = pages.get(title, REST) if level == 2 else page
            yield slug(title), page

    def misprints(self) -> str:
        """The anchor of the paper's misprints."""
        return next(anchor for anchor in self.anchors if anchor.startswith("misprints") or "誤植" in anchor)

    def page(self, path: str, anchor: str) -> str | None:
        """The page, from the top of a language, that has a file of the repository."""
        document = re.sub(r"(_ja)?\.md$", "", path)
        if found := re.fullmatch(r"notebooks/(en|ja)/(\w+)\.ipynb", path):
            return f"lessons/{found[2]}.ipynb" if found[2] in self.lessons else None
        if document == "README":
            page = self.anchors.get(anchor, REST)
            return f"{page}.md#{anchor}" if page in SECTIONS and anchor else f"{page}.md"
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
