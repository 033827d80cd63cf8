"""A process that is given cases, and who is in it when it ends."""

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
from medrestore.provenance import JSON

_LOG_LINES = 40
_LATELY = 4  # cases that what it said last may be about
_LAST_WORDS = 5.0  # seconds for what it said to arrive; a child of its own may hold the pipe for longer


@dataclass(eq=False)
class PendingCase:
    """A case that is in a process.

    Attributes:
        job: The case.
        events: What the process says of it; None when the process has ended.
        begun: Whether it has been read from; before, it cannot have done any harm.
        over: Whether there is an answer.
    """

    job: Mapping[str, JSON]
    events: queue.Queue[dict[str, Any] | None] = field(default_factory=queue.Queue)
    begun: bool = False
    over: bool = False

    def put(self, event: dict[str, Any] | None) -> None:
        """Hand on what is said of it."""
        if event is None:
            self.over = True
        else:
            self.begun = self.begun or event.get("stage", "wait") != "wait"
            self.over = event["event"] in {"done", "failed"}
        self.events.put(event)


class Process:
    """A process, and who is in it.

    Args:
        command: What starts it.
        environment: Its environment.

    Attributes:
        ended: Whether it has ended.
        suspects: Whose fault that may be: the cases that were begun and had no answer.
        expelled: The case for which it was ended, as it took too long.
        stopped: Whether it was ended on request.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
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

    def enter(self, ticket: PendingCase) -> bool:
        """Give it a case; return False if it is no more."""
        line = json.dumps(ticket.job).encode() + b"\n"
        with self._lock:
            if self.ended:
                return False
            if not self._inside:
                self.log.clear()
            self._inside.append(ticket)
            self._lately.append(ticket.job)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, as `_hear` will find
            self.process.stdin.write(line)
            self.process.stdin.flush()
        return True

    def leave(self, ticket: PendingCase) -> None:
        """Take a case out that has its answer."""
        with self._lock:
            self._inside.remove(ticket)

    def shared(self) -> bool:
        """Whether it has more than one case that is begun."""
        with self._lock:
            return sum(ticket.begun and not ticket.over for ticket in self._inside) > 1

    def last_words(self) -> str:
        """Return what it said last, without the names of any case that it had."""
        text = "\n".join(self.log)
        for job in list(self._lately):
            text = without_names(text, job)
        return text

    def reap(self) -> int:
        """Wait for its end; return the most memory that it had, in bytes."""
        for reader in self._readers:
            reader.join(_LAST_WORDS)
        with self._lock:
            if self._peak is None:
                self._peak = self._wait()
            return self._peak

    def _wait(self) -> int:
        try:
            # Not Popen.wait, which throws away what the process used.
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
                ticket = self._whose(event)
            except (ValueError, TypeError, AttributeError):
                self.log.append(line.decode(errors="replace").rstrip())
            else:
                if ticket is not None:
                    ticket.put(event)
        with self._lock:
            self.ended = True
            left = [ticket for ticket in self._inside if not ticket.over]
            self.suspects = [ticket for ticket in left if ticket.begun]
            for ticket in left:
                ticket.put(None)

    def _whose(self, event: dict[str, Any]) -> PendingCase | None:
        """Return the case that an event is about: the one that it names, or the one that there is."""
        with self._lock:
            waiting = [ticket for ticket in self._inside if not ticket.over]
        case = event.get("case")
        return next((ticket for ticket in waiting if case in {None, ticket.job.get("case")}), None)

    def _note(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.decode(errors="replace").rstrip())
