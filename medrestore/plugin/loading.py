"""Runs what a plugin does at import, for a limited time and with an eye on what it leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TextIO, TypeVar, cast

from medrestore.errors import PluginError
from medrestore.plugin.containment import place
from medrestore.plugin.process_state import process_state_kept

LIMIT_SECONDS = 20.0
"""Time that a plugin may take to be imported and to answer all its hooks."""

_QUOTED = 80
"""Characters that are shown of what is printed."""

_STDOUT = 1
_STDERR = 2

_one_at_a_time = threading.RLock()
"""Standard output is one for the whole process."""

T = TypeVar("T")


@dataclass(frozen=True)
class Loading(Generic[T]):
    """How the loading of a plugin went.

    Attributes:
        value: What came of it; None where it failed.
        error: Why it failed; None where it did not.
        notes: What it did beside.
    """

    value: T | None
    error: BaseException | None
    notes: tuple[str, ...]


class _Loader(threading.Thread):
    """A daemon, as the threads that are started on it, unless they say otherwise: none keeps the process."""

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__(name="medrestore plugin", daemon=True)
        self.action = action
        self.value: Any = None
        self.error: BaseException | None = None
        self.changed: list[str] = []

    def run(self) -> None:
        """Do it; whatever is raised is kept."""
        try:
            with process_state_kept() as self.changed:
                self.value = self.action()
        except BaseException as error:  # noqa: BLE001 - a plugin may fail in any way it likes
            self.error = error


def load_watched(action: Callable[[], T]) -> Loading[T]:
    """Do what runs a plugin's code, on a thread that is given up after `LIMIT_SECONDS`.

    Standard output goes to standard error meanwhile, also that of C code and of child processes, and standard
    input is empty; what is changed of the process is put back, see `process_state_kept`.

    A thread that is given up is asked to end, which it does as soon as it runs Python code. One that waits
    goes on waiting until the process ends: should it wake, it may for a moment write to standard output and
    change what it was kept from changing, and it holds the import locks of the modules that it was loading,
    so that to import these again is to wait too. What keeps the interpreter's lock all the time, as a loop in
    C may, is not ended, and neither is `os._exit`, which ends the process at once. Signal handlers cannot be
    set, as on every thread but the main one.
    """
    loader = _Loader(action)
    before = set(threading.enumerate())
    with process_state_kept(), stdout_on_stderr() as printed, _no_input():
        loader.start()
        loader.join(LIMIT_SECONDS)
        late = _give_up(loader) if loader.is_alive() else None
    left = [thread for thread in threading.enumerate() if thread not in {*before, loader}]
    notes = tuple(_notes(printed.head, left, loader.changed))
    return Loading(None, late, notes) if late is not None else Loading(loader.value, loader.error, notes)


def _give_up(loader: _Loader) -> PluginError:
    """Ask a thread to end, and say where it was."""
    frame = sys._current_frames().get(loader.ident or 0)
    where = place(traceback.extract_stack(frame)) if frame is not None else ""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(loader.ident or 0), ctypes.py_object(SystemExit)
    )
    return PluginError(
        f"loading it took more than {LIMIT_SECONDS:g} s and was given up{f' (at {where})' if where else ''}; "
        "expected an import and hooks that wait for nothing: what takes time belongs into `load`"
    )


def _notes(printed: str, threads: list[threading.Thread], changed: list[str]) -> Iterator[str]:
    if text := " ".join(printed.split()):
        yield f"printed {text[:_QUOTED]!r}{'...' if len(text) > _QUOTED else ''}"
    if threads:
        names = ", ".join(sorted(thread.name for thread in threads))
        yield f"started {len(threads)} thread{'s' * (len(threads) > 1)} ({names})"
        if any(not thread.daemon for thread in threads):
            yield "the process does not end before its threads do"
    if changed:
        yield f"changed {', '.join(changed)}, which was put back"


class _OnStderr:
    """Standard output on its way to standard error, where a log that keeps the stream will write as well.

    Attributes:
        head: The beginning of what was written.
    """

    def __init__(self) -> None:
        self.head = ""

    def write(self, text: str) -> int:
        """Pass the text on."""
        self.head += text[: 2 * _QUOTED - len(self.head)] if len(self.head) < 2 * _QUOTED else ""
        return sys.stderr.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def stdout_on_stderr() -> Iterator[_OnStderr]:
    """Send standard output to standard error while the block runs: nothing must come between JSON.

    Both Python's and the process's are sent there, for all threads; one block runs at a time.
    """
    stream = _OnStderr()
    with _one_at_a_time, _descriptor_on_stderr(), contextlib.redirect_stdout(cast(TextIO, stream)):
        yield stream


@contextmanager
def _descriptor_on_stderr() -> Iterator[None]:
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # closed: nobody reads it
        yield
        return
    _flush()
    with contextlib.suppress(OSError):
        os.dup2(_STDERR, _STDOUT)
    try:
        yield
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _flush() -> None:
    """Write what waits in Python's own stream to where it belongs."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
        sys.__stdout__.flush()  # type: ignore[union-attr]


@contextmanager
def _no_input() -> Iterator[None]:
    """Let a question to the user end in an error: the answer would be taken from what the host reads."""
    kept, sys.stdin = sys.stdin, io.StringIO()
    try:
        yield
    finally:
        sys.stdin = kept
