"""Restores one series in a process of its own: what kills it, kills one series and not the node.

Run as ``python -m medrestore.node.child``, with a job as JSON on standard input.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from medrestore.engine import RestoreOptions, restore
from medrestore.io import check_derivable, read, write_dicom


def main() -> None:
    """Restore what standard input says; an error is a traceback and exit status 1."""
    _die_with(os.getppid())
    job = json.load(sys.stdin)
    volume = read(job["source"])
    check_derivable(volume)
    result = restore(volume, RestoreOptions(**job["options"]))
    write_dicom(result.volume, Path(job["target"]), result.record, overwrite=True)


def _die_with(parent: int) -> None:
    """End when the node is killed: the next one restores the series again, and one of them is enough."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the node is gone")


if __name__ == "__main__":
    main()
