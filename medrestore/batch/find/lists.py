"""A batch as a list: a CSV or JSONL file with a line for each case."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
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
    cases, unlisted, base = list[Case](), dict[str, None](), resolved(path.parent)
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        if unknown := sorted(set(row) - set(COLUMNS)):
            raise InputError(f"{where}: unknown {', '.join(unknown)}; expected {', '.join(COLUMNS)}")
        if not row.get("input"):
            raise InputError(f"{where}: no input")
        scan = resolved(base / row["input"])
        found = _found(scan, where, policy=policy, suffix=suffix, leave_out=leave_out)
        cases += _cases(base, row, where, found.cases)
        unlisted |= dict.fromkeys(os.path.relpath(scan / one, base) for one in found.unlisted)
    return Found(tuple(distinct(cases)), unlisted=tuple(unlisted))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(stream)
                _check_header(path, [name.strip() for name in reader.fieldnames or ()])
                for row in reader:
                    if None in row or None in row.values():
                        raise InputError(f"{path}, line {reader.line_num}: not as many columns as the header")
                    yield reader.line_num, {key.strip(): value.strip() for key, value in row.items()}
                return
            for number, line in enumerate(stream, 1):
                if line.strip():
                    stated = _object(f"{path}, line {number}", line).items()
                    yield number, {str(key): str(value) for key, value in stated if value is not None}
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a list ({error})") from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    """Refuse a first line that is no header; it is not quoted, as it may be a path that names a person."""
    if names and "input" not in names:
        others = [what for mark, what in ((";", "semicolons"), ("\t", "tabs")) if mark in "".join(names)]
        marks = f", and has {others[0]}" if others else ""
        raise InputError(
            f"{path}, line 1: names no column input{marks}; expected a header of {', '.join(COLUMNS)}, of "
            "which input is needed, with commas between the columns"
        )


def _object(where: str, line: str) -> dict[str, Any]:
    try:
        stated = json.loads(line)
    except (ValueError, RecursionError):
        stated = None
    if not isinstance(stated, dict):
        raise InputError(
            f'{where}: is no JSON object; expected one a line, such as {{"input": "head.nii.gz"}}'
        )
    return stated


def _found(scan: Path, where: str, **how: Any) -> Found:
    """Return the case of a file, or those of a folder; `how` goes to `find_cases`."""
    formats = installed_formats()
    known = formats.of_name(scan)
    if scan.is_dir():
        empty = ScanFile(scan, NIFTI.name, (scan,), "is a folder without a scan")
        found = find_cases(scan, **how)
        return found if found.cases else replace(found, cases=(file_case(scan.parent, empty, how["suffix"]),))
    if not scan.is_file() or (known is not None and known.name != DICOM.name):
        one = file_case(scan.parent, scan_file(scan, formats), how["suffix"])
        missing = "no such file" if obstacle(scan) is Obstacle.MISSING else ""
        return Found((replace(one, refused=missing or one.refused),))
    formats.refuse_broken()
    raise InputError(f"{where}: the input is no NIfTI file and no folder, nor of another installed format")


def _cases(base: Path, row: dict[str, str], where: str, found: Sequence[Case]) -> list[Case]:
    """Return the cases that were found for a line, as the line has them."""
    try:
        modality = Modality(row["modality"]) if row.get("modality") else None
    except ValueError:
        raise InputError(f"{where}: modality is {row['modality']!r}; expected MR or CT") from None
    reference = resolved(base / row["reference"]) if row.get("reference") else None
    changes: dict[str, object] = {
        "reference": reference,
        "model": _model(base, row["model"]) if row.get("model") else None,
    }
    if modality is not None:
        changes["modality"] = modality
    if row.get("output"):
        if len(found) != 1:
            raise InputError(f"{where}: an output for one case, and the input has {len(found)}")
        changes["output"] = _output(row["output"], where)
    cases = [replace(case, **changes) for case in found]  # type: ignore[arg-type]
    if reference is not None and (hindrance := obstacle(reference)) is not None:
        missing = "no such file" if hindrance is Obstacle.MISSING else f"is {hindrance}"
        why = f"its reference {row['reference']}: {missing} ({where.rpartition(', ')[2]} of the list)"
        cases = [replace(case, refused=case.refused or why) for case in cases]
    return [replace(case, id=_id(base, case)) for case in cases]


def _output(name: str, where: str) -> PurePosixPath:
    """Return the path of a result; the ending of an image is refused, as another would come behind it."""
    stem = installed_formats().stem(Path(name))
    if ending := Path(name).name.removeprefix(stem):
        raise InputError(
            f"{where}: the output ends in {ending}; expected a name without ending: leave it out"
        )
    return safe_path(PurePosixPath(name))


def _id(base: Path, case: Case) -> str:
    """Return the id of a case of the list, in which one scan may be restored in several ways."""
    place = PurePosixPath(os.path.relpath(case.root / case.source, base))
    return case_id(place, f"{case.series or ''}\0{case.output}")


def _model(base: Path, name: str) -> str:
    """Return the path of a model folder beside the list, or the name of a model."""
    folder = resolved(base / name)
    return str(folder) if folder.is_dir() else name
