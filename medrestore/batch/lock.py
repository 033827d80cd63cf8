"""One run at a time on a folder of results; a second one is told who holds it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from medrestore.batch.ledger import FOLDER
from medrestore.errors import OutputError


@contextlib.contextmanager
def hold(out: Path, shard: str) -> Iterator[None]:
    """Hold the lock of a shard while the block runs.

    The lock is a file that exists, which works on every file system. That of a process that is gone, on this
    machine, is taken over; whether a process of another machine is gone cannot be known from here.

    Raises:
        OutputError: Another run holds it; the message says which.
    """
    path = out / FOLDER / f"lock-{shard}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        _take(path)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take(path: Path) -> None:
    me = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "since": time.time()}
    for _ in range(3):
        # Written in full under another name first: a lock that is there is never half a lock.
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        mine.write_text(json.dumps(me), encoding="utf-8")
        try:
            os.link(mine, path)
            return
        except FileExistsError:
            _refuse_or_clear(path)
        finally:
            mine.unlink()
    raise OutputError(f"{path}: taken by another run again and again; try later")


def _refuse_or_clear(path: Path) -> None:
    """Raise if the holder may be alive, else remove its lock."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        host, pid, born = holder["host"], int(holder["pid"]), holder["born"]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{path}: is no lock of medrestore; look at it, and remove it") from None
    if host == socket.gethostname() and born != _born(pid):
        path.unlink(missing_ok=True)
        return
    elsewhere = "" if host == socket.gethostname() else f"; if that run is gone for certain, remove {path}"
    raise OutputError(
        f"{path.parent.parent}: process {pid} on {host} works on it since {since}; wait for it{elsewhere}"
    )


def _born(pid: int) -> str:
    """When a process started, in whatever unit the system has; empty if there is none of that number."""
    try:
        # After the name in parentheses, which may hold anything; start time is field 22 of proc(5).
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "alive"
    return "alive"
