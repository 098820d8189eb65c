"""Where things stand, for all tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "src"
# What is to be read on GitHub in both languages: the front page, and the pages behind it.
PAGES = [ROOT / "README.md", *sorted(path for path in NOTEBOOKS.glob("*.md") if not path.stem.endswith("_ja"))]


def japanese(page: Path) -> Path:
    """The same page in Japanese."""
    return page.with_stem(f"{page.stem}_ja")
