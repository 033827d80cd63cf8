"""Standard output that may be closed or full: what is written on the disk stays a success."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper


def prepare_streams() -> None:
    """Set up the standard streams so that printing does not fail for a missing stream or character."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  for all its life
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that are no UTF-8


@contextmanager
def if_anybody_hears() -> Iterator[None]:
    """Print the output of a block, and go on if it cannot be printed."""
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit):  # rich ends the process where a pipe is broken
        # The last flush of the interpreter would fail again, and make the exit status that of a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
