"""Where a lesson runs: in whose language, and whether a Jupyter server shows what its cells display."""

import os
import sys
from pathlib import Path


def session() -> str | None:
    """The notebook's path where a Jupyter server (JupyterLab, Notebook) started this kernel; None elsewhere, as where
    lessons are built or tested, and in Colab, whose outputs know nothing of one another."""
    return None if "google.colab" in sys.modules else os.environ.get("JPY_SESSION_NAME")


def in_words(english: str, japanese: str) -> str:
    """A text in the language of the notebook, which its folder tells; in both where it does not."""
    folder = Path(session() or "").parent.name or Path.cwd().name
    return {"en": english, "ja": japanese}.get(folder, f"{english} / {japanese}")
