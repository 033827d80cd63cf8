"""Files that are whole: as long as their header says, and compressed streams to their end."""

from __future__ import annotations

import zlib
from pathlib import Path

from medrestore.errors import InputError

# One deflate code of two bits at best stands for 258 bytes (RFC 1951): no stream expands further.
DEFLATE_RATIO = 1032

_BLOCK = 1 << 20
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


def is_gzip(path: Path) -> bool:
    """Whether a file begins as a gzip stream."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP_MAGIC


def check_stream(path: Path, data: Path, start: int = 0) -> None:
    """Refuse a compressed stream that is not whole, which the libraries take for what there is of it.

    Args:
        path: The scan, for the message.
        data: The file with the stream.
        start: Where in it that begins.

    Raises:
        InputError: The stream is damaged or ends early.
    """
    unpack = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        with data.open("rb") as stream:
            stream.seek(start)
            while not unpack.eof and (block := stream.read(_BLOCK)):
                unpack.decompress(block)
    except zlib.error as error:
        raise InputError(f"{path}: its compressed voxels are damaged; get the file again") from error
    if not unpack.eof:
        raise InputError(f"{path}: its compressed voxels end early; the file is truncated, get it again")


def truncated(path: Path, declared: int, held: int) -> InputError:
    """Return the error of a file that is too short for the bytes of voxels that its header declares."""
    return InputError(
        f"{path}: the header declares {declared} bytes of voxels, and {held} are there; the file is "
        "truncated or its header is damaged"
    )
