"""Write the pages of the reference that are made from the code: `python docs/make_reference.py`."""

from __future__ import annotations

from pathlib import Path

from medrestore.findings import KINDS

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


PAGES = {"findings.md": findings}
"""What makes each page."""


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
