"""Every hook has a use in the product, an example outside of it, and a section of the page of the hooks."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import medrestore
from medrestore.plugin import hookspecs
from medrestore.plugin.manager import _DECLARED, _OBSERVING, _SPEC

PACKAGE = Path(medrestore.__file__).parent
PAGE = PACKAGE.parent / "docs" / "reference" / "hooks.md"
EXAMPLES = ("medrestore_examples", "medrestore_formats", "medrestore_median")
HOOKS = [name for name, hook in vars(hookspecs).items() if hasattr(hook, _SPEC)]

LOOKUPS = {"declared", "extensions", "find", "named"}
"""Functions that are given a kind of declaration, and return what is declared of it."""


def calls() -> Iterator[tuple[str, str]]:
    """Yield what is called in the package, and the first argument where that is a name or a constant."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                first = node.args[0]
                plain = getattr(first, "id", getattr(first, "value", ""))
                yield getattr(node.func, "attr", getattr(node.func, "id", "")), str(plain)


@cache
def used() -> set[str]:
    """Return the hooks whose declarations are looked up, and those that are told of something."""
    found = set(calls())
    looked_up = {argument for name, argument in found if name in LOOKUPS}
    told = {argument for name, argument in found if name == "tell"}
    return {hook for hook, kind in _DECLARED.items() if kind.__name__ in looked_up} | told


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_every_hook_is_used_by_the_product(hook):
    assert hook in used()


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_every_hook_has_an_example_outside(hook, examples):
    modules = [importlib.import_module(name) for name in EXAMPLES]
    assert any(hasattr(module, hook) for module in modules)


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_the_page_says_where_each_hook_is_used_and_what_shows_it(hook):
    sections = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert re.search(r"\b(Used|Called) by\b", sections[hook])
    assert re.search(r"`plugins/medrestore-\w+`", sections[hook])


def test_every_hook_is_collected_or_told():
    assert set(HOOKS) == {*_DECLARED, *_OBSERVING}
