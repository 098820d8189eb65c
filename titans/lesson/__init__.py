"""What the lessons use and the model does not: pictures, live pictures, laboratories, exercise
checks.

`kit` holds what all lessons share, `lesson_NN` one lesson's pictures, lab, exercises and trials
(what it measures). A room imports the kit and the library, never another room. Nothing outside this
package imports it. It needs the extra `lessons` (matplotlib, ipywidgets).
"""

import sys
from types import TracebackType
from typing import Any

import torch
from IPython.core.getipython import get_ipython

import titans
from titans.installed import advice, others, whole
from titans.lesson.kit.host import say, speak
from titans.lesson.kit.progress import begin, predict, progress

__all__ = ["predict", "progress", "start"]


def start(language: str = "en") -> None:
    """Begin a lesson: one seed, one thread, which is faster for the small tensors of a lesson, and the language of
    pictures, controls and verdicts: "en" or "ja".

    Raises ImportError where `titans` is another package, whose files lie over this one's, and ValueError for another
    language.
    """
    speak(language)
    begin()
    check_place()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_printoptions(precision=4, sci_mode=False)
    if (shell := get_ipython()) is not None:
        shell.set_custom_exc((NameError,), name_missing)
    versions = sys.version_info.major, torch.__version__.split(".")[0]
    ready = say("titans is ready (Python {}, PyTorch {})", "titans の準備ができました（Python {}、PyTorch {}）")
    print(ready.format(*versions))


def check_place() -> None:
    """Say what to do where another package has its files in this one's place."""
    names, ours = others(), getattr(titans, "whole", None) is whole  # which our titans/__init__.py imports
    if names or not ours:
        english = f"{advice(names)}; then restart the kernel."
        japanese = (
            "✗ titans という名前の別のパッケージのファイルが、このライブラリのファイルと同じ場所にあります。"
            "上の2つのコマンドを順に実行し、カーネルを再起動してください。"
        )
        print(say(f"✗ {english}", f"✗ {english}\n{japanese}"))
    if not ours:
        raise ImportError("titans is another package here, or none: see above")


def name_missing(
    shell: Any, kind: type[NameError], error: NameError, trace: TracebackType, tb_offset: int | None = None
) -> None:
    """For a cell that is run before those that it needs: after Python's traceback, what to run first."""
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    english = f"Where a cell further up makes `{error.name}`, run that first: best all cells above this one, in order."
    japanese = f"`{error.name}` は、上のセルで作られる名前かもしれません。先に、上のセルを順に実行してください。"
    print(f"✗ {say(english, japanese)}")
