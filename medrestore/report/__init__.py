"""What people see of a batch: tables, a page for the cohort, and a page with a viewer for each case."""

from medrestore.report.preview import preview
from medrestore.report.rows import STATUSES, CaseRow
from medrestore.report.write import write

__all__ = ["STATUSES", "CaseRow", "preview", "write"]
