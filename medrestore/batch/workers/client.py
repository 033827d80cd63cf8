"""The process that restores: started, given cases, watched, and replaced when it ends.

Even a single worker is a process of its own: a crash (of a codec, a plugin, for want of memory) costs one
case, and a process that hangs can be ended. It loads a model once and keeps it.

Through two slots it is given two cases at once, so that one is read or written while the other is restored.
If the process dies then, nobody can tell which case was at fault. Each of the two is done again with no case
beside it, and the failed run does not count as an attempt.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrestore.batch.find.names import remove, temporary_files
from medrestore.batch.workers.failures import Failure, Kind, ended
from medrestore.batch.workers.process import PendingCase, Process
from medrestore.engine.machine.memory import out_of_memory_kills
from medrestore.processes import end
from medrestore.provenance import JSON

_START_LIMIT = 300.0  # seconds for imports, on the slowest of network file systems
LEAST_LIMIT, TIMES_PREDICTED = 3600.0, 20.0
"""The default time limit of a case, in seconds: so many times the prediction, and at least so long."""

Watch = Callable[[str, float], None]
"""Called with the stage and the share of the stage that is done, 0 to 1."""


@dataclass(frozen=True)
class Success:
    """The answer of a worker to a case that is done.

    Attributes:
        facts: Seconds, memory, noise, metrics and more of the record.
        endings: Endings after the name of the result in the names of the files written.
        waited: Seconds during which another case had its turn.
    """

    facts: dict[str, JSON]
    endings: tuple[str, ...]
    waited: float = 0.0


def default_limit(predicted: float | None) -> float:
    """Return the seconds that a case may take where no limit is asked for, from the prediction in seconds."""
    return max(LEAST_LIMIT, TIMES_PREDICTED * (predicted or 0.0))


def _answer(event: dict[str, Any], stage: str, waited: float) -> Success | Failure:
    if event["event"] == "done":
        return Success(event["facts"], tuple(event["endings"]), waited)
    return Failure(Kind(event["kind"]), event["cause"], stage, event["log"], event.get("peak_bytes", 0))


class Worker:
    """One worker; used from one thread only, or from as many threads as it has slots.

    Args:
        command: Starts the process, which takes cases as lines of JSON and answers with lines of JSON.
        environment: Variables set for the process, such as the number of threads.
        time_limit: Seconds that a case may take, start of the process not counted; None for the limit that
            `default_limit` gives, infinity for none.
        changes: Options of restoration of this worker, such as its device.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        time_limit: float | None = None,
        changes: Mapping[str, JSON] | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._limit = time_limit
        self._changes = dict(changes or {})
        self._running: Process | None = None
        self._lock = threading.Lock()
        self._suspects: set[str] = set()

    def slots(self) -> list[WorkerSlot]:
        """Return two ways into the process, each for a thread of its own; the last to close closes it."""
        open_slots = {0, 1}
        return [WorkerSlot(self, number, open_slots) for number in sorted(open_slots)]

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case; whatever happens to the process, there is an answer, which names no person."""
        restore, case = job.get("restore"), str(job.get("case"))
        job = {**job, "restore": {**(restore if isinstance(restore, dict) else {}), **self._changes}}
        while True:
            pending = PendingCase({**job, "alone": True} if case in self._suspects else job)
            answer = self._ask(pending, watch)
            if answer is not None:
                return answer
            for left in temporary_files(Path(str(job["out"]))):
                remove(left)

    def _ask(self, pending: PendingCase, watch: Watch | None) -> Success | Failure | None:
        """Have one case done; None if the process ended and another case may be at fault."""
        kills = out_of_memory_kills()
        running = self._enter(pending)
        limit = default_limit(None) if self._limit is None else self._limit
        stage, waited, since, left = "start", 0.0, time.monotonic(), _START_LIMIT
        while True:
            until = math.inf if stage == "wait" else since + left - time.monotonic()
            try:
                event = pending.events.get(timeout=None if math.isinf(until) else max(until, 0))
            except queue.Empty:
                return self._expel(running, pending, stage, limit)
            if event is None:
                return self._over(running, pending, stage, kills)
            now = time.monotonic()
            if event["event"] == "predicted":
                if self._limit is None:
                    limit, before = default_limit(event["seconds"]), limit
                    left += limit - before
            elif event["event"] == "stage":
                if stage == "start":
                    left = limit
                elif stage == "wait":
                    waited += now - since
                else:
                    left -= now - since
                stage, since = event["stage"], now
                # Of two cases, progress is shown of the case that is restored.
                if watch is not None and stage != "wait" and (stage == "restore" or not running.shared()):
                    watch(stage, event["share"])
            else:
                running.leave(pending)
                return _answer(event, stage, waited)

    def _enter(self, pending: PendingCase) -> Process:
        with self._lock:
            running = self._running
            if running is None or not running.enter(pending):
                running = self._running = Process(self._command, self._environment)
                if not running.enter(pending):  # it has ended already, and will tell nobody
                    pending.put(None)
            return running

    def stop(self) -> None:
        """End the process; cases that are under way are lost. May be called from another thread."""
        with self._lock:
            if self._running is not None:
                self._running.stopped = True
                end(self._running.process)

    def close(self) -> None:
        """Let the process end when it has no case."""
        if (running := self._running) is None:
            return
        self._running = None
        assert running.process.stdin is not None
        with contextlib.suppress(OSError):
            running.process.stdin.close()
        try:
            running.process.wait(10)
        except subprocess.TimeoutExpired:
            end(running.process)
            running.process.wait()

    def _expel(self, running: Process, pending: PendingCase, stage: str, limit: float) -> Failure:
        """End a worker in which a case takes too long."""
        running.expelled = pending
        end(running.process)
        running.reap()
        limit = limit if stage != "start" else _START_LIMIT
        cause = f"not done within the time limit of {limit:g} s, and ended"
        return Failure(Kind.TIME, cause, stage, running.last_words())

    def _over(self, running: Process, pending: PendingCase, stage: str, kills: int) -> Failure | None:
        """Describe how a worker ended, unless another case may be at fault."""
        peak = running.reap()
        if not running.stopped:
            if running.expelled is not None:
                return None
            if running.suspects not in ([], [pending]):
                if pending in running.suspects:
                    self._suspects.add(str(pending.job.get("case")))
                return None
        kind, cause = ended(running.process.returncode, peak, out_of_memory_kills() > kills)
        return Failure(kind, cause, stage, running.last_words(), peak)


class WorkerSlot:
    """One of several ways into a worker."""

    def __init__(self, worker: Worker, number: int, open_slots: set[int]) -> None:
        self._worker, self._number, self._open = worker, number, open_slots

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case."""
        return self._worker.run(job, watch)

    def stop(self) -> None:
        """End the process."""
        self._worker.stop()

    def close(self) -> None:
        """Let the process end with the last slot."""
        self._open.discard(self._number)
        if not self._open:
            self._worker.close()
