"""Processes that we start: what asks the group of ours to end does not reach them; we end them ourselves."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any


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
