"""DICOM files in a tree: told by content, opened within bounds, and never searched for outside the tree."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread, read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medrestore.errors import InputError

READ_ERRORS = (
    InvalidDicomError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on damaged or unsupported files; nesting bombs are a RuntimeError."""

_PREAMBLE = 128
# How a file without the 128-byte preamble begins: a short element of group 0008.
_BARE = tuple(b"\x08\x00" + bytes([element]) + b"\x00" for element in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16))
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
# File meta information, which states "deflated", is a few hundred bytes.
_META = 4096
# No scan deflates to a thousandth; a file that does is a bomb.
_INFLATED_SHARE, _INFLATED_FLOOR = 200, 1 << 24


def is_dicom(path: Path) -> bool:
    """Whether a file's first bytes are those of a DICOM file; its name does not matter."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + 4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return start[_PREAMBLE:] == b"DICM" or start.startswith(_BARE)


def is_blank(path: Path) -> bool:
    """Whether a file is empty or begins with zeros alone, as after a broken copy or on a full disk."""
    with path.open("rb") as stream:
        return not any(stream.read(_PREAMBLE + 4))


def opened(path: Path) -> BinaryIO:
    """Open a file for pydicom; a deflated file is inflated here, and only up to the size of a scan.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file inflates to more than any scan does.
    """
    stream = path.open("rb")
    start = stream.read(_META)
    stream.seek(0)
    if _DEFLATED not in start:
        return cast(BinaryIO, stream)
    with stream:
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            return io.BytesIO(stream.read())
        return _inflated(path, stream)


def sha256_pixels(path: Path) -> str:
    """Return the SHA-256 of the pixel data of a file, as they are stored.

    Raises:
        READ_ERRORS: The pixel data cannot be read.
    """
    with opened(path) as stream:
        data = dcmread(stream, force=True, specific_tags=["PixelData"])
    return hashlib.sha256(data.PixelData).hexdigest()


def _inflated(path: Path, stream: BinaryIO) -> BinaryIO:
    """Return the file with its data set inflated, and the transfer syntax changed to match."""
    content = stream.read()
    # Group 2 ends where its length says; the element of that length is the first after the prefix.
    (length,) = struct.unpack_from("<I", content, _PREAMBLE + 12)
    end = _PREAMBLE + 16 + length
    limit = max(_INFLATED_FLOOR, _INFLATED_SHARE * len(content))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(content[end:], limit)
    if inflater.unconsumed_tail:
        raise ValueError(f"{len(content)} bytes inflate to more than {limit}, which no scan does")
    meta = content[:end].replace(_DEFLATED, b"1.2.840.10008.1.2.1\0\0\0")
    return io.BytesIO(meta + data)
