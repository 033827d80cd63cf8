"""A process that is given cases, and the cases in it when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medrestore.batch.find.names import without_names
from medrestore.processes import start
from medrestore.provenance import JSON

_LOG_LINES = 40
_LATELY = 4  # recent cases that the last output may be about
_LAST_WORDS = 5.0  # seconds for the last output to arrive; a child process may hold the pipe for longer


@dataclass(eq=False)
class PendingCase:
    """A case that is in a process.

    Attributes:
        job: The case.
        events: Events of the process about the case; None when the process has ended.
        begun: Whether reading it has begun; before, it cannot have done any harm.
        over: Whether there is an answer.
    """

    job: Mapping[str, JSON]
    events: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    begun: bool = False
    over: bool = False

    def put(self, event: dict[str, Any] | None) -> None:
        """Hand on an event about the case."""
        if event is None:
            self.over = True
        else:
            self.begun = self.begun or event.get("stage", "wait") != "wait"
            self.over = event["event"] in {"done", "failed"}
        self.events.put(event)


class Process:
    """A process, and the cases in it.

    Args:
        command: Command that starts the process.
        environment: Environment of the process.

    Attributes:
        ended: Whether the process has ended.
        suspects: Cases that may be at fault: begun, and without an answer.
        expelled: The case that took too long, for which the process was ended.
        stopped: Whether the process was ended on request.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.ended = False
        self.suspects: list[PendingCase] = []
        self.expelled: PendingCase | None = None
        self.stopped = False
        self._inside: list[PendingCase] = []
        self._lately: deque[Mapping[str, JSON]] = deque(maxlen=_LATELY)
        self._lock = threading.Lock()
        self._peak: int | None = None
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._hear, self._note)]
        for reader in self._readers:
            reader.start()

    def enter(self, pending: PendingCase) -> bool:
        """Give the process a case; return False if the process has ended."""
        line = json.dumps(pending.job).encode() + b"\n"
        with self._lock:
            if self.ended:
                return False
            if not self._inside:
                self.log.clear()
            self._inside.append(pending)
            self._lately.append(pending.job)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, as `_hear` will find
            self.process.stdin.write(line)
            self.process.stdin.flush()
        return True

    def leave(self, pending: PendingCase) -> None:
        """Take a case out that has its answer."""
        with self._lock:
            self._inside.remove(pending)

    def shared(self) -> bool:
        """Whether the process has more than one case that is begun."""
        with self._lock:
            return sum(pending.begun and not pending.over for pending in self._inside) > 1

    def last_words(self) -> str:
        """Return the last output of the process, without the names of any case that it had."""
        text = "\n".join(self.log)
        for job in list(self._lately):
            text = without_names(text, job)
        return text

    def reap(self) -> int:
        """Wait for the end of the process; return the most memory that it had, in bytes."""
        for reader in self._readers:
            reader.join(_LAST_WORDS)
        with self._lock:
            if self._peak is None:
                self._peak = self._wait()
            return self._peak

    def _wait(self) -> int:
        try:
            # Not Popen.wait, which throws away the resource usage of the process.
            _, status, usage = os.wait4(self.process.pid, 0)
        except (AttributeError, ChildProcessError):
            self.process.wait()
            return 0
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
                pending = self._whose(event)
            except (ValueError, TypeError, AttributeError):
                self.log.append(line.decode(errors="replace").rstrip())
            else:
                if pending is not None:
                    pending.put(event)
        with self._lock:
            self.ended = True
            left = [pending for pending in self._inside if not pending.over]
            self.suspects = [pending for pending in left if pending.begun]
            for pending in left:
                pending.put(None)

    def _whose(self, event: dict[str, Any]) -> PendingCase | None:
        """Return the case that an event is about: the case that it names, or the only case."""
        with self._lock:
            waiting = [pending for pending in self._inside if not pending.over]
        case = event.get("case")
        return next((pending for pending in waiting if case in {None, pending.job.get("case")}), None)

    def _note(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.decode(errors="replace").rstrip())
