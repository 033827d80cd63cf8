"""Write every file of a report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medrestore import __version__
from medrestore.errors import OutputError
from medrestore.io.atomic import atomic_write
from medrestore.report.case_page import VIEWER, case_page
from medrestore.report.cohort import cohort_page
from medrestore.report.page import asset
from medrestore.report.rows import STATUSES, CaseRow
from medrestore.report.tables import write_csv, write_json

PAGES = "cases"
"""The folder of the pages of the cases, in the folder of the report."""

_DOCTYPE = b"<!doctype html>\n"


def write(folder: Path, rows: Sequence[CaseRow], title: str, *, single_files: bool = False) -> Path:
    """Write ``summary.csv``, ``summary.json``, ``report.html`` and ``cases/ID.html`` of each case.

    The viewer (2.3 MB) lies in ``cases`` once, for all pages.

    Every file appears whole or not at all, and replaces the file that is there; pages of cases that have not
    changed, or are not in `rows`, stay as they are. No page asks the network for anything.

    Args:
        folder: Where to write; made if it is missing.
        rows: The cases in any order; the report has failures first, then results by verdict, then by name.
        title: Heading of the report; nothing that names a patient.
        single_files: Put the viewer into each page instead, so that a page can be sent by itself.

    Returns:
        Path of ``report.html``.

    Raises:
        OutputError: A file cannot be written, or two rows have the same case id.
    """
    rows = sorted(rows, key=_order)
    twice = [case for case, times in Counter(row.case for row in rows).items() if times > 1]
    if twice:
        raise OutputError(f"two cases have the id {twice[0]}; expected one page for each")
    try:
        (folder / PAGES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder / PAGES}: cannot be made ({error.strerror or error})") from error
    write_csv(folder / "summary.csv", rows)
    write_json(folder / "summary.json", rows, title)
    viewer = None if single_files else viewer_name()
    if viewer is not None and any(row.pictures for row in rows):
        _write_viewer(folder / PAGES / viewer)
    for row in rows:
        _write_case(folder / PAGES / f"{row.case}.html", row, title, viewer)
    _write_page(folder / "report.html", _DOCTYPE + cohort_page(rows, title).encode())
    return folder / "report.html"


def _order(row: CaseRow) -> tuple[int, int, str, str]:
    return STATUSES.index(row.status), row.concern, row.name, row.case


def viewer_name() -> str:
    """Name of the file of the viewer, after its content: pages of an earlier version keep theirs."""
    return f"niivue-{hashlib.sha256(asset(VIEWER).encode()).hexdigest()[:8]}.js"


def _write_viewer(path: Path) -> None:
    content = asset(VIEWER).encode()
    try:
        current = path.read_bytes() == content
    except OSError:
        current = False
    if not current:
        _write_page(path, content)


def _write_case(path: Path, row: CaseRow, title: str, viewer: str | None) -> None:
    """Write the page of a case unless it is there: they are large, and a batch is often resumed."""
    mark = _mark(row, title, viewer)
    try:
        with path.open("rb") as file:
            current = file.read(len(mark)) == mark
    except OSError:
        current = False
    if not current:
        _write_page(path, mark + case_page(row, title, viewer).encode())


def _mark(row: CaseRow, title: str, viewer: str | None) -> bytes:
    """Return the first line of the page of a case: a comment that changes with all that it is made of."""
    try:
        state = row.pictures and row.pictures.stat()
        pictures = state and (state.st_size, state.st_mtime_ns)
    except OSError:
        pictures = None
    parts = repr((__version__, title, pictures, row, viewer))
    return _DOCTYPE + f"<!-- {hashlib.sha256(parts.encode('utf-8', 'replace')).hexdigest()} -->\n".encode()


def _write_page(path: Path, page: bytes) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_bytes(page)
