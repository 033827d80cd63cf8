"""What a path is. Every file of a scan is opened here, and only where it is a regular file.

Opening a named pipe waits for ever, and a device may never end: names and links tell nothing of that.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from enum import StrEnum
from io import BufferedReader
from pathlib import Path
from typing import Any

from medrestore.errors import InputError

MOST_JSON = 1 << 20
"""Bytes of a JSON file that is read: those beside scans have some thousand."""


class Obstacle(StrEnum):
    """Why a path cannot be read as a file or a folder, links followed, in words that follow "is"."""

    MISSING = "nothing is there"
    DANGLING = "a link that leads nowhere"
    LOOP = "a link that leads in a circle"
    PIPE = "a named pipe"
    SOCKET = "a socket"
    DEVICE = "a device"
    UNREACHABLE = "out of reach"
    OUTSIDE = "a link that leads out of the folder"
    UNLISTED = "a folder that cannot be listed"


def obstacle(path: Path) -> Obstacle | None:
    """Return why a path cannot be opened as a file or a folder; None where it can be tried."""
    try:
        return _special(path.stat().st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Obstacle.LOOP
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            return Obstacle.UNREACHABLE
        return Obstacle.DANGLING if path.is_symlink() else Obstacle.MISSING
    except ValueError:  # a null character in the name
        return Obstacle.UNREACHABLE


def open_file(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        InputError: It is a pipe, a socket or a device.
        OSError: It cannot be opened, or is a folder.
    """
    found = _special(path.stat().st_mode)
    if found is None:
        # Should a pipe have taken its place since, it does not wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        mode = os.fstat(handle).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(handle, "rb")
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        found = _special(mode)
    raise InputError(f"{path}: is {found}, expected a file")


def resolved(path: Path) -> Path:
    """Return a path without links, as far as these lead anywhere: what `Path.resolve` does, or raises."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path.absolute()


def is_litter(path: Path) -> bool:
    """Whether a file is one that a file manager leaves in the folders that it shows."""
    return path.name in {".DS_Store", "Thumbs.db", "desktop.ini"} or path.name.startswith("._")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of up to `MOST_JSON` bytes.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no object, more bytes than that, or one nested without end.
        InputError: It is no regular file.
    """
    with open_file(path) as stream:
        content = stream.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise ValueError(f"more than {MOST_JSON} bytes")
    try:
        stated = json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(stated, dict):
        raise ValueError("no JSON object")
    return stated


def _special(mode: int) -> Obstacle | None:
    """Return what a file is that is neither a regular one nor a folder."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return (
        Obstacle.PIPE if stat.S_ISFIFO(mode) else Obstacle.SOCKET if stat.S_ISSOCK(mode) else Obstacle.DEVICE
    )
