"""One run at a time on a folder of results; a second run is told who holds the folder."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medrestore.batch.ledger import FOLDER
from medrestore.errors import OutputError

BEAT, STALE = 30.0, 600.0  # seconds
_GLANCE = 0.2  # seconds between looks at a lock that is waited for


@contextlib.contextmanager
def hold(out: Path, shard: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a shard while the block runs; wait for it for so many seconds.

    The lock is a file that exists, which works on every file system. The lock of a process of this machine
    that is gone is taken over; so is the lock of another machine if its holder has not touched it for a
    while, by the clock of the file system, which both share.

    Raises:
        OutputError: Another run holds the lock; the message says which.
    """
    path, ours, done = out / FOLDER / f"lock-{shard}.json", _text(), threading.Event()
    beat = threading.Thread(target=_touch, args=(path, ours, done), daemon=True)
    try:  # an interrupt may come as soon as the file is there
        _wait_for(path, ours, time.monotonic() + wait)
        beat.start()
        yield
    finally:
        done.set()
        if beat.is_alive():
            beat.join()
        if _says(path, ours):
            path.unlink(missing_ok=True)


def refuse_if_held(out: Path, named: Callable[[str], bool]) -> None:
    """Refuse a folder of results in which other runs hold shards.

    Args:
        out: The folder.
        named: Tells by the name of a shard whether it counts.

    Raises:
        OutputError: Another run holds such a shard; the message says which.
    """
    for path in sorted((out / FOLDER).glob("lock-*.json")):
        if named(path.stem.removeprefix("lock-")):
            _refuse_or_clear(path)


def _text() -> str:
    """Return the text of a lock of this process, which no other lock has."""
    me = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "since": time.time()}
    return json.dumps({**me, "token": secrets.token_hex(8)})


def _wait_for(path: Path, ours: str, until: float) -> None:
    while True:
        try:
            path.parent.mkdir(exist_ok=True)
            return _take(path, ours)
        except OSError as error:
            raise OutputError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
        except OutputError:
            if time.monotonic() >= until:
                raise
            time.sleep(_GLANCE)


def _touch(path: Path, ours: str, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with contextlib.suppress(OSError):
            if _says(path, ours):
                os.utime(path)


def _says(path: Path, ours: str) -> bool:
    """Whether a lock says `ours`: another run takes over the lock of a holder that slept too long."""
    try:
        return path.read_text(encoding="utf-8") == ours
    except OSError:  # it is not there, or nobody can tell
        return False


def _beside(path: Path) -> Path:
    """Return a name that no other process has: processes of two containers may have the same number."""
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}")


def _take(path: Path, text: str) -> None:
    """Take the lock."""
    for _ in range(3):
        # Written in full under another name first: an existing lock is never half written.
        mine = _beside(path)
        mine.write_text(text, encoding="utf-8")
        try:
            return _claim(mine, path)
        except FileExistsError:
            _refuse_or_clear(path)
        finally:
            mine.unlink()
    raise OutputError(f"{path}: taken by another run again and again; try later")


def _claim(mine: Path, path: Path) -> None:
    """Give a file a second name, which must be free; copy the file where there are no hard links."""
    try:
        os.link(mine, path)
    except FileExistsError:
        raise
    except OSError:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(mine.read_text(encoding="utf-8"))


def _refuse_or_clear(path: Path) -> None:
    """Raise if the holder may be alive, else remove its lock."""
    try:
        text = path.read_text(encoding="utf-8")
        holder = json.loads(text)
        host, pid, born = holder["host"], int(holder["pid"]), holder["born"]
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{path}: is no lock of medrestore; look at it, and remove it") from None
    if born != _born(pid) if host == socket.gethostname() else _age(path) > STALE:
        _clear(path, text)
        return
    raise OutputError(
        f"{path.parent.parent}: process {pid} on {host} works on it since {since}; wait for it, or for "
        f"{STALE / 60:.0f} minutes if that machine went down"
    )


def _clear(path: Path, text: str) -> None:
    """Remove a lock that says `text`; a lock that another run took meanwhile stays."""
    aside = _beside(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if aside.read_text(encoding="utf-8") != text:
            with contextlib.suppress(FileExistsError):
                _claim(aside, path)
        aside.unlink()


def _age(path: Path) -> float:
    """Seconds since the lock was touched, by the clock of its file system."""
    probe = _beside(path)
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _born(pid: int) -> str:
    """When a process started, in whatever unit the system has; empty if no process has that number."""
    try:
        # Fields after the name in parentheses, which may hold anything; start time is field 22 of proc(5).
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
