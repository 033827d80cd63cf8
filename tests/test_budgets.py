"""Sizes that keep code readable: functions, modules, parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medrestore

PACKAGE = Path(medrestore.__file__).parent
BENCHMARKS = PACKAGE.parent / "benchmarks"

LINES, MODULE, PARAMETERS = 40, 300, 6
"""Of a function without its docstring, of a module, and of a function without `self`."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(BENCHMARKS.rglob("*.py") if BENCHMARKS.is_dir() else ())])


def functions(source: str) -> Iterator[Function]:
    yield from (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Return the lines of a function, without those of its docstring."""
    first = function.body[0]
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters(function: Function) -> int:
    """Return how many parameters a function has, `self` and `cls` not counted."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def mixed_tuples(function: Function) -> list[str]:
    """Return the parameters that are tuples of arguments of different kinds in disguise."""
    given, found = function.args, []
    for one in (*given.posonlyargs, *given.args, *given.kwonlyargs):
        kind = one.annotation
        if not (isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "tuple"):
            continue
        parts = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        kinds = {ast.unparse(part) for part in parts} - {"..."}
        if len(kinds) > 1:
            found.append(f"{one.arg}: {ast.unparse(kind)}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_sizes(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MODULE
    for function in functions(source):
        assert length(function) <= LINES, f"{function.name} has {length(function)} lines"
        assert parameters(function) <= PARAMETERS, f"{function.name} has {parameters(function)} parameters"
        assert not mixed_tuples(function), f"{function.name} takes {mixed_tuples(function)}"


def test_the_measures_see_what_they_are_for():
    body = "\n".join(["    x = 1"] * 41)
    (long,) = functions(f'def f(a, *, b):\n    """One.\n\n    Two.\n    """\n{body}')
    assert (length(long), parameters(long)) == (42, 2)
    (method,) = functions("class A:\n    def f(self, a: tuple[int, str], b: tuple[int, ...]): pass")
    assert parameters(method) == 2
    assert mixed_tuples(method) == ["a: tuple[int, str]"]
