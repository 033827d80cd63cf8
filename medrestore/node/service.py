"""A node as a whole: listener, worker, spool and ledger."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import threading
from functools import partial
from pathlib import Path
from types import TracebackType

from medrestore.errors import ConfigError, OutputError
from medrestore.node.config import NodeOptions, Routes, load_routes
from medrestore.node.job_store import Ledger, State
from medrestore.node.listener import Listener, client_context
from medrestore.node.spool import Spool
from medrestore.node.transfer import send
from medrestore.node.worker import Worker, start_child

_log = logging.getLogger(__name__)

# Seconds: where there is nothing to do, and where the disk does not take what is done.
_NAP, _PAUSE = 0.5, 10.0


def check_routes(path: Path) -> Routes:
    """Return what a routes file says, once the models, samplers and estimators that it names are found.

    Raises:
        ConfigError: One is not, or the file is no routes file.
    """
    routes = load_routes(path)
    child = start_child()
    stated, _ = child.communicate(json.dumps({"routes": str(path)}))
    reason = json.loads(stated)["reason"] if stated else f"its check ended with {child.returncode}"
    if reason:
        raise ConfigError(f"{path}: {reason}")
    return routes


def claim(spool: Path) -> int:
    """Make a spool the own one until the process ends, or what is returned is closed.

    Raises:
        OutputError: Another node has it, or it cannot be written.
    """
    try:
        spool.mkdir(parents=True, exist_ok=True)
        held = os.open(spool / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{spool}: cannot be the spool ({error.strerror or error})") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise OutputError(f"{spool}: another node works with this spool; give each its own") from error
    return held


def _ledger(path: Path) -> Ledger:
    """Open the ledger of the node, and take up what was under way.

    Raises:
        OutputError: It cannot be read or written.
    """
    try:
        ledger = Ledger(path)
        ledger.recover()
    except sqlite3.Error as error:
        raise OutputError(
            f"{path}: cannot be the ledger ({error}); free room on its disk, or, where the file is damaged, "
            "move it away: the node then knows nothing of what it has done"
        ) from error
    return ledger


def _check_tls(options: NodeOptions, routes: Routes) -> None:
    needing = [name for name, one in routes.destinations.items() if one.tls]
    if needing and options.tls is None:
        raise ConfigError(
            f"destination {', '.join(needing)}: tls = true, and the node has no certificate; expected --tls "
            "CERT KEY CA, as results are not sent unencrypted where TLS is asked for"
        )


class Node:
    """A running node; a context manager.

    Args:
        options: How it listens and waits.
        routes: What it does.

    Raises:
        ConfigError: A destination needs TLS, and the node has none.
        OutputError: The spool or the port cannot be had, or another node has the spool.
    """

    def __init__(self, options: NodeOptions, routes: Routes) -> None:
        _check_tls(options, routes)
        self._claim = claim(options.spool)
        try:
            self._open(options, routes)
        except BaseException:
            os.close(self._claim)
            raise
        self._thread = threading.Thread(target=self._work, name="worker")

    def _open(self, options: NodeOptions, routes: Routes) -> None:
        self.spool = Spool(options.spool, options.quota_bytes)
        self.ledger = _ledger(options.spool / "ledger.sqlite")
        done = [item.uid for item in self.ledger.all() if item.state in (State.SENT, State.IGNORED)]
        self.spool.forget(*done)
        self._listener = Listener(options, routes, self.spool, self.ledger)
        self._stop = threading.Event()
        context, is_stopped = client_context(options), self._stop.is_set
        sender = partial(send, ae_title=options.ae_title, context=context, is_stopped=is_stopped)
        self._worker = Worker(options, routes, self.spool, self.ledger, send=sender)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._listener.port

    @property
    def is_alive(self) -> bool:
        """Whether the worker is; an error that nobody foresaw ends it, and the node with it."""
        return self._thread.is_alive()

    def __enter__(self) -> Node:
        """Listen and work."""
        self._listener.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once; what is under way is taken up at the next start."""
        self._listener.stop()
        self._worker.stop()
        self._stop.set()
        self._thread.join()
        self.ledger.close()
        os.close(self._claim)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                pause = 0.0 if self._worker.step() else _NAP
            except (sqlite3.Error, OSError) as error:  # a full disk, say: there may be room again
                _log.error("%s: the spool or its ledger cannot be used (%s)", self.spool.root, error)
                pause = _PAUSE
            self._stop.wait(pause)
