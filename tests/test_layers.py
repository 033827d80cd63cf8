"""A file of the package imports only from the rows below its own; deferred imports count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import medrestore

PACKAGE = Path(medrestore.__file__).parent

ROWS = (
    {"errors", "lazy", "plain", "processes", "toml", "types"},
    {"findings", "paths"},
    {"provenance", "voxels"},
    {"options"},
    {"geometry"},
    {"convert", "picture"},
    {"volume"},
    {"io", "metrics", "physics", "diffusion", "networks"},
    {"plugin"},
    {"noise", "files"},
    {"engine", "builtin"},
    {"api", "job", "training", "report"},
    {"batch", "testing"},
    {"node"},
    {"cli"},
    {"__main__"},
)
ROW_OF = {room: number for number, rooms in enumerate(ROWS) for room in rooms}

LEAVES = {"builtin"}
"""Reached from outside alone, by the entry point."""

OF_THE_PACKAGE = {"__version__"}
"""What `from medrestore import ...` may take inside the package; the rest is for users."""

FOR_OUTSIDERS = {
    *("errors", "types", "findings", "provenance", "geometry", "volume"),
    *("metrics", "physics", "diffusion", "networks", "plugin", "testing"),
}
"""What `plugins/` may import, beside the names that `medrestore` itself exports."""

OF_BUILTIN = {"io"}
"""What the built-in plugin may import beside: the formats that it declares are read there."""


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything of medrestore that `source` imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: -node.level]
                base = ".".join([*parent, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def breaks(source: str, module: str) -> list[str]:
    """Return a line for every import in `source` that the layers do not allow."""
    room = module.split(".")[1]
    found = []
    for line, name in imports(source, module):
        parts = name.split(".")
        if parts[0] != "medrestore" or (len(parts) > 1 and parts[1] in OF_THE_PACKAGE):
            continue
        target = parts[1] if len(parts) > 1 else ""
        if target == room:
            continue
        if target not in ROW_OF:
            found.append(f"{module}:{line} takes {name}; import it from where it is defined")
        elif ROW_OF[target] >= ROW_OF[room] or target in LEAVES:
            found.append(
                f"{module}:{line} ({room}, row {ROW_OF[room]}) imports {name} (row {ROW_OF[target]})"
            )
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts != ("medrestore", "__init__"):
            found.append((".".join(parts), path))
    return found


def test_every_room_is_in_the_table():
    rooms = {name.split(".")[1] for name, _ in modules()}
    assert rooms <= ROW_OF.keys(), f"give a row to {sorted(rooms - ROW_OF.keys())}"
    assert len(modules()) > 20


def test_no_file_imports_from_its_own_row_or_above():
    found = [line for name, path in modules() for line in breaks(path.read_text(encoding="utf-8"), name)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("medrestore.geometry", "from medrestore.volume import Volume"),
        ("medrestore.io.nifti.read", "from medrestore.metrics import psnr"),
        ("medrestore.io.nifti.read", "from medrestore import metrics"),
        ("medrestore.io.nifti.read", "from ...metrics import psnr"),
        ("medrestore.io.__init__", "from ..metrics.mask import head_mask"),
        ("medrestore.plugin.model_folder", "def load():\n    from medrestore.engine import restore"),
        (
            "medrestore.plugin.model_folder",
            "if TYPE_CHECKING:\n    import medrestore.engine.single",
        ),
        ("medrestore.engine.single", "import importlib\nimportlib.import_module('medrestore.cli')"),
        ("medrestore.engine.single", "from medrestore import read"),
        ("medrestore.engine.single", "import medrestore"),
        ("medrestore.cli.models", "from medrestore.builtin import MODELS"),
        ("medrestore.errors", "from medrestore.types import Task"),
    ],
)
def test_a_break_is_seen(module, source):
    assert breaks(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("medrestore.volume", "from medrestore.geometry import Geometry"),
        ("medrestore.io.nifti.read", "from medrestore.io.atomic import atomic_write"),
        ("medrestore.io.nifti.read", "from .atomic import atomic_write\nfrom ..errors import InputError"),
        (
            "medrestore.plugin.model_folder",
            "def load():\n    from medrestore.networks import build\n    import torch",
        ),
        (
            "medrestore.cli.models",
            "from medrestore import __version__\nfrom medrestore.plugin import Registry",
        ),
    ],
)
def test_what_is_allowed_passes(module, source):
    assert breaks(source, module) == []


def test_plugins_and_builtin_use_what_an_outsider_may():
    folder = PACKAGE.parent / "plugins"
    files = [*PACKAGE.glob("builtin/**/*.py"), *folder.glob("**/*.py")]
    assert len(files) >= 2
    for path in files:
        allowed = FOR_OUTSIDERS | (OF_BUILTIN if PACKAGE in path.parents else set())
        for line, name in imports(path.read_text(encoding="utf-8"), "outside"):
            package, _, rest = name.partition(".")
            room = rest.split(".")[0]
            if package == "medrestore" and room not in medrestore.__all__:
                assert room in allowed, f"{path.name}:{line} imports {name}"


def test_one_place_turns_errors_into_messages():
    catching = [
        name
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and "MedrestoreError" in ast.unparse(node.type)
    ]
    # A batch goes on where one case fails, and its runner takes any error at all for one of a case;
    # everything else ends, in one place, with a message.
    assert catching == ["medrestore.batch.plan", "medrestore.cli.__init__"]
