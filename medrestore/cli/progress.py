"""Progress on stderr: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from medrestore.job.progress import Stage

EVERY = 30.0
"""Seconds between lines where stderr is no terminal: a log is read later, and by the line."""


class Meter:
    """Shows progress while its `with` block runs.

    Args:
        title: What is being done.
        quiet: Show nothing.
        console: Where; None for stderr.
    """

    def __init__(self, title: str, *, quiet: bool = False, console: Console | None = None) -> None:
        console = Console(stderr=True, highlight=False) if console is None else console
        self._title = title
        self._shown = not quiet
        self._console = console
        self._line_at = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(title, total=None, text="")

    @property
    def shown(self) -> bool:
        """Whether anything is shown."""
        return self._shown

    def __enter__(self) -> Meter:
        """Start the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away: the next table or message starts on a clean line."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, total: float, text: str) -> None:
        """Show that `done` of `total` is done, with a text beside it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif self._shown and (done >= total or time.monotonic() - self._line_at >= EVERY):
            self.line(f"{100 * done / total:.0f} %, {text}")

    def line(self, text: str) -> None:
        """Print a line that stays, above the bar if there is one."""
        if not self._shown:
            return
        self._line_at = time.monotonic()
        self._console.print(f"{self._title}: {text}", markup=False, soft_wrap=True)


class Pace:
    """Speed since the object was made, and the time that is left at that speed."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def text(self, done: float, total: float, unit: str) -> str:
        """Return, for example, ``2.9 M voxels/s, 0:12 left``."""
        seconds = max(time.monotonic() - self._start, 1e-6)
        left = duration(seconds * (total - done) / done) if done else "?"
        return f"{magnitude(done / seconds)} {unit}/s, {left} left"


def magnitude(number: float) -> str:
    """Return a number with three digits and a suffix: ``2.91 M``."""
    for suffix, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= unit:
            return f"{number / unit:.3g} {suffix}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any: ``0:12``, ``3:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class RestoreMeter(Meter):
    """Shows how far one restoration is; see `medrestore.job.progress.Progress`."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        super().__init__(title, quiet=quiet)
        self._pace = Pace()

    def __enter__(self) -> RestoreMeter:
        """Start the bar."""
        super().__enter__()
        return self

    def stage(self, name: Stage, done: int = 0, total: int = 0) -> None:
        """Show the stage; voxels are counted once some are done."""
        if name == "read":
            self._pace = Pace()
        elif name == "restore":
            self.update(done, total, self._pace.text(done, total, "voxels"))
