"""The pages of the documentation, and what tests read in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import medrestore

ROOT = Path(medrestore.__file__).parents[1]
DOCS = ROOT / "docs"
WEIGHTS = ROOT / "medrestore/builtin/models/mr-denoise/model.safetensors"
QUICK_START = DOCS / "tutorial/quick-start.md"
FIRST_PLUGIN = DOCS / "tutorial/first-plugin.md"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason=f"{WEIGHTS.relative_to(ROOT)} is missing: no model is shipped yet"
)

PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "benchmarks")
TEXTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "sample_data/README.md")), *PAGES]

FENCE = re.compile(
    r"(?P<before><!--[^\n]*-->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SKIPPED = "<!-- not executed by the tests"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    body: str
    executed: bool


def blocks(path: Path) -> list[Block]:
    return [
        Block(m["language"], m["title"], m["body"], not (m["before"] or "").startswith(SKIPPED))
        for m in FENCE.finditer(path.read_text(encoding="utf-8"))
    ]


@cache
def commands() -> dict[str, dict[str, set[str]]]:
    """What the command line has: options by command, aliases together under each of their names."""
    import typer

    from medrestore.cli import app

    group = typer.main.get_command(app)
    listed = {}
    for name, command in group.commands.items():
        for part, inner in getattr(command, "commands", {"": command}).items():
            listed[f"{name} {part}".strip()] = inner
    found = {}
    for name, command in listed.items():
        found[name] = {
            option: set(parameter.opts)
            for parameter in command.params
            for option in (parameter.opts if parameter.param_type_name == "option" else [parameter.metavar])
        }
        found[name].pop("--help", None)
    return found


def tables(path: Path) -> dict[str, list[list[str]]]:
    """Rows of the tables of a page, split into cells, by the heading above."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in FENCE.sub("", path.read_text(encoding="utf-8")).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip().strip("`")
        elif line.startswith("|") and not re.match(r"\|[\s|:-]*\|$", line):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split(" | ")])
    return {heading: rows[1:] for heading, rows in found.items()}


def keys(rows: list[list[str]]) -> list[str]:
    """Names in backquotes in the first cell of each row."""
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row[0])]
