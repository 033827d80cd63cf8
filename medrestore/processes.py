"""Processes that we start: what asks the group of ours to end does not reach them; we end them ourselves.

``python -m medrestore.processes MODULE`` runs `main` of a module, as `module_arguments` has it.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any


def module_arguments(module: str) -> tuple[str, ...]:
    """Return the arguments of Python that run `main` of a module of ours in a process of its own."""
    return ("-m", "medrestore.processes", module)


@contextmanager
def loading() -> Iterator[None]:
    """Load modules at the start of a process of ours: they stay to its end, and are not searched for cycles.

    Python would go through all of the libraries several times while they are loaded, and again later.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process in a session of its own.

    Args:
        command: The command.
        options: See `subprocess.Popen`.
    """
    return subprocess.Popen(command, start_new_session=True, **options)


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process made by `start`, with all that it has started, which would keep its pipes open."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def ignore_requests() -> None:
    """Be deaf to what a job's or a service's processes are asked to end with: the parent decides.

    Whoever ends a service (systemd, SLURM) asks each of its processes, whatever session it is in.
    """
    for request in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(request, signal.SIG_IGN)


def was_asked_to_end(process: subprocess.Popen[Any]) -> bool:
    """Whether a process ended because it was asked to, before it was deaf to it."""
    return process.returncode in {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def main() -> None:
    """Run `main` of the module that the first argument names."""
    with loading():
        module = import_module(sys.argv[1])
    module.main()


if __name__ == "__main__":
    main()
