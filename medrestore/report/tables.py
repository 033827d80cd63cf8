"""The report for programs: `summary.csv` and `summary.json`, with columns that stay."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from medrestore import __version__
from medrestore.io.atomic import atomic_write
from medrestore.provenance import JSON
from medrestore.report.rows import CaseRow, further_metrics

SCHEMA = "medrestore-summary/1"
"""Changes when a column is renamed, removed or given another meaning; new columns come last."""

COLUMNS: dict[str, Callable[[CaseRow], JSON]] = {
    "case": lambda row: row.case,
    "name": lambda row: row.name,
    "status": lambda row: row.status,
    "cause": lambda row: row.cause,
    "stage": lambda row: row.stage,
    "model": lambda row: row.model,
    "task": lambda row: row.task,
    "modality": lambda row: row.modality,
    "shape_x": lambda row: row.shape and row.shape[0],
    "shape_y": lambda row: row.shape and row.shape[1],
    "shape_z": lambda row: row.shape and row.shape[2],
    "spacing_x_mm": lambda row: row.spacing_mm and row.spacing_mm[0],
    "spacing_y_mm": lambda row: row.spacing_mm and row.spacing_mm[1],
    "spacing_z_mm": lambda row: row.spacing_mm and row.spacing_mm[2],
    "noise_fraction": lambda row: row.noise,
    "psnr_db": lambda row: row.psnr,
    "ssim": lambda row: row.ssim,
    "seconds": lambda row: row.seconds,
    "predicted_seconds": lambda row: row.predicted_seconds,
    "peak_bytes": lambda row: row.peak_bytes,
    "predicted_peak_bytes": lambda row: row.predicted_peak_bytes,
    "findings": lambda row: None if row.findings is None else " ".join(row.findings),
    "attempts": lambda row: row.attempts,
    "output": lambda row: row.output,
    "page": lambda row: f"cases/{row.case}.html",
    "verdict": lambda row: row.verdict,
    "least_psnr_db": lambda row: row.bound.get("psnr"),
    "least_ssim": lambda row: row.bound.get("ssim"),
}
"""Columns of both files, in their order; metrics of plugins, by their names, are behind them."""

# A spreadsheet runs a cell that begins like this as a formula, and file names come from anyone.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(path: Path, rows: Sequence[CaseRow]) -> None:
    """Write one line a case; an empty cell is a value that there is not.

    Text that a spreadsheet would run as a formula gets an apostrophe before it; `write_json` has it as it is.

    Raises:
        OutputError: The file cannot be written.
    """
    with (
        atomic_write(path, overwrite=True) as temporary,
        temporary.open("w", encoding="utf-8", errors="replace", newline="") as file,
    ):
        writer = csv.writer(file)
        columns = _columns(rows)
        writer.writerow(columns)
        writer.writerows([_cell(column(row)) for column in columns.values()] for row in rows)


def _columns(rows: Sequence[CaseRow]) -> dict[str, Callable[[CaseRow], JSON]]:
    return COLUMNS | {name: partial(_further, name) for name in further_metrics(rows)}


def _further(name: str, row: CaseRow) -> JSON:
    return row.further.get(name)


def _cell(value: JSON) -> JSON:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_json(path: Path, rows: Sequence[CaseRow], title: str) -> None:
    """Write the same columns as JSON, null for a value that there is not, with counts by status.

    Raises:
        OutputError: The file cannot be written.
    """
    columns = _columns(rows)
    summary = {
        "schema": SCHEMA,
        "medrestore": __version__,
        "title": title,
        "counts": count(rows),
        "cases": [{name: column(row) for name, column in columns.items()} for row in rows],
    }
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", encoding="ascii")


def count(rows: Sequence[CaseRow]) -> dict[str, int]:
    """Return how many cases there are by status, also where there are no cases."""
    return {status: sum(row.status == status for row in rows) for status in ("done", "failed", "skipped")}
