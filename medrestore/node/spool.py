"""The folder in which a node keeps what came in and what goes out."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path

from medrestore.errors import OutputError
from medrestore.io.atomic import TEMPORARY, atomic_write
from medrestore.node.instance import checked_uid
from medrestore.options import MAPS

# Of the quota an image takes twice its size: the result, which is about as large, must find room as well.
_ROOM = 2


class Spool:
    """Files by series: ``incoming/SERIES/SOP.dcm``, and results in ``results/SERIES/``.

    Args:
        root: The folder; made if it is not there.
        quota: Largest size in bytes.
    """

    def __init__(self, root: Path, quota: int) -> None:
        self.root = root
        self.quota = quota
        # Held while an image is kept and noted, and while a series is closed: neither sees half of the other.
        self.changing = threading.Lock()
        self._lock = threading.Lock()
        try:
            for folder in (self.root, self.root / "incoming", self.root / "results"):
                folder.mkdir(parents=folder == self.root, exist_ok=True)
            for leftover in self._leftovers():
                _remove(leftover)
            self._used = self._count()
        except OSError as error:
            raise OutputError(f"{root}: cannot be the spool ({error.strerror or error})") from error

    def incoming(self, series: str) -> Path:
        """Return the folder of a series that came in."""
        return self.root / "incoming" / checked_uid(series)

    def result(self, series: str) -> Path:
        """Return the folder of its result."""
        return self.root / "results" / checked_uid(series)

    def results(self, series: str) -> list[Path]:
        """Return the folders of its result and of the maps that may go with it."""
        result = self.result(series)
        return [result, *(result.with_name(f"{result.name}_{name}") for name in MAPS)]

    def record(self, series: str) -> Path:
        """Return the record of how its result was made."""
        return self.root / "results" / f"{checked_uid(series)}.json"

    def has(self, series: str, sop: str) -> bool:
        """Whether an image that came in is there."""
        return self._image(series, sop).is_file()

    def store(self, series: str, sop: str, content: bytes) -> bool:
        """Keep an image, flushed to disk; False if it would go beyond the quota."""
        room = _ROOM * len(content)
        with self._lock:
            if self._used + room > self.quota:
                return False
            self._used += room
        try:
            self.incoming(series).mkdir(exist_ok=True)
            with atomic_write(self._image(series, sop), overwrite=True) as temporary:
                temporary.write_bytes(content)
        except BaseException:
            with self._lock:
                self._used -= room
            raise
        return True

    def forget(self, *series: str) -> None:
        """Remove the files of series and of their results, and count again."""
        for uid in series:
            _remove(self.incoming(uid))
            for folder in self.results(uid):
                _remove(folder)
            _remove(self.record(uid))
        self.count_again()

    def count_again(self) -> None:
        """Count what is used, results too: with their maps they may take more than was set aside."""
        with self._lock:
            self._used = self._count()

    def drop(self, series: str, sop: str) -> None:
        """Remove one image that came in."""
        with self._lock:
            self._image(series, sop).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of the series are there
                self.incoming(series).rmdir()
            self._used = self._count()

    def _image(self, series: str, sop: str) -> Path:
        return self.incoming(series) / f"{checked_uid(sop)}.dcm"

    def _leftovers(self) -> list[Path]:
        """Return the temporary files and folders that a killed node left; the spool may hold others' too."""
        hidden = [*self.root.glob("incoming/*/.*"), *self.root.glob("results/.*")]
        return [path for path in hidden if TEMPORARY.match(path.name)]

    def _count(self) -> int:
        incoming = _size(self.root / "incoming")
        return max(_ROOM * incoming, incoming + _size(self.root / "results"))


def _size(root: Path) -> int:
    total = 0
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary file that has got its name meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
