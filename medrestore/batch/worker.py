"""The process that restores: started, given cases, watched, and replaced when it ends.

It is a process of its own even where there is one: what crashes it (a codec, a plugin, memory that runs out)
costs one case, and what hangs it can be ended. It loads a model once and keeps it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medrestore.batch.failures import Failure, Kind, ended
from medrestore.batch.names import without_names
from medrestore.engine.memory import out_of_memory_kills
from medrestore.provenance import JSON

_START_LIMIT = 300.0  # seconds for imports, on the slowest of network file systems
_LOG_LINES = 40
_LAST_WORDS = 5.0  # seconds for what it said to arrive; a child of its own may hold the pipe for longer
Watch = Callable[[str, float], None]
"""Called with the stage and how much of it is done, 0 to 1."""


@dataclass(frozen=True)
class Success:
    """What a worker says of a case that is done.

    Attributes:
        facts: Seconds, memory, noise, metrics and more of the record.
        endings: What follows the name of the result in the names of what was written.
    """

    facts: dict[str, JSON]
    endings: tuple[str, ...]


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    events: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    readers: list[threading.Thread] = field(default_factory=list)


class Worker:
    """One worker; from one thread only.

    Args:
        command: What starts it; it takes cases as lines of JSON and answers with lines of JSON.
        environment: Variables set for it, such as the number of threads.
        time_limit: Seconds that a case may take, its start not counted; None for no limit.
        changes: Options of restoration that are its own, such as its device.
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
        self._running: _Process | None = None

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case; whatever happens to the process, there is an answer, and it names nobody."""
        answer = self._ask(job, watch)
        if isinstance(answer, Failure):
            return replace(answer, log=without_names(answer.log, job))
        return answer

    def _ask(self, job: Mapping[str, JSON], watch: Watch | None) -> Success | Failure:
        restore = job.get("restore")
        job = {**job, "restore": {**(restore if isinstance(restore, dict) else {}), **self._changes}}
        kills = out_of_memory_kills()
        running = self._running or self._start()
        stage = "start"
        deadline: float | None = time.monotonic() + _START_LIMIT
        try:
            assert running.process.stdin is not None
            running.process.stdin.write(json.dumps(job).encode() + b"\n")
            running.process.stdin.flush()
        except OSError:
            return self._over(running, stage, kills)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                event = running.events.get(timeout=None if left is None else max(left, 0))
            except queue.Empty:
                return self._end(running, stage)
            if event is None:
                return self._over(running, stage, kills)
            if event["event"] == "stage":
                if stage == "start":
                    deadline = None if self._limit is None else time.monotonic() + self._limit
                stage = event["stage"]
                if watch is not None:
                    watch(stage, event["share"])
            elif event["event"] == "done":
                return Success(event["facts"], tuple(event["endings"]))
            elif event["event"] == "failed":
                return Failure(
                    Kind(event["kind"]), event["cause"], stage, event["log"], event.get("peak_bytes", 0)
                )

    def stop(self) -> None:
        """End the process; a case that is under way is lost. May be called from another thread."""
        if (running := self._running) is not None:
            running.process.kill()

    def close(self) -> None:
        """Let the process go when it has nothing to do."""
        if (running := self._running) is None:
            return
        self._running = None
        assert running.process.stdin is not None
        running.process.stdin.close()
        try:
            running.process.wait(10)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()

    def _start(self) -> _Process:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
        )
        running = _Process(process)
        for read in (_read_events, _read_log):
            running.readers.append(threading.Thread(target=read, args=(running,), daemon=True))
            running.readers[-1].start()
        self._running = running
        return running

    def _end(self, running: _Process, stage: str) -> Failure:
        """End a worker that takes too long."""
        running.process.kill()
        self._reap(running)
        limit = self._limit if stage != "start" else _START_LIMIT
        cause = f"not done within the time limit of {limit:g} s, and ended"
        return Failure(Kind.TIME, cause, stage, "\n".join(running.log))

    def _over(self, running: _Process, stage: str, kills: int) -> Failure:
        """Describe how a worker ended."""
        peak = self._reap(running)
        kind, cause = ended(running.process.returncode, peak, out_of_memory_kills() > kills)
        return Failure(kind, cause, stage, "\n".join(running.log), peak)

    def _reap(self, running: _Process) -> int:
        """Wait for a process that ended; return the most memory that it had, in bytes."""
        self._running = None
        process = running.process
        for reader in running.readers:
            reader.join(_LAST_WORDS)
        try:
            # Not Popen.wait, which throws away what the process used.
            _, status, usage = os.wait4(process.pid, 0)
        except (AttributeError, ChildProcessError):
            process.wait()
            return 0
        process.returncode = os.waitstatus_to_exitcode(status)
        return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _read_events(running: _Process) -> None:
    assert running.process.stdout is not None
    for line in running.process.stdout:
        try:
            running.events.put(json.loads(line))
        except ValueError:
            running.log.append(line.decode(errors="replace").rstrip())
    running.events.put(None)


def _read_log(running: _Process) -> None:
    assert running.process.stderr is not None
    for line in running.process.stderr:
        running.log.append(line.decode(errors="replace").rstrip())
