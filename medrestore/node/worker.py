"""Takes series from one state to the next: at rest, restored, sent."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from medrestore.node.config import Destination, NodeOptions, Route, Routes
from medrestore.node.job_store import Ledger, Series, State
from medrestore.node.spool import Spool
from medrestore.processes import end, module_arguments, start, was_asked_to_end

_log = logging.getLogger(__name__)

# A series that took the node down with it so often is not tried again.
_LIVES = 3
# What Python ends with where it is asked to while it starts; what it runs for us answers before it ends so.
_NOT_BEGUN = 1
_HOUR = 3600.0
_MOMENT = 2.0

Sender = Callable[[Destination, list[str]], str]
"""Sends files; returns what went wrong, empty if nothing did."""


def start_child() -> subprocess.Popen[str]:
    """Start the process that does what is written to it, and answers; see `medrestore.node.child`."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return start(
        [sys.executable, *module_arguments("medrestore.node.child")], stderr=subprocess.DEVNULL, **pipes
    )


class Worker:
    """One thing after another; all it knows is in the ledger and the spool.

    Args:
        options: How long to wait, how often to try.
        routes: What to do.
        spool: Where files are.
        ledger: What was done.
        send: How to send.
    """

    def __init__(
        self, options: NodeOptions, routes: Routes, spool: Spool, ledger: Ledger, *, send: Sender
    ) -> None:
        self._options = options
        self._routes = routes
        self._spool = spool
        self._ledger = ledger
        self._send = send
        self._child: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()

    def step(self) -> bool:
        """Do what is due; return whether anything was."""
        busy = False
        for series in self._ledger.rested(self._options.rest, self._options.patience):
            with self._spool.changing:
                if self._ledger.get(series.uid) == series:  # or an image has come since
                    self._assign(series)
            busy = True
        for state, act in ((State.RESTORED, self._deliver), (State.QUEUED, self._restore)):
            for series in self._ledger.due(state)[:1]:
                if not self._stopping.is_set():
                    act(series)
                    busy = True
        return busy

    def stop(self) -> None:
        """End what is under way; it is taken up again at the next start."""
        self._stopping.set()
        if (child := self._child) is not None:
            end(child)

    def _route(self, series: Series) -> Route | None:
        return self._routes.find(series.modality, series.description)

    def _assign(self, series: Series) -> None:
        if series.own:
            self._ignore(series, "a result of medrestore that came back")
        elif self._route(series) is None:
            self._ignore(series, "no route for its modality and description")
        else:
            self._ledger.move(series.uid, State.QUEUED)

    def _ignore(self, series: Series, reason: str) -> None:
        _log.info("%s: ignored, %s", series.uid, reason)
        self._spool.forget(series.uid)
        self._ledger.move(series.uid, State.IGNORED, reason)

    def _restore(self, series: Series) -> None:
        route = self._route(series)
        if route is None:
            self._fail(series, "its route is gone")
            return
        if series.attempts >= _LIVES:
            self._fail(series, f"restoring it ended the node {_LIVES} times, or its own process")
            return
        # Before, and not after: an attempt that takes the node down has to count.
        self._ledger.tried(series.uid)
        error = self._run_child(series, route)
        if error is None:
            # If the whole service was asked, the node is about to be told, and it counts for nothing.
            if self._stopping.wait(_MOMENT):
                self._ledger.move(series.uid, State.QUEUED)
        elif not error:
            _log.info("%s: restored", series.uid)
            self._spool.count_again()
            self._ledger.move(series.uid, State.RESTORED)
        elif self._stopping.is_set():
            self._ledger.move(series.uid, State.QUEUED)  # an orderly stop counts for nothing
        else:
            self._fail(series, error)

    def _run_child(self, series: Series, route: Route) -> str | None:
        """Restore a series in a child.

        Returns:
            What went wrong, empty if nothing did; None if the child did not start or was asked to end, which
            says nothing of the series: it is tried again, unless that has happened too often.
        """
        job = {
            "source": str(self._spool.incoming(series.uid)),
            "target": str(self._spool.result(series.uid)),
            "options": {"model": route.model, **route.options},
            "reading": dict(route.reading),
        }
        try:
            self._child = child = start_child()
        except OSError as error:  # no memory for it, say: nothing that the series could help
            _log.warning("%s: no process to restore it could be started (%s)", series.uid, error)
            return None
        if self._stopping.is_set():
            end(child)
        try:
            stated, _ = child.communicate(json.dumps(job), timeout=self._options.time_limit)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the end of this series alone
            end(child)
            child.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return f"not done within the time limit of {self._options.time_limit:g} s, and ended"
            return f"its process could not be talked to ({type(error).__name__}), and was ended"
        finally:
            self._child = None
        try:
            answer = json.loads(stated)
        except ValueError:
            if was_asked_to_end(child) or child.returncode == _NOT_BEGUN:
                _log.warning("%s: the process that restored it was asked to end", series.uid)
                return None
            return f"the process ended with {child.returncode}"
        _log.debug("%s: %s", series.uid, answer.get("trace", ""))
        return str(answer["reason"])

    def _fail(self, series: Series, reason: str) -> None:
        _log.error("%s: failed, %s", series.uid, reason)
        self._ledger.move(series.uid, State.FAILED, reason)

    def _deliver(self, series: Series) -> None:
        route = self._route(series)
        if route is None:
            self._postpone(series, float("inf"), "its route is gone")
            return
        folders = self._spool.results(series.uid)
        files = [str(path) for folder in folders for path in sorted(folder.glob("*.dcm"))]
        if not files:
            # The ledger says restored, the spool has nothing: do it again rather than send nothing.
            self._ledger.move(series.uid, State.QUEUED)
            return
        try:
            error = self._send(self._routes.destinations[route.destination], files)
        except Exception as fault:  # noqa: BLE001  whatever a destination answers, the node goes on
            _log.debug("%s: sending failed", series.uid, exc_info=True)
            error = f"sending failed ({type(fault).__name__})"
        if error and self._stopping.is_set():
            return  # an orderly stop is no attempt
        if not error:
            _log.info("%s: sent to %s", series.uid, route.destination)
            self._ledger.move(series.uid, State.SENT)
            self._spool.forget(series.uid)
            return
        wait = min(self._options.retry * 2.0**series.attempts, _HOUR)
        if series.attempts + 1 >= self._options.attempts:
            # Not lost: it is tried again when the node is started the next time.
            wait = float("inf")
        self._postpone(series, wait, error)

    def _postpone(self, series: Series, wait: float, reason: str) -> None:
        """Send a result later; after an endless wait at the next start, with other routes perhaps."""
        _log.warning("%s: not sent, %s", series.uid, reason)
        self._ledger.tried(series.uid, wait, reason)
