"""Write the pages of the reference that are made from the code: `python docs/make_reference.py`."""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path

from medrestore.cli.archive import PullRequest
from medrestore.cli.bids import BidsRequest
from medrestore.cli.judged import MetricsRequest
from medrestore.cli.verify import VerifyRequest
from medrestore.findings import KINDS
from medrestore.options import (
    BatchRun,
    CalibrateOptions,
    CaseSelection,
    FileOptions,
    GenerateOptions,
    NodeOptions,
    OutputRequest,
    ReadPolicy,
    ReadRequest,
    RestoreOptions,
    declared_options,
)
from medrestore.options.declare import REQUIRED, DeclaredOption

FINDINGS = """# Findings

What a reader of a result should know. A finding has a `code`, a `severity`, a `text` for a person and its
numbers in `data`; it stands in the record and the [sidecar](sidecar.md), is printed on stderr, and its code
is in the comment of derived DICOM images and in the report of a batch. A `note` is good to know; after a
`warning`, look before using the result. With `--strict`, `medrestore restore` ends with status 4 where there
is a warning; what was restored is written all the same.

Codes keep their meaning; new ones may be added. This page is made by `python docs/make_reference.py`.

| code | severity | when, and what follows |
|---|---|---|
"""

FOLDER = Path(__file__).resolve().parent / "reference"


def findings() -> str:
    """Return the page of the kinds of findings."""
    rows = [f"| `{kind.code}` | {kind.severity} | {kind.meaning} |" for kind in KINDS.values()]
    return FINDINGS + "\n".join(rows) + "\n"


LINKS = {
    "--model": "[model cards](../models/mr-denoise.md)",
    "--noise": "[Noise](../explanation/noise.md)",
    "--noise-map": "[Noise](../explanation/noise.md#noise-that-varies-over-the-scan)",
    "--ensemble": "[what that gains](../explanation/model-notes.md#self-ensemble)",
    "--interval": "[Map the uncertainty](../how-to/map-the-uncertainty.md)",
    "--calibration": "[`medrestore calibrate`](#medrestore-calibrate)",
    "--max-memory": "[Memory and time](../explanation/memory.md)",
    "--series": "[`medrestore scan`](#medrestore-scan)",
    "--format": "[Write DICOM](../how-to/write-dicom.md)",
    "--shard": "[Batches under SLURM](../how-to/batch-slurm.md)",
    "--scheduler": "[Batches under Dask](../how-to/batch-dask.md)",
}
"""What a row leads to."""

SECTIONS = {
    "restore": (RestoreOptions, FileOptions, OutputRequest, ReadPolicy, ReadRequest),
    "batch": (CaseSelection, BatchRun),
    "bids": (BidsRequest,),
    "node": (NodeOptions,),
    "pull": (PullRequest,),
    "metrics": (MetricsRequest,),
    "verify": (VerifyRequest,),
    "calibrate": (CalibrateOptions,),
    "generate": (GenerateOptions,),
}
"""Whose options a command declares; rows of other options are written by hand."""


def command_line() -> str:
    """Return the page of the command line, its rows of declared options made anew."""
    page = (FOLDER / "cli.md").read_text(encoding="utf-8")
    for command, kinds in SECTIONS.items():
        before, title, rest = page.partition(f"\n## `medrestore {command}`\n")
        section, heading, after = rest.partition("\n## ")
        for kind in kinds:
            section = with_rows(section, kind)
        page = before + title + section + heading + after
    return page


def with_rows(section: str, kind: type) -> str:
    """Return a section whose rows of the options of a dataclass are made anew; new ones come last."""
    meanings = attributes(kind)
    for one in declared_options(kind):
        flag = one.info.flag or f"--{one.name.replace('_', '-')}"
        link = f" See {LINKS[flag]}." if flag in LINKS and kind is not PullRequest else ""
        needed = " Needed." if one.default is REQUIRED else ""
        names = ", ".join(f"`{name}`" for name in (*one.info.short, flag))
        row = f"| {names} | {default(one)} | {meanings[one.name]}{needed}{link} |"
        rows = re.compile(rf"^\| {names} \|.*$", re.MULTILINE)
        if rows.search(section):
            section = rows.sub(lambda _, row=row: row, section, count=1)
        else:
            last = section.rindex("\n|")
            end = section.index("\n", last + 1)
            section = section[:end] + "\n" + row + section[end:]
    return section


def attributes(kind: type) -> dict[str, str]:
    """Return what the docstring of a dataclass says of each attribute, as Markdown for a command line."""
    lines = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if start := re.match(r"    (\w+): (.*)", line):
            name, found[start[1]] = start[1], start[2]
        else:
            found[name] += " " + line.strip()
    return {name: re.sub(r'``"?([^`"]*)"?``', r"`\1`", shown(text)) for name, text in found.items()}


def shown(text: str) -> str:
    """Return a sentence about an attribute as one about an option, which is left out where that is None."""
    text = re.sub(r"(?<=\. )None for ", "Left out: ", text)
    return re.sub(r"\bNone (for )?", "left out: ", text)


def default(one: DeclaredOption) -> str:
    """Return the cell of a default: empty where an option is left out by default, or must be given."""
    value = one.default.value if isinstance(one.default, Enum) else one.default
    if value is None or value is REQUIRED or value == "":
        return ""
    if isinstance(value, bool):
        return "off"
    return f"{value:g}" if isinstance(value, int | float) else f"`{value}`"


PAGES = {"findings.md": findings, "cli.md": command_line}
"""What makes each page."""


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
