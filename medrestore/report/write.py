"""Write every file of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medrestore.errors import OutputError
from medrestore.io.atomic import atomic_write
from medrestore.report.case_page import case_page
from medrestore.report.cohort import cohort_page
from medrestore.report.markup import Markup
from medrestore.report.rows import STATUSES, CaseRow
from medrestore.report.tables import write_csv, write_json

PAGES = "cases"
"""The folder of the pages of the cases, in that of the report."""


def write(folder: Path, rows: Sequence[CaseRow], title: str) -> Path:
    """Write ``summary.csv``, ``summary.json``, ``report.html`` and ``cases/ID.html`` of each case.

    Every file appears whole or not at all, and replaces the one that is there; pages of cases that are not
    in `rows` stay as they are. No page asks the network for anything.

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
        _write_page(folder / PAGES / f"{row.case}.html", case_page(row, title))
    _write_page(folder / "report.html", cohort_page(rows, title))
    return folder / "report.html"


def _write_page(path: Path, page: Markup) -> None:
    with atomic_write(path, overwrite=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
