"""Restores one series in a process of its own: what kills it, kills one series and not the node.

Run as ``python -m medrestore.node.child``, with a job as JSON on standard input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medrestore.engine import RestoreOptions, restore
from medrestore.io import check_derivable, read, write_dicom


def main() -> None:
    """Restore what standard input says; an error is a traceback and exit status 1."""
    job = json.load(sys.stdin)
    volume = read(job["source"])
    check_derivable(volume)
    result = restore(volume, RestoreOptions(**job["options"]))
    write_dicom(result.volume, Path(job["target"]), result.record, overwrite=True)


if __name__ == "__main__":
    main()
