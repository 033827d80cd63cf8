"""Folders that are made whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medrestore.errors import OutputError


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the body to fill, and remove it again where that fails.

    Raises:
        OutputError: It is there already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise OutputError(f"{folder}: is there already; remove it, or name another folder") from error
    except OSError as error:
        raise _unwritten(folder, error) from error
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritten(folder, error) from error
        raise


def _unwritten(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{folder}: cannot be written: {error.strerror or error}")
