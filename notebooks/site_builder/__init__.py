"""The course as a static site: every lesson in both languages, glossary, equations, questions, results, reference.

    python notebooks/build.py --site [FOLDER]      writes FOLDER, _site/ beside notebooks/ unless it is named

Nothing is executed. Of each language a folder of sources is made (contents.py, reference.py; links.py leads every link
to where the site has its target), Sphinx makes pages of them (sphinx_parts.py), and what Sphinx does not know is put
into the pages afterwards (finish.py): the switch of language, downloads, the theme's words in Japanese. What a page
loads stands in notebooks/site/: nothing comes from the network.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
import time
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from site_builder import contents, finish, words
from site_builder.links import Places

ASSETS = Path(__file__).resolve().parents[1] / "site"
KATEX = ASSETS / "vendor" / "katex"
OWN = ("site.css", "site.js", *finish.PLAYER_FILES)
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Hiragino Sans', 'Noto Sans CJK JP', \
'Noto Sans JP', 'Yu Gothic', Meiryo, IPAexGothic, sans-serif"
LIGHT = {
    "font-stack": FONTS,
    "color-brand-primary": "#0b57b8",
    "color-brand-content": "#0b57b8",
    "color-brand-visited": "#6b3fa0",
    "color-foreground-muted": "#5a5f66",
    "color-api-name": "#0b57b8",
    "color-api-pre-name": "#5a5f66",
    "color-sidebar-link-text": "var(--color-foreground-primary)",
}
DARK = {
    "color-brand-primary": "#7db8ff",
    "color-brand-content": "#7db8ff",
    "color-brand-visited": "#c3a1f0",
    "color-foreground-muted": "#a3a8b0",
    "color-api-name": "#7db8ff",
    "color-api-pre-name": "#a3a8b0",
}
SETTINGS = {
    "extensions": ["myst_nb", "site_builder.sphinx_parts"],
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "myst_enable_extensions": ["dollarmath"],
    "myst_heading_anchors": 6,
    "myst_heading_slug_func": "site_builder.links.slug",
    "html_theme": "furo",
    "html_theme_options": {
        "top_of_page_buttons": [],
        "light_css_variables": LIGHT,
        "dark_css_variables": DARK,
    },
    "html_css_files": ["katex/katex.min.css", "site.css"],
    "html_js_files": [("site.js", {"defer": "defer"})],
    "html_show_copyright": False,
    "html_domain_indices": False,
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_sourcelink_suffix": "",
    "python_maximum_signature_line_length": 72,
    "python_use_unqualified_type_names": True,
    "add_module_names": False,
    "toc_object_entries": False,
    "templates_path": [],
    "exclude_patterns": ["files", "assets"],
}


def build(root: Path, target: Path, repository: str) -> list[str]:
    """Write the site of a repository's folder; print sizes and seconds, and return what is wrong with it."""
    start, problems = time.perf_counter(), list[str]()
    if target.exists() and not (target / finish.MARK).is_file():
        return [f"{target} is there and is no site: name a folder that is not there"]
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        for language in words.LANGUAGES:
            source = Path(temporary) / language
            places = Places(root, language, repository)
            contents.write(source, places)
            copy_assets(source / "assets")
            problems += pages(source, target / language, language)
            shutil.copytree(source / "files", target / language / "files")
            finish.finish(target / language, places)
    finish.entrance(target)
    report(target, time.perf_counter() - start)
    return problems


def copy_assets(folder: Path) -> None:
    """What the pages load, own and KaTeX's; of its fonts only the form that every browser reads."""
    shutil.copytree(KATEX / "fonts", folder / "katex" / "fonts")
    style = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    style = re.sub(r",url\([^)]*\.(?:woff|ttf)\) format\(\"\w+\"\)", "", style)
    (folder / "katex" / "katex.min.css").write_text(style, encoding="utf-8")
    for name in OWN:
        shutil.copy(ASSETS / name, folder)


def pages(source: Path, target: Path, language: str) -> list[str]:
    """Let Sphinx make the pages of one language; its warnings."""
    title = words.SAY[language]["title"]
    settings = {**SETTINGS, "language": language, "project": title, "html_title": title, "html_short_title": title}
    settings["html_static_path"] = [str(source / "assets")]
    settings |= {f"nb_code_prompt_{what}": words.SAY[language][f"prompt {what}"] for what in ("show", "hide")}
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(source, None, target, source / ".doctrees", "html", settings, status=None, warning=warnings)
        app.build()
    for unused in (".buildinfo", "objects.inv", "_sources", "../jupyter_execute"):
        path = target / unused
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return [line for line in warnings.getvalue().replace(str(source), language).splitlines() if line.strip()]


def report(target: Path, seconds: float) -> None:
    """Print how large the site is, its largest pages, what its front page loads, and how long it took."""
    files = [path for path in target.rglob("*") if path.is_file()]
    html = sorted((path for path in files if path.suffix == ".html"), key=lambda path: -path.stat().st_size)
    print(f"{target}: {len(html)} pages, {len(files)} files, {megabytes(files)} MB, built in {seconds:.0f} s")
    for path in html[:5]:
        pictures = re.findall(r'<img[^>]* src="([^"]+)"', path.read_text(encoding="utf-8"))
        with_pictures = [path, *{(path.parent / name).resolve() for name in pictures}]
        name = path.relative_to(target)
        print(f"  {name}: {path.stat().st_size / 1e3:.0f} kB, {megabytes(with_pictures)} MB with its pictures")
    loaded = front_page(target / "en" / "index.html")
    print(f"  the front page's scripts and styles: {sum(loaded.values()) / 1e3:.0f} kB")
    for file, size in sorted(loaded.items(), key=lambda item: -item[1]):
        print(f"    {file}: {size / 1e3:.1f} kB")


def megabytes(paths: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f}"


def front_page(page: Path) -> dict[str, int]:
    """Bytes of each script and style that a page names."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r'<script[^>]* src="([^"?]+)', text) + re.findall(r'rel="stylesheet"[^>]* href="([^"?]+)', text)
    return {name: (page.parent / name).stat().st_size for name in named}
