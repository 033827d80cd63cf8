"""Write every file of a report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medrestore import __version__
from medrestore.errors import OutputError
from medrestore.io.atomic import atomic_write
from medrestore.report.case_page import case_page
from medrestore.report.cohort import cohort_page
from medrestore.report.rows import STATUSES, CaseRow
from medrestore.report.tables import write_csv, write_json

PAGES = "cases"
"""The folder of the pages of the cases, in that of the report."""

_DOCTYPE = b"<!doctype html>\n"


def write(folder: Path, rows: Sequence[CaseRow], title: str) -> Path:
    """Write ``summary.csv``, ``summary.json``, ``report.html`` and ``cases/ID.html`` of each case.

    Every file appears whole or not at all, and replaces the one that is there; pages of cases that have not
    changed, or are not in `rows`, stay as they are. No page asks the network for anything.

    Args:
        folder: Where to write; made if it is missing.
        rows: The cases in any order; the report has failures first, then by name.
        title: Heading of the report; nothing that names a patient.

    Returns:
        Path of ``report.html``.

    Raises:
        OutputError: A file cannot be written, or two rows have the same case id.
    """
    rows = sorted(rows, key=lambda row: (STATUSES.index(row.status), row.name, row.case))
    twice = [case for case, times in Counter(row.case for row in rows).items() if times > 1]
    if twice:
        raise OutputError(f"two cases have the id {twice[0]}; expected one page for each")
    try:
        (folder / PAGES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder / PAGES}: cannot be made ({error.strerror or error})") from error
    write_csv(folder / "summary.csv", rows)
    write_json(folder / "summary.json", rows, title)
    for row in rows:
        _write_case(folder / PAGES / f"{row.case}.html", row, title)
    _write_page(folder / "report.html", _DOCTYPE + cohort_page(rows, title).encode())
    return folder / "report.html"


def _write_case(path: Path, row: CaseRow, title: str) -> None:
    """Write the page of a case unless it is there: they are large, and a batch is often resumed."""
    mark = _mark(row, title)
    try:
        with path.open("rb") as file:
            current = file.read(len(mark)) == mark
    except OSError:
        current = False
    if not current:
        _write_page(path, mark + case_page(row, title).encode())


def _mark(row: CaseRow, title: str) -> bytes:
    """Return the first line of the page of a case: a comment that changes with all that it is made of."""
    try:
        state = row.pictures and row.pictures.stat()
        pictures = state and (state.st_size, state.st_mtime_ns)
    except OSError:
        pictures = None
    parts = repr((__version__, title, pictures, row))
    return _DOCTYPE + f"<!-- {hashlib.sha256(parts.encode('utf-8', 'replace')).hexdigest()} -->\n".encode()


def _write_page(path: Path, page: bytes) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(page)
