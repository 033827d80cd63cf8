"""Files and folders appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from medrestore.errors import OutputError

_LONG = 235
"""Bytes of a name with which a temporary one, a little longer, is still below the 255 of file systems."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give the body an empty temporary file in the same folder; rename it to `path` when the body is done.

    File and folder are flushed to disk, so that after a crash `path` is the old file or the whole new one.
    The temporary name ends like `path`, for writers that go by the suffix. Whatever goes wrong, the
    temporary file is removed and `path` is left as it was.

    Args:
        path: The file to make; its folder must exist.
        overwrite: Replace a file that is there already.

    Yields:
        The temporary file to write to.

    Raises:
        OutputError: `path` exists and `overwrite` is false, it is a folder, its folder is missing, or the
            system refuses (full disk, no permission). An OSError of the body becomes one as well.
    """
    path = Path(path)
    check_target(path, overwrite)
    try:
        temporary = _reserve(path)
        try:
            yield temporary
            _flush(temporary)
            _place(temporary, path, overwrite)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


TEMPORARY = re.compile(r"(\.[0-9a-f]{8}\.)+")
"""How the temporary names of files and folders begin; a writer that is given one makes another of it."""


def temporary_end(name: str) -> str:
    """Return what the temporary name of a file ends with: its own, or the end of one that is very long."""
    return name if len(os.fsencode(name)) <= _LONG else name[-100:]


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a file that could not be written, for whoever would rather know before.

    Raises:
        OutputError: It exists and `overwrite` is false, it is a folder, or its folder is missing.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file to write")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> OutputError:
    return OutputError(
        f"{path}: exists already and is left as it is; choose another name or allow overwriting"
    )


def _reserve(path: Path) -> Path:
    # Not tempfile.mkstemp: it makes files that nobody else may read, whatever the umask says.
    temporary = path.with_name(f".{secrets.token_hex(4)}.{temporary_end(path.name)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _flush(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Rename; without `overwrite`, in a way that cannot replace a file that appeared in the meantime."""
    if not overwrite:
        try:
            os.link(temporary, path)
            return
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the check and the rename are then two steps.
            if os.path.lexists(path):
                raise FileExistsError(path) from None
    temporary.replace(path)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems cannot flush a folder; the file itself is safe by now.
        pass
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Give the body an empty hidden folder beside `path`; rename it to `path` when the body is done.

    Every file is flushed to disk before. No system replaces a folder that holds something in one step: with
    `overwrite`, the old one is moved aside, and moved back if the new one cannot take its place.

    Args:
        path: The folder to make; its parent must exist.
        overwrite: Replace a folder that is there already, with all that it holds.

    Yields:
        The hidden folder to write to.

    Raises:
        OutputError: `path` exists and `overwrite` is false, it is a file, its parent is missing, or the
            system refuses. An OSError of the body becomes one as well.
    """
    path = Path(path)
    _check_folder_target(path, overwrite)
    hidden = path.with_name(f".{secrets.token_hex(4)}.{temporary_end(path.name)}")
    try:
        hidden.mkdir()
        try:
            yield hidden
            for entry in [*hidden.rglob("*"), hidden]:
                _flush_folder(entry) if entry.is_dir() else _flush(entry)
            _place_folder(hidden, path, overwrite)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        _flush_folder(path.parent)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _check_folder_target(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path}: is a file, expected the name of a folder to make")
    if not overwrite and path.is_dir():
        raise _exists(path)


def _place_folder(hidden: Path, path: Path, overwrite: bool) -> None:
    if not path.is_dir():
        hidden.rename(path)
        return
    if not overwrite:
        raise FileExistsError(path)
    old = path.with_name(f"{hidden.name}.old")
    path.rename(old)
    try:
        hidden.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
