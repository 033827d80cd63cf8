"""Whoever reads a damaged file reads it, or says what is wrong: soon, in little memory, without its names."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from medrestore.errors import MedrestoreError

resource = pytest.importorskip("resource", reason="needs a system that bounds processes")

PERSON = "ZWORYKIN^VLADIMIR"
"""A name in every text of every header; no message repeats any part of it."""

SECONDS, GROWTH, LONGEST = 10, 1 << 30, 400
"""A file may take so long and so many bytes, and a message so many characters, but for its path."""

INPUTS = int(os.environ.get("FUZZ_INPUTS", "0"))
"""How many damaged files of each format are tried, where another number is asked for: see `make fuzz`."""

T = TypeVar("T")


class Hang(BaseException):
    """A file that takes too long; no `except Exception` stops it."""


def share(whole: int, part: float) -> int:
    """Return how many inputs a test tries that has a part of the whole."""
    return round((INPUTS or whole) * part)


@contextmanager
def bounded() -> Iterator[None]:
    """Let a block have so much time, and hardly more address space than it may take of memory."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    told = Path("/proc/self/statm")  # of Linux
    if told.exists():
        mapped = int(told.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 2 * GROWTH, limits[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def tried(read: Callable[[], T], folder: Path) -> T | str:
    """Return what is read, else the message of the refusal; anything else is raised. Within `bounded`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found: T | str = read()
        except MedrestoreError as error:
            found = str(error)
            check_words(found, folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    for warning in warned:  # they reach the terminal too
        check_words(warning.message, folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown <= GROWTH, f"{grown} bytes more"
    return found


def check_words(words: Any, folder: Path) -> None:
    """Check what is said of a file that lies in a folder."""
    said = str(words).replace(str(folder), "")
    assert len(said) <= LONGEST, f"{len(said)} characters: {said}"
    parts = [PERSON[at : at + 4] for at in range(len(PERSON) - 3)]
    assert not any(part in said.upper() for part in parts), said
