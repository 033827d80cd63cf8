"""Cases side by side in one process: while one is restored, another is read, or written.

All arithmetic is done on one thread, one case after another, so that it is the same whatever is beside it.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from medrestore.batch.workers.case_json import header_of
from medrestore.engine.cost.budget import RECORD_BYTES
from medrestore.engine.machine.memory import usable_bytes
from medrestore.engine.models.load import LoadedModel
from medrestore.job.forecast import forecast, needs_measuring
from medrestore.options import FileOptions, parse_memory

_TOGETHER = 2
_HELD = 16  # bytes for each voxel of the result of a case that is read or written: four volumes

T = TypeVar("T")


class SerialExecutor:
    """Runs work of other threads, in the order in which it comes, on the thread that serves."""

    def __init__(self) -> None:
        self._brought: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()

    def take(self, work: Callable[[], T]) -> T:
        """Have work done, and wait for it; errors of the work are raised here."""
        done: Future[T] = Future()
        self._brought.put((work, done))
        return done.result()

    def serve(self) -> None:
        """Do work as it comes, for ever."""
        while True:
            self._one(*self._brought.get())  # a call of its own, so that no variable keeps a case alive

    @staticmethod
    def _one(work: Callable[[], T], done: Future[T]) -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  a plugin may raise anything; it concerns one case
            done.set_exception(error)


@dataclass(frozen=True)
class Need:
    """Memory that a case takes, in bytes, and time.

    Attributes:
        held: Memory while the case is read, waits or is written.
        peak: Memory of the process while the case is restored with no other beside it.
        seconds: Predicted time of all volumes; None if the case is too small for a prediction.
    """

    held: int
    peak: int
    seconds: float | None = None


@dataclass(eq=False)
class QueuedCase:
    """A case that waits to be admitted.

    Attributes:
        job: The case, as the batch describes it.
        options: How the case is restored.
        model: Gives the model of the case if it is loaded, so that the need is known without measuring.
        need: Memory that the case takes, once known.
    """

    job: dict[str, Any]
    options: FileOptions
    model: Callable[[], LoadedModel | None]
    need: Need | None = field(default=None, init=False)

    @property
    def alone(self) -> bool:
        """Whether the case wants no other case beside it."""
        return bool(self.job.get("alone"))

    def ask(self) -> Need | None:
        """Return the memory that it takes, or None if that cannot be told without reading or measuring."""
        if self.need is None:
            # Another case may ask, and must not fail for it: whatever it is, this one meets it, and says so.
            with suppress(Exception):
                model = self.model()
                self.need = None if model is None else _need(self.job, self.options, model)
        return self.need


class MemoryGate:
    """Admits one case, or two where the memory suffices for both whichever is restored."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside: list[QueuedCase] = []

    @contextmanager
    def enter(self, queued: QueuedCase, refused: Callable[[], None]) -> Iterator[None]:
        """Be inside while the block runs.

        Args:
            queued: The case to admit. Inside, its root is the current folder.
            refused: Called if the case has to wait.
        """
        with self._change:
            if not self._may(queued):
                refused()
                self._change.wait_for(lambda: self._may(queued))
            if not self._inside:
                # Paths are relative to the root: folders above may be named after a project or a person.
                os.chdir(queued.job["root"])
            self._inside.append(queued)
        try:
            yield
        finally:
            with self._change:
                self._inside.remove(queued)
                self._change.notify_all()

    def changed(self) -> None:
        """Check again whether another case may enter: a model is loaded and measured by now."""
        with self._change:
            self._change.notify_all()

    def _may(self, queued: QueuedCase) -> bool:
        if not self._inside:
            return True
        other = self._inside[0]
        if len(self._inside) == _TOGETHER or queued.alone or other.alone:
            return False
        if queued.job["root"] != other.job["root"]:
            return False
        mine, theirs = queued.ask(), other.ask()
        if mine is None or theirs is None:
            return False
        requested = queued.options.restore.max_memory
        limit = usable_bytes() if requested is None else parse_memory(requested)
        return max(mine.peak + theirs.held, theirs.peak + mine.held) <= limit


def _need(job: dict[str, Any], options: FileOptions, model: LoadedModel) -> Need | None:
    header = header_of(job)
    if needs_measuring(header, options, model):
        return None
    seen = forecast(header, options, model)
    held = (_HELD * math.prod(seen.grid.shape) + RECORD_BYTES) * seen.volumes
    return Need(held, seen.peak_bytes or 0, seen.seconds)  # a scan too small to be measured for fits anywhere
