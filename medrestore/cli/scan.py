"""`medrestore scan`: what a folder of DICOM files holds, what would be done with it, and what lies beside."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import takes
from medrestore.errors import InputError, MedrestoreError, unforeseen
from medrestore.options import ReadPolicy
from medrestore.paths import Obstacle, obstacle, resolved

if TYPE_CHECKING:
    from medrestore.io import Plan, PlannedSeries
    from medrestore.io.folder import PassedOver, ScanFile


@takes("policy", ReadPolicy)
def scan(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Looked through with its subfolders.")],
    policy: ReadPolicy,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every file.")] = False,
) -> None:
    """List the DICOM series below a folder: class, grid, what would be done, what is left out and why.

    Headers alone are read. Files of other formats are counted, by their names.
    """
    hindrance = obstacle(folder)
    if hindrance is not None:
        what = "no such file or folder" if hindrance is Obstacle.MISSING else f"is {hindrance}"
        raise InputError(f"{folder}: {what}; expected a folder of DICOM files")
    from medrestore.io.folder import scan_files
    from medrestore.plugin import installed_formats

    plan = _plan(folder, policy)
    alone = folder.is_file()  # beside which nothing lies that was asked for
    others, passed = ([], []) if alone else scan_files(resolved(folder), installed_formats())
    if as_json:
        typer.echo(json.dumps(_record(plan, others, passed), indent=2))
    else:
        _print(plan)
        _print_others(others, passed)


def _plan(folder: Path, policy: ReadPolicy) -> Plan:
    """Plan a folder; what nobody foresaw is a reason to leave its DICOM files out, and not the end."""
    from medrestore.io import plan_dicom
    from medrestore.io.dicom.parse.header import LeftOut, SkipReason
    from medrestore.io.dicom.plan.plan import Plan

    try:
        return plan_dicom(folder, policy)
    except Exception as error:
        if isinstance(error, MedrestoreError):
            raise
        why = f"its DICOM files cannot be planned ({unforeseen(error)}); scan its subfolders, to find the one"
        text = f"{folder}: {why}"
        return Plan(folder, (), (LeftOut(folder, SkipReason.UNUSABLE, text),), 0)


def _print(plan: Plan) -> None:
    from medrestore.cli.table import print_table

    if plan.series:
        print_table(
            ("#", "series", "class", "shape", "spacing (mm)", "plane", "units", "files", "what is done"),
            [_cells(item) for item in plan.series],
        )
    else:
        typer.echo(f"No series to read below {plan.path}.")
    counts = Counter((item.why, item.number, item.description) for item in plan.left_out)
    if counts:
        typer.echo("\nLeft out:")
    for (why, number, description), count in counts.most_common():
        name = "" if number is None and not description else f" of {_name(number, description)}"
        sample = next(
            item
            for item in plan.left_out
            if (item.why, item.number, item.description) == (why, number, description)
        )
        typer.echo(f"  {count} {why}{name}, such as {sample.text}")
    if plan.others:
        typer.echo(f"\n{plan.others} files are no DICOM.")


def _print_others(others: Sequence[ScanFile], passed: Sequence[PassedOver]) -> None:
    """Say which files a batch would take beside the series, and which it would not."""
    said = [(f"read as {scan.format}", scan.path) for scan in others if not scan.refused]
    said += [(f"that {scan.refused}", scan.path) for scan in others if scan.refused]
    said += [(one.why, one.path) for one in passed]
    for why, count in Counter(why for why, _ in said).items():
        sample = next(path for reason, path in said if reason == why)
        typer.echo(f"  {count} {why}, such as {sample}")


def _name(number: int | None, description: str) -> str:
    return " ".join(filter(None, ["" if number is None else str(number), description])) or "-"


def _cells(item: PlannedSeries) -> tuple[str, ...]:
    head = item.head
    return (
        str(item.number),
        f"{_name(head.number, head.description)} ({head.modality}, {' '.join(head.image_type[2:4]).lower()})",
        item.kind,
        " x ".join(map(str, item.shape)),
        " x ".join(f"{size:.4g}" for size in item.spacing),
        item.plane,
        item.units,
        str(len({one.path for one in item.heads})),
        "; ".join(filter(None, [f"{item.action}", item.reason, *(note.text for note in item.notes)])),
    )


def _record(plan: Plan, others: Sequence[ScanFile], passed: Sequence[PassedOver]) -> dict[str, object]:
    return {
        "path": str(plan.path),
        "series": [_series(item) for item in plan.series],
        "left_out": [
            {
                "file": str(item.path),
                "why": item.why,
                "text": item.text,
                "series_uid": item.series,
                "series_number": item.number,
                "description": item.description,
            }
            for item in plan.left_out
        ],
        "not_dicom": plan.others,
        "other_formats": [
            {"file": str(scan.path), "format": scan.format} for scan in others if not scan.refused
        ],
        "not_read": [
            *({"file": str(scan.path), "why": scan.refused} for scan in others if scan.refused),
            *({"file": str(one.path), "why": one.why} for one in passed),
        ],
    }


def _series(item: PlannedSeries) -> dict[str, object]:
    head, geometry = item.head, item.geometry
    return {
        "number": item.number,
        "series_uid": head.series,
        "series_number": head.number,
        "description": head.description,
        "modality": head.modality,
        "image_type": head.image_type,
        "class": item.kind,
        "findings": [
            {"flaw": finding.flaw, "amount": finding.amount, "text": finding.text}
            for finding in item.findings
        ],
        "shape": item.shape,
        "spacing_mm": item.spacing,
        "plane": item.plane,
        "units": item.units,
        "transfer_syntaxes": sorted({one.syntax.name for one in item.heads}),
        "action": item.action,
        "reason": item.reason,
        "notes": [note.as_json() for note in item.notes],
        "read_as": None
        if geometry is None
        else {"shape": geometry.shape, "affine": geometry.affine.tolist()},
        "volumes": [
            {
                "label": dict(volume.label),
                "slices": [
                    {"file": str(one.path), "frame": one.frame}
                    for place in volume.stack.places
                    for one in place
                ],
            }
            for volume in item.volumes
        ],
    }
