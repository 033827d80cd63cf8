"""Why a case failed, in plain words, and the next attempt."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from medrestore.batch.find.names import without_names
from medrestore.engine.machine.memory import REFUSED
from medrestore.errors import DomainError, MedrestoreError, unforeseen
from medrestore.provenance import JSON

GONE = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EHOSTDOWN})
"""Errors of a mount that is gone."""

UNWRITABLE = GONE | {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
"""Errors that the next case would meet as well: a full disk, a read-only folder."""

LONGEST = 2000
"""Characters of a cause that are kept; a plugin may raise with a whole array in its message."""

TILES = (160, 96, 64)
"""Tiles that are tried, one after another, where memory does not suffice."""


PLAN = "plan"
"""The stage of a case that fails before a worker has it."""


class Kind(StrEnum):
    """What kind of failure it was; `OUTSIDE` is a scan that the model was not made for."""

    REFUSED = "refused"
    OUTSIDE = "outside"
    ERROR = "error"
    MEMORY = "memory"
    CRASH = "crash"
    TIME = "time"
    STOP = "stop"


@dataclass(frozen=True)
class Failure:
    """Why a case failed.

    Attributes:
        kind: Kind of failure; `STOP` ends the batch.
        cause: Cause in plain words, without names.
        stage: Stage in which the case failed.
        log: The last output of the worker.
        peak_bytes: Most memory that the worker had; 0 if it is not known.
    """

    kind: Kind
    cause: str
    stage: str = ""
    log: str = ""
    peak_bytes: int = 0

    def told(self) -> dict[str, Any]:
        """Return what an entry of the ledger says of it, but for the cause."""
        return {"stage": self.stage, "kind": self.kind, "log": self.log}


def ended(status: int, peak_bytes: int, out_of_memory: bool) -> tuple[Kind, str]:
    """Describe the end of a process: status as `subprocess` has it, memory, whether the system ended it."""
    peak = f"; it had {peak_bytes / 1e9:.1f} GB at most" if peak_bytes else ""
    if status >= 0:
        return Kind.CRASH, f"the worker ended by itself with exit code {status}{peak}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if out_of_memory:
        return Kind.MEMORY, f"the system ended the worker for want of memory ({name}){peak}"
    if -status == signal.SIGKILL:
        return Kind.MEMORY, f"the worker was killed ({name}), most likely for want of memory{peak}"
    return Kind.CRASH, f"the worker crashed ({name}){peak}"


def kind_of(error: MedrestoreError) -> Kind:
    """Return what kind of failure an error is that was raised on purpose."""
    return Kind.OUTSIDE if isinstance(error, DomainError) else Kind.REFUSED


def stumbled(error: Exception, job: Mapping[str, JSON], *, read: bool) -> Failure:
    """Describe an error of the process of the batch itself over a case.

    Args:
        error: The error.
        job: The job as a worker would be given it; its names are left out, as they may be those of people.
        read: Whether its files were read.
    """
    if isinstance(error, MedrestoreError):
        return Failure(kind_of(error), without_names(str(error), job), PLAN)
    if isinstance(error, OSError):
        role = "its reference: " if _is_of_reference(error, job) else ""
        return Failure(Kind.ERROR, role + describe_os_error(error), "write" if read else "read")
    trace = "".join(traceback.format_tb(error.__traceback__))
    return Failure(Kind.ERROR, f"an error that nobody foresaw: {unforeseen(error)}", PLAN, trace)


def _is_of_reference(error: OSError, job: Mapping[str, JSON]) -> bool:
    """Whether it is the reference, or a file of it, that cannot be read."""
    path, reference = Path(str(error.filename or "")), job.get("reference")
    return reference is not None and path.is_relative_to(str(reference))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text of at most so many characters: its beginning and its end, where it is longer."""
    if len(text) <= longest:
        return text
    mark = f" [... {len(text) - longest} characters left out ...] "
    tail = (longest - len(mark)) // 4
    return f"{text[: longest - len(mark) - tail]}{mark}{text[-tail:]}"


@dataclass(frozen=True)
class Attempt:
    """How a case is tried.

    Attributes:
        tile: Largest side of a tile; None for the planner's choice.
        alone: Whether no other case is beside it, so that it may have the memory of all.
        number: Number of the attempt, from 1.
    """

    tile: int | None = None
    alone: bool = False
    number: int = 1


def next_attempt(last: Attempt, failure: Failure, *, crowd: int, tries: int) -> tuple[Attempt, str] | None:
    """Return the attempt after a failure, and a description of it; None if no attempt is left.

    Args:
        last: The attempt that failed.
        failure: Why it failed.
        crowd: How many cases may be beside each other.
        tries: How often a case is tried whose worker crashes.
    """
    number = last.number + 1
    unplanned = failure.kind is Kind.REFUSED and REFUSED in failure.cause
    if failure.kind is Kind.MEMORY or unplanned:
        tile = smaller_tile(last.tile)
        # Where the planner chooses the tile, it has tried all tiles before it refuses.
        if tile is not None and not (unplanned and last.tile is None):
            return replace(last, tile=tile, number=number), f"with tiles of {tile} voxels"
        if crowd > 1 and not last.alone:
            return replace(last, alone=True, number=number), "with no other case beside it"
    elif failure.kind is Kind.CRASH and last.number < tries:
        return replace(last, number=number), "as it was"
    return None


def smaller_tile(tile: int | None) -> int | None:
    """Return the next smaller tile to try, or None if there is none."""
    return next((side for side in TILES if tile is None or side < tile), None)


def describe_os_error(error: OSError) -> str:
    """Return the message of the system, without the name of the file."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
