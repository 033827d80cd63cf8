"""What lies below a folder, in the order of names, and what of it cannot be opened, and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import InputError
from medrestore.paths import Obstacle, obstacle, resolved


@dataclass(frozen=True)
class Entry:
    """A file or a folder below a folder.

    Attributes:
        path: Where it is.
        obstacle: Why it is not to be opened; None if it can be tried.
        is_folder: Whether it is a folder, or a link to one.
    """

    path: Path
    obstacle: Obstacle | None = None
    is_folder: bool = False


def walk(root: Path, aside: Path | None = None) -> Iterator[Entry]:
    """Yield everything below a folder that is not hidden; no link to a folder is followed.

    Args:
        root: The folder.
        aside: A folder that is not looked into.

    Raises:
        InputError: The folder itself cannot be listed.
    """
    top, failed = resolved(root), list[OSError]()
    for here, folders, names in os.walk(root, onerror=failed.append):
        yield from _unlisted(root, failed)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(here, name) != aside
        )
        yield from (_entry(Path(here, name), top, is_folder=True) for name in folders)
        yield from (
            _entry(Path(here, name), top, is_folder=False)
            for name in sorted(names)
            if not name.startswith(".")
        )
    yield from _unlisted(root, failed)


def _entry(path: Path, top: Path, *, is_folder: bool) -> Entry:
    found = obstacle(path)
    if found in {None, Obstacle.PIPE, Obstacle.SOCKET, Obstacle.DEVICE} and path.is_symlink():
        found = found if resolved(path).is_relative_to(top) else Obstacle.OUTSIDE
    return Entry(path, found, is_folder)


def _unlisted(root: Path, failed: list[OSError]) -> Iterator[Entry]:
    """Yield the folders that could not be listed since the last call."""
    while failed:
        error = failed.pop(0)
        if Path(error.filename) == root:
            raise InputError(f"{root}: cannot be listed ({error.strerror or error})") from error
        yield Entry(Path(error.filename), Obstacle.UNLISTED, is_folder=True)
