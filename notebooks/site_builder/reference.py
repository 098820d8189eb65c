"""The reference: a page for each module of the library, from its source and its docstrings; nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from site_builder.links import module_name

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
LISTED = re.compile(r"- \*\*|  \S")  # a line of a list, which code, indented by four, is not
CALLED = ("__init__", "forward", "__call__")  # methods that are listed although nothing is said of them


def public(body: list[ast.stmt]) -> list[Definition]:
    """Classes and functions whose names do not begin with an underscore."""
    found = [node for node in body if isinstance(node, Definition)]
    return [node for node in found if not node.name.startswith("_")]


def page(path: Path, root: Path) -> str:
    """The page of one module."""
    tree, name = ast.parse(path.read_text(encoding="utf-8")), module_name(path.relative_to(root).as_posix())
    parts = [f"# `{name}`", f"```{{py:module}} {name}\n```", docstring(tree)]
    parts += [described(node) for node in public(tree.body)]
    return "\n\n".join(filter(None, parts)) + "\n"


def first_line(path: Path) -> str:
    """What a module's docstring says first."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return escaped(" ".join(text.split("\n\n")[0].split()))


def described(node: Definition, owner: str = "") -> str:
    """A class with its methods, or a function: signature and docstring."""
    fence = "`" * (4 if owner else 6)
    inside = [docstring(node)]
    if isinstance(node, ast.ClassDef):
        kind, written = "class", signature(constructor(node))
        inside += [described(method, node.name) for method in public(node.body) if told(method)]
    else:
        kind, written = ("method" if owner else "function"), signature(node, bool(owner))
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    options = [f":{name}:" for name, mark in FLAGS.items() if mark in decorators]
    if "property" in decorators:
        kind, written = "property", ""
    text = "\n\n".join(filter(None, inside))
    return f"{fence}{{py:{kind}}} {node.name}{written}\n" + "\n".join([*options, "", text, fence])


FLAGS = {"classmethod": "classmethod", "staticmethod": "staticmethod"}


def told(node: Definition) -> bool:
    return ast.get_docstring(node) is not None or node.name in CALLED


def constructor(node: ast.ClassDef) -> ast.FunctionDef | list[ast.AnnAssign]:
    """What a class is made with: its `__init__`, or its fields."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return method
    fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
    made = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    named = any(ast.unparse(base) == "NamedTuple" for base in node.bases)
    return fields if made or named else []


def signature(node: Definition | list[ast.AnnAssign], bound: bool = False) -> str:
    """The parentheses behind a name; of a method, or a class, without self."""
    if isinstance(node, list):
        return f"({', '.join(fields(node))})" if node else ""
    assert not isinstance(node, ast.ClassDef)
    arguments = node.args
    if (bound or node.name == "__init__") and arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({ast.unparse(arguments)}){returns}".replace("'", '"')


def fields(nodes: list[ast.AnnAssign]) -> Iterator[str]:
    """The fields of a dataclass or a named tuple as arguments."""
    for node in nodes:
        default = f" = {ast.unparse(node.value)}" if node.value else ""
        default = re.sub(r" = field\(.*?default=(.*?)(, .*)?\)$", r" = \1", default)
        yield f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}" + re.sub(r" = field\(.*", "", default)


def docstring(node: ast.AST) -> str:
    """A docstring as Markdown: indented lines are code, "name: text" is an item of a list."""
    assert isinstance(node, ast.Module | Definition)
    lines: list[str] = []
    for line in (ast.get_docstring(node) or "").splitlines():
        if line.startswith("    "):
            listed = lines and LISTED.match(lines[-1])
            if not listed and lines and lines[-1] and not lines[-1].startswith("    "):
                lines.append("")  # before code, which would else belong to the paragraph
            lines.append(f"  {escaped(line.strip())}" if listed else line)
        elif found := re.match(r"([a-zA-Z_][\w.]*(?:(?:, | and )[\w.*]+)*): (.*)$", line):
            if lines and lines[-1] and not LISTED.match(lines[-1]):
                lines.append("")
            lines.append(f"- **{escaped(found[1])}**: {escaped(found[2])}")
        else:
            lines.append(escaped(line))
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text in which nothing but code between backticks means anything to Markdown."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_\[\]<>$#|{}])", r"\\\1", part) for part in parts)


@cache
def definitions(root: Path) -> dict[str, Definition]:
    """Every public class and function of the library."""
    return {
        f"{module_name(path.relative_to(root).as_posix())}.{node.name}": node
        for path in sorted((root / "titans").glob("*.py"))
        for node in public(ast.parse(path.read_text(encoding="utf-8")).body)
    }


def defined(name: str, root: Path) -> str:
    """The name under which the reference has something: of what a module only imports, that of its own module, and of
    a method that a class only inherits, that of the class which has it."""
    known = definitions(root)
    owner, _, last = name.rpartition(".")
    if name in known:
        return name
    if owner not in known:
        return next(each for each in known if each.endswith(f".{last}"))
    node = known[owner]
    assert isinstance(node, ast.ClassDef)
    if any(method.name == last for method in public(node.body)):
        return name
    bases = [f"{owner.rpartition('.')[0]}.{ast.unparse(base)}" for base in node.bases]
    return next(defined(f"{base}.{last}", root) for base in bases if base in known)
