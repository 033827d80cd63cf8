"""A batch as a list: a CSV or JSONL file with a line for each case."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medrestore.batch.find.case import Case, Found, distinct
from medrestore.batch.find.cases import file_case, find_cases
from medrestore.batch.find.names import case_id, safe_path
from medrestore.errors import InputError
from medrestore.io import DICOM, NIFTI, ReadPolicy
from medrestore.io.folder import ScanFile, scan_file
from medrestore.paths import Obstacle, obstacle, resolved
from medrestore.plugin import installed_formats
from medrestore.types import Modality

COLUMNS = ("input", "output", "reference", "model", "modality")
LISTS = (".csv", ".jsonl")


def read_list(
    path: Path, *, policy: ReadPolicy | None = None, suffix: str = "restored", leave_out: Path | None = None
) -> Found:
    """Read the cases of a list. Paths in it are relative to its folder; ``input`` alone is needed.

    ``output`` is a relative name without suffix in the folder of results; without it, the name of the input.

    Args:
        path: The list.
        policy: How DICOM series are planned.
        suffix: Suffix that is added to the names of files.
        leave_out: A folder in which no scans are looked for: the folder of results.

    Raises:
        InputError: The list cannot be read, has no ``input``, or has a column that is not known.
    """
    cases: list[Case] = []
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        if unknown := sorted(set(row) - set(COLUMNS)):
            raise InputError(f"{where}: unknown {', '.join(unknown)}; expected {', '.join(COLUMNS)}")
        if not row.get("input"):
            raise InputError(f"{where}: no input")
        cases += _cases(resolved(path.parent), row, where, policy=policy, suffix=suffix, leave_out=leave_out)
    return Found(tuple(distinct(cases)))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            if path.suffix.lower() == ".csv":
                for row in (reader := csv.DictReader(stream)):
                    if None in row or None in row.values():
                        raise InputError(f"{path}, line {reader.line_num}: not as many columns as the header")
                    yield reader.line_num, {key.strip(): value.strip() for key, value in row.items()}
                return
            for number, line in enumerate(stream, 1):
                if line.strip():
                    stated = json.loads(line).items()
                    yield number, {str(key): str(value) for key, value in stated if value is not None}
    except (OSError, UnicodeError, ValueError, AttributeError, RecursionError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a list ({error})") from error


def _cases(base: Path, row: dict[str, str], where: str, **how: Any) -> list[Case]:
    """Return the cases of one line: a scan, or every series of a DICOM folder; `how` goes to `find_cases`."""
    scan, formats = resolved(base / row["input"]), installed_formats()
    known = formats.of_name(scan)
    try:
        modality = Modality(row["modality"]) if row.get("modality") else None
    except ValueError:
        raise InputError(f"{where}: modality is {row['modality']!r}; expected MR or CT") from None
    found: tuple[Case, ...]
    if scan.is_dir():
        empty = ScanFile(scan, NIFTI.name, (scan,), "is a folder without a scan")
        found = find_cases(scan, **how).cases or (file_case(scan.parent, empty, how["suffix"]),)
    elif not scan.is_file() or (known is not None and known.name != DICOM.name):
        one = file_case(scan.parent, scan_file(scan, formats), how["suffix"])
        missing = "no such file" if obstacle(scan) is Obstacle.MISSING else ""
        found = (replace(one, refused=missing or one.refused),)
    else:
        formats.refuse_broken()
        raise InputError(
            f"{where}: the input is no NIfTI file and no folder, nor of another installed format"
        )
    changes: dict[str, object] = {
        "reference": resolved(base / row["reference"]) if row.get("reference") else None,
        "model": _model(base, row["model"]) if row.get("model") else None,
    }
    if modality is not None:
        changes["modality"] = modality
    if row.get("output"):
        if len(found) != 1:
            raise InputError(f"{where}: an output for one case, and the input has {len(found)}")
        changes["output"] = safe_path(PurePosixPath(row["output"]))
    cases = [replace(case, **changes) for case in found]  # type: ignore[arg-type]
    return [replace(case, id=_id(base, case)) for case in cases]


def _id(base: Path, case: Case) -> str:
    """Return the id of a case of the list, in which one scan may be restored in several ways."""
    place = PurePosixPath(os.path.relpath(case.root / case.source, base))
    return case_id(place, f"{case.series or ''}\0{case.output}")


def _model(base: Path, name: str) -> str:
    """Return the path of a model folder beside the list, or the name of a model."""
    folder = resolved(base / name)
    return str(folder) if folder.is_dir() else name
