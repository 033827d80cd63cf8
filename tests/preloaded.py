"""Programs of ours that tests start, forked from a process that has loaded what they import.

Most of what such a program takes in a test is to load torch and the other libraries. Forked, it is a
process of its own all the same: a child of the process that starts it, with its own number, streams,
environment, folder and exit status; and so are the programs of ours that it starts. But it is ready at once,
and `/proc` shows the command and the environment that the first process had, and a child that it did not ask
for: tests that look at any of these start it with `Cold`, or in an environment with a variable of their own.
Limits of the system (`resource`) are those of the first process, too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ctypes import CDLL
from inspect import signature
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

PROGRAMS = {
    ("-m", "medrestore.processes"): "medrestore.processes",
    ("-c", "from medrestore.cli import main; main()"): "medrestore.cli",
}
"""How a program of ours is asked for, and the module whose `main` it is."""

LOADED = (
    "medrestore.batch.workers.main",
    "medrestore.cli",
    "medrestore.cli.batching",
    "medrestore.node.child",
    "medrestore.job.run",
)
"""What these programs import."""

READ_LATE = ("MEDRESTORE_", "PYTEST_", "PYTHONPATH", "XDG_CACHE_HOME")
"""Beginnings of the names of variables that no library reads while it is loaded."""

PLAIN = {
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""What else a process may be asked to be, and the values that ask for nothing."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
Cold = subprocess.Popen
"""Starts every program with Python, as a user does."""

_CHILD = signature(Cold._execute_child)


class Source:
    """A process that programs are forked from.

    Args:
        channel: The way to it; None to start it when the first program is asked for.
    """

    def __init__(self, channel: socket.socket | None = None) -> None:
        self._channel, self._lock = channel, Lock()
        self._environment = dict(os.environ)

    def fork(self, asked: Mapping[str, Any]) -> int:
        """Start what `subprocess.Popen` was asked for; return its number, 0 if it is not to be had here."""
        command = asked["args"] if isinstance(asked["args"], list) else []
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if (
            sys.platform != "linux"
            or command[:1] != [sys.executable]
            or tuple(command[1:3]) not in PROGRAMS
            or early(environment) != early(self._environment)
            or any(asked.get(name, value) != value for name, value in PLAIN.items())
        ):
            return 0
        streams = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        with self._lock, heir():
            return self._ask(
                [own if stream == -1 else stream for own, stream in enumerate(streams)],
                command=[os.fspath(word) for word in command[1:]],
                environment=environment,
                folder=os.fspath(asked["cwd"] or Path.cwd()),
                session=asked["start_new_session"],
            )

    def _ask(self, streams: Sequence[int], **request: Any) -> int:
        if self._channel is None:
            self._channel = start(self._environment)
        text = json.dumps(request).encode()
        with suppress(OSError):  # the source has gone, or a stream is closed
            socket.send_fds(self._channel, [len(text).to_bytes(8, "big")], streams)
            self._channel.sendall(text)
            return int.from_bytes(receive(self._channel, 8), "big")
        return 0


class Popen(Cold):
    """`subprocess.Popen`, whose programs of ours are forked where that makes no difference to them."""

    source: Source

    def _execute_child(self, *arguments: Any) -> None:
        asked = _CHILD.bind(self, *arguments).arguments
        number = self.source.fork(asked)
        if not number:
            super()._execute_child(*arguments)
            return
        self.pid, self._child_created = number, True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in pipes))


def early(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a library may read while it is loaded."""
    return {name: value for name, value in environment.items() if not name.startswith(READ_LATE)}


@contextmanager
def heir() -> Iterator[None]:
    """Become the parent of what a process that ends leaves below this one."""
    libc = CDLL(None)
    assert libc.prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)


def start(environment: Mapping[str, str]) -> socket.socket:
    """Start the process that programs are forked from; return the way to it."""
    here, there = socket.socketpair()
    command = [sys.executable, __file__, str(there.fileno())]
    with there:
        Cold(command, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()], env=environment)
    return here


def receive(channel: socket.socket, length: int) -> bytes:
    """Return so many bytes; fewer where the other side has gone."""
    found = b""
    while len(found) < length and (part := channel.recv(length - len(found))):
        found += part
    return found


# --- the process that is forked ---------------------------------------------------------------------------


def main() -> None:
    """Load what programs import; then be a program of each kind that is asked for."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    for name in LOADED:
        importlib.import_module(name)
    # Of programs, other folders come first than this file's and those of PYTHONPATH.
    del sys.path[: 1 + len(folders())]
    gc.freeze()
    while True:
        request = serve(channel)
        here, there = socket.socketpair()
        if os.fork():
            break
        channel = there  # a source of what the program starts
        take(3 * [os.open(os.devnull, os.O_RDWR)])
        keep(channel)
    become(request, here)
    importlib.import_module(PROGRAMS[tuple(request["command"][:2])]).main()


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork a program for each request, with the streams that come with it; return the request in each."""
    while True:
        head, streams, _, _ = socket.recv_fds(channel, 8, 3)
        if not head:
            os._exit(0)
        request: dict[str, Any] = json.loads(receive(channel, int.from_bytes(head, "big")))
        reading, writing = os.pipe()
        # Twice, as who asks is the heir of what the first leaves, and so the parent of the second.
        if first := os.fork():
            os.close(writing)
            os.waitpid(first, 0)
            channel.sendall(os.read(reading, 8))
            for number in (reading, *streams):
                os.close(number)
            continue
        first = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == first:
            time.sleep(0.001)
        if request["session"]:
            os.setsid()
        take(streams)
        os.write(writing, os.getpid().to_bytes(8, "big"))
        return request


def take(streams: Sequence[int]) -> None:
    """Have these as standard input, output and error."""
    for own, stream in enumerate(streams):
        os.dup2(stream, own)


def keep(channel: socket.socket) -> None:
    """Close all but the streams and a channel."""
    os.closerange(3, channel.fileno())
    os.closerange(channel.fileno() + 1, os.sysconf("SC_OPEN_MAX"))


def become(request: Mapping[str, Any], source: socket.socket) -> None:
    """Be what a request says, as if this process had been started so."""
    keep(source)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for own, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        old = getattr(sys, name)
        new = open(own, mode, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    sys.stderr.reconfigure(line_buffering=True)
    sys.argv = [request["command"][0], *request["command"][2:]]
    sys.path[:0] = ["", *folders()]
    sys.modules["__main__"] = ModuleType("__main__")
    Popen.source = Source(source)
    subprocess.Popen = Popen


def folders() -> list[str]:
    """Return the folders of PYTHONPATH."""
    return [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


if __name__ == "__main__":
    main()
