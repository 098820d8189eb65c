"""The lessons' package: a room imports the kit, never another room, and the kit imports no room."""

import ast

import pytest

from tests.paths import ROOT, SOURCES

LESSON = ROOT / "titans" / "lesson"
PACKAGE = "titans.lesson"


def room(module):
    """ "lesson_02" for titans.lesson.lesson_02.lab, "kit" for titans.lesson.kit.live, "" for what is in neither."""
    return module.removeprefix(f"{PACKAGE}.").split(".")[0] if module.startswith(f"{PACKAGE}.") else ""


def imported(code, module):
    """The full names of all that a module imports, wherever in it the import stands; a relative one is spelled out."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def trespasses(code, module):
    """What a module of the package imports and may not."""
    own = room(module)
    return [name for name in imported(code, module) if room(name).startswith("lesson_") and room(name) != own]


MODULES = {
    ".".join([PACKAGE, *path.relative_to(LESSON).with_suffix("").parts]): path for path in sorted(LESSON.rglob("*.py"))
}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_no_other_room_and_the_kit_imports_none(module):
    assert trespasses(MODULES[module].read_text(encoding="utf-8"), module) == []


TRESPASSES = {
    "a name from another room": ("lesson_03.lab", "from titans.lesson.lesson_02.lab import DIM"),
    "another room's module": ("lesson_03.lab", "from titans.lesson.lesson_02 import lab"),
    "another room": ("lesson_03.lab", "from titans.lesson import lesson_02"),
    "another room, in one name": ("lesson_03.lab", "import titans.lesson.lesson_02.lab as lab"),
    "a room from the kit": ("kit.live", "from titans.lesson.lesson_00.words import NAMES"),
    "inside a function": ("kit.live", "def late():\n    from titans.lesson.lesson_00 import words"),
    "spelled relatively": ("lesson_03.lab", "from ..lesson_02.lab import DIM"),
    "relatively, the room alone": ("kit.live", "from .. import lesson_09"),
}
ALLOWED = {
    "its own room": ("lesson_03.lab", "from titans.lesson.lesson_03.streams import EARLY"),
    "its own room, relatively": ("lesson_03.lab", "from . import streams"),
    "the kit": ("lesson_03.lab", "from titans.lesson.kit import live"),
    "the library": ("lesson_03.lab", "from titans.memory import DeepMemory\nimport torch"),
    "start": ("lesson_03.lab", "from titans.lesson import start"),
}


@pytest.mark.parametrize("name", TRESPASSES)
def test_a_trespass_is_found(name):
    module, code = TRESPASSES[name]
    assert len(trespasses(code, f"{PACKAGE}.{module}")) == 1


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_no_trespass(name):
    module, code = ALLOWED[name]
    assert trespasses(code, f"{PACKAGE}.{module}") == []


def test_every_lesson_has_its_room_and_every_room_its_lesson():
    lessons = [f"lesson_{path.name[:2]}" for path in sorted(SOURCES.glob("[0-9][0-9]_*.py"))]
    assert sorted({room(module) for module in MODULES} - {"kit", "__init__", "collect"}) == lessons
    for name in lessons:
        assert {"__init__.py", "exercises.py", "pictures.py"} <= {path.name for path in (LESSON / name).iterdir()}
