"""The results of told.py as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.denoise.tables import made
from medrestore.noise.told import FAINT

Row = dict[str, Any]
TOLD = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)


def markdown(report: dict[str, Any]) -> str:
    """The whole page."""
    setup, rows, limits = report["setup"], report["rows"], report["limits"]
    parts = ["# Levels of noise that are told, beside what the scan shows", made(setup), _setup(report)]
    parts += ["## What is read, and the limits", _limits(rows, limits)]
    parts += ["## Warned of, on subjects that set nothing", _told(rows, limits)]
    return "\n\n".join(parts) + "\n"


def _setup(report: dict[str, Any]) -> str:
    setup = report["setup"]
    lines = [
        "- No model is run: noise of known level, white and coloured, is added to the truths of",
        "  `benchmarks/evidence/interval_scans.py` (crops of 64 x 72 x 56 voxels, CT 96 x 96 x 32), or to",
        f"  slices of them, and read. {report['left_out']} scans are left out: their truth's own noise reads",
        "  as more than half of what was added.",
        "- Limits are a tenth beyond the farthest scan of the sets `tune` and `held-out`, and no nearer than",
        "  0.8 and 1.25; the scans of `test` are of other people, and set none.",
        "- A level is warned of where it lies outside of the limits, and differs from what is read by more",
        "  than 0.5 % of the bright level (CT: 5 HU).",
        f"- Machine: {setup['cpu']}, {setup['cores']} cores, threads: {setup['threads']}; {setup['system']},",
        f"  Python {setup['python']}.",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _limits(rows: Sequence[Row], limits: dict[str, list[float]]) -> str:
    found = []
    for kind, (low, high) in limits.items():
        for name, sets in (("sets the limits", ("tune", "held-out")), ("sets none", ("test",))):
            some = [row for row in rows if row["kind"] == kind and row["set"] in sets]
            ratios = sorted(row["level"] / row["read"] for row in some)
            if ratios:
                span = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
                whom = f"{len({row['subject'] for row in some})} ({len(some)})"
                found.append(
                    (kind, name, whom, f"{ratios[len(ratios) // 2]:.2f}", span, f"{low:g} to {high:g}")
                )
    return _table(("read", "", "subjects (scans)", "true level over it: median", "all", "limits"), found)


def _told(rows: Sequence[Row], limits: dict[str, list[float]]) -> str:
    found = []
    for kind, ends in limits.items():
        some = [row for row in rows if row["kind"] == kind and row["set"] == "test"]
        if some:
            counts = (sum(_is_warned(row, told, ends) for row in some) for told in TOLD)
            found.append((kind, str(len(some)), *map(str, counts)))
    head = (
        *(f"{told:g} of it" for told in TOLD[:3]),
        "the true level",
        *(f"{told:g} of it" for told in TOLD[4:]),
    )
    return _table(("read", "scans", *head), found)


def _is_warned(row: Row, told: float, ends: Sequence[float]) -> bool:
    level, read = told * row["level"], row["read"]
    low, high = min(ends[0] * read, read - FAINT), max(ends[1] * read, read + FAINT)
    return not low <= level <= high
