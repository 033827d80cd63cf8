"""The bytes of a NIfTI file, plain or in gzip, to their end: there the checksum of gzip is met."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from medrestore.errors import InputError
from medrestore.paths import open_file

GZIP_MAGIC = b"\x1f\x8b"
GZIP_RATIO = 1032
"""One deflate code of two bits at best stands for 258 bytes (RFC 1951): no stream expands further."""

_BLOCK = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say gzip, with checksum and length
# What follows the voxels is read for the checksum. More than this share of the file, and it is a bomb.
_SHARE, _FLOOR = 200, 1 << 28


class Stream(Protocol):
    """What bytes are read from, in their order."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end alone."""


class Unpacked:
    """What the gzip streams of a file hold, one after another; zlib compares the checksum of each at its end.

    Args:
        file: The compressed file.

    Attributes:
        number: Of the stream that is read, from 0.
        begin: Where in the file the last one begins that was met.
        behind: Bytes of the file behind the last one.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._stream = zlib.decompressobj(_GZIP)
        self._held = b""
        self.number = self.begin = self.behind = 0

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes; fewer at the end alone.

        Raises:
            EOFError: A stream ends early.
            zlib.error: A stream is damaged, or its checksum another.
        """
        parts = []
        while size and (part := self._part(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _part(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        while not self._stream.eof or self._next():
            self._held = self._held or self._file.read(_BLOCK)
            part = self._stream.decompress(self._held, size)
            if not self._held and not part and not self._stream.eof:
                raise EOFError
            self._held = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if part:
                return part
        return b""

    def _next(self) -> bool:
        """Begin the stream behind the one that has ended; where there is none, count what is there."""
        if self.behind:
            return False
        self.begin = self._file.tell() - len(self._held)
        self._held += self._file.read(_BLOCK)
        if self._held[:2] == GZIP_MAGIC:
            self._stream, self.number = zlib.decompressobj(_GZIP), self.number + 1
            return True
        self._file.seek(0, 2)
        self.behind = self._file.tell() - self.begin
        return False


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file, and its gzip stream if it is one; damage met in the body is an error that names the file.

    Raises:
        InputError: The file is empty, no regular one, damaged, or cannot be read.
    """
    try:
        with open_file(path) as file:
            start = file.read(2)
            if not start:
                raise InputError(f"{path}: the file is empty (0 bytes), expected a NIfTI image")
            file.seek(0)
            yield Unpacked(file) if start == GZIP_MAGIC else file
    except EOFError as error:
        raise InputError(
            f"{path}: the gzip stream ends early; the file is truncated, get it again"
        ) from error
    except zlib.error as error:
        raise InputError(f"{path}: damaged gzip stream ({error}); get the file again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror or error})")


def skip(stream: Stream, count: int) -> int:
    """Read over `count` bytes; return how many there were."""
    left = count
    while left and (block := stream.read(min(left, _BLOCK))):
        left -= len(block)
    return count - left


def may_hold(path: Path, count: int) -> bool:
    """Whether a gzip file says that it unpacks to `count` bytes; else they must be counted.

    Its last four bytes are the length, modulo 4 GiB, if it is one stream with nothing behind.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open_file(path) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 4, 0))
            return int.from_bytes(file.read(4), "little") == count % (1 << 32)
    except OSError as error:
        raise _unreadable(path, error) from error


def drain(path: Path, stream: Stream) -> int:
    """Read to the end of a file whose voxels were read; return how many bytes are left.

    The checksum of the gzip stream with the last voxel is met here. What is behind that stream holds no
    voxel, and so may be anything.

    Raises:
        EOFError, zlib.error: The stream with the last voxel is damaged.
        InputError: So much is left that the file was made to exhaust whoever reads it.
    """
    size = path.stat().st_size
    most, last = max(_FLOOR, _SHARE * size), stream.number if isinstance(stream, Unpacked) else 0
    try:
        count = skip(stream, most + 1)
    except (EOFError, zlib.error):
        if not isinstance(stream, Unpacked) or stream.number == last:
            raise
        return size - stream.begin
    if count > most:
        raise InputError(f"{path}: more than {most} bytes follow the voxels, as in no scan; get it again")
    return count + (stream.behind if isinstance(stream, Unpacked) else 0)
