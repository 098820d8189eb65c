"""Where a lesson runs, and in which language it speaks."""

import os
import sys
from dataclasses import replace
from importlib.util import find_spec

LANGUAGES = ("en", "ja")
JAPANESE = "IPAexGothic"
_spoken = ["en"]


def session() -> str | None:
    """The notebook's path where a Jupyter server (JupyterLab, Notebook) started this kernel; None elsewhere, as where
    lessons are built or tested, and in Colab, whose outputs know nothing of one another."""
    return None if "google.colab" in sys.modules else os.environ.get("JPY_SESSION_NAME")


def speak(language: str) -> None:
    """Choose the language of all that `say` says from here on: "en" or "ja".

    In Japanese, matplotlib gets a font that has it (IPAex Gothic, of the package matplotlib-fontja).
    """
    if language not in LANGUAGES:
        raise ValueError(f"language must be one of {LANGUAGES}, not {language!r}")
    _spoken[0] = language
    if language == "ja":
        use_japanese_font()


def say(english: str, japanese: str) -> str:
    """A text in the notebook's language."""
    return japanese if _spoken[0] == "ja" else english


def use_japanese_font() -> None:
    """Letters that IPAex Gothic lacks come from matplotlib's own font. A formula's words are set in the first alone."""
    if find_spec("matplotlib_fontja") is None:
        print("✗ 図の日本語が文字化けします。`pip install matplotlib-fontja` を実行し、カーネルを再起動してください。")
        return
    import matplotlib_fontja  # noqa: F401 - makes its font known to matplotlib
    from matplotlib import rcParams
    from matplotlib.font_manager import fontManager

    fonts = [font for font in fontManager.ttflist if font.name == JAPANESE]
    if all(font.weight == 400 for font in fonts):
        fontManager.ttflist.append(replace(fonts[0], weight=700))  # it has no bold one, which matplotlib would warn of
    rcParams["font.family"] = [JAPANESE, "DejaVu Sans"]
