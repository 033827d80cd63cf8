"""`medrestore node` in a process of its own, for tests of what becomes of it when it is asked to end."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from preloaded import Cold

from medrestore.node import State


def free_ports(count: int) -> list[int]:
    """Ports that differ: all are held before any is given back."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Program:
    """`medrestore node` in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.spool = folder / "spool"
        self._command = [sys.executable, "-c", "from medrestore.cli import main; main()", "node"]
        self._command += ["--route", folder / "routes.toml", "--port", port, "--spool", self.spool]
        self._command += ["--host", "127.0.0.1", "--rest", 1, "--patience", 600]
        self._log = (folder / "node.log").open("w")
        self.port = port

    def start(self, *, cold: bool = False) -> None:
        """Start it; cold where its children will be looked at."""
        self.process = (Cold if cold else subprocess.Popen)(
            list(map(str, self._command)), stdout=self._log, stderr=self._log, start_new_session=True
        )
        for _ in range(240):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, Path(self._log.name).read_text()
            time.sleep(0.25)
        raise AssertionError("the node does not listen")

    def ask_group(self, number: int) -> int:
        """Ask every process of the group to end, as a terminal does; return the exit status of the node."""
        os.killpg(self.process.pid, number)
        return self.process.wait(60)

    def ask_all(self, number: int) -> int:
        """Ask every process of the service to end, as systemd does; return the exit status of the node."""
        for pid in [*self.children(), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill the node alone: what restores for it has to notice."""
        self.process.kill()
        self.process.wait()

    def restoring(self) -> bool:
        """Whether a process that restores is under way."""
        commands = [Path(f"/proc/{pid}/cmdline") for pid in self.children()]
        return any(b"medrestore" in path.read_bytes() for path in commands if path.exists())

    def children(self) -> list[int]:
        """Processes that the node has started."""
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in lists for pid in path.read_text().split()]

    def log(self) -> str:
        """What the node has said."""
        return Path(self._log.name).read_text()

    def states(self) -> list[State]:
        base = sqlite3.connect(f"file:{self.spool}/ledger.sqlite?mode=ro", uri=True, timeout=60)
        try:
            return [State(state) for (state,) in base.execute("select state from series")]
        finally:
            base.close()


def until(what, seconds: float = 180, every: float = 0.3) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(every)
