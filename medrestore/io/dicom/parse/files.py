"""DICOM files in a tree: told by content, opened within bounds, and never searched for outside the tree."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import dcmread, read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from medrestore.errors import InputError
from medrestore.paths import open_file

READ_ERRORS: tuple[type[Exception], ...] = (Exception,)
"""What pydicom and its decoders raise on damaged or unsupported files: whatever the damage leads them to.

Where files are read, this is the border at which it becomes an error of medrestore's, or a file left out.
"""

_PREAMBLE = 128
# A data set without preamble begins with group 0002 or 0008, and its first values are short.
_FIRST_GROUPS, _LONGEST_FIRST = (0x0002, 0x0008), 1024
_START = _PREAMBLE + 4 + _LONGEST_FIRST
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
_UNDEFINED = 0xFFFFFFFF
# No scan deflates to a two-hundredth; a file that does is a bomb.
_INFLATED_SHARE, _INFLATED_FLOOR = 200, 1 << 24


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom's warnings in: they quote values, and what matters of them is found here and said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Whether a file's first bytes are those of a DICOM file; its name does not matter.

    These are the prefix after a preamble, or the first elements of a data set without one.
    """
    start = _start(path)
    return start[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or _is_bare(start, "<") or _is_bare(start, ">")


def _start(path: Path) -> bytes:
    try:
        with open_file(path) as stream:
            return stream.read(_START)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _is_bare(start: bytes, order: str) -> bool:
    """Whether bytes begin with an element of a first group, and go on with the tag of another behind it."""
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from(f"{order}HHI", start)
    if group not in _FIRST_GROUPS or (order == ">" and not start[4:6].isalpha()):
        return False
    vr, value = start[4:6].decode("latin-1"), 8
    if vr in VR.__members__:
        (length,) = struct.unpack_from(f"{order}H", start, 6)
        if vr in EXPLICIT_VR_LENGTH_32:
            value, length = 12, struct.unpack_from(f"{order}I", start + bytes(12), 8)[0]
    if length > _LONGEST_FIRST:
        return False
    following = start[value + length : value + length + 4]
    if len(following) < 4:
        return len(start) < _START  # a file that ends here
    then = struct.unpack(f"{order}HH", following)
    return then > (group, element) and then[0] < 0x0100


def is_blank(path: Path) -> bool:
    """Whether a file is empty or begins with zeros alone, as after a broken copy or on a full disk."""
    return not any(_start(path)[: _PREAMBLE + 4])


def opened(path: Path) -> BinaryIO:
    """Open a file for pydicom; a deflated file is inflated here, and only up to the size of a scan.

    Raises:
        OSError: The file cannot be read.
        InputError: The file inflates to more than any scan does.
    """
    return inflated(cast(BinaryIO, open_file(path)), str(path))


def inflated(stream: BinaryIO, name: str) -> BinaryIO:
    """Return what pydicom may read of a file: it bounds nothing, so a deflated data set is inflated here.

    Args:
        stream: The file, at its start; closed if another stream takes its place.
        name: What it is called in a message.

    Returns:
        The stream at its start, or one with the data set inflated and the transfer syntax changed to match.

    Raises:
        InputError: The data set inflates to more than any scan does.
    """
    # As pydicom itself does: what it takes for deflated has to be seen here.
    read_preamble(stream, force=True)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    end = stream.tell()
    stream.seek(0)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return stream
    with stream:
        content = stream.read()
    limit = max(_INFLATED_FLOOR, _INFLATED_SHARE * len(content))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(content[end:], limit)
    if inflater.unconsumed_tail:
        raise InputError(f"{name}: {len(content)} bytes inflate to more than {limit}, which no scan does")
    return io.BytesIO(content[:end].replace(_DEFLATED, b"1.2.840.10008.1.2.1\0\0\0") + data)


class HeaderRead(NamedTuple):
    """A header, how many bytes of pixels follow it, and what the file ends within; empty if it is whole."""

    data: FileDataset
    pixels: int
    cut: str


def read_header(path: Path, tags: Sequence[Any]) -> HeaderRead:
    """Read the elements of a file that are named, without its pixels.

    Raises:
        READ_ERRORS: The file is damaged.
    """
    with opened(path) as stream:
        data = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(tags))
        # The pixels follow the header of their element: with a type, it is 12 bytes long.
        here = stream.tell()
        start, end = here + (8 if data.original_encoding[0] else 12), stream.seek(0, os.SEEK_END)
        in_pixels = start < end and not _has_whole_fragments(stream, start, end)
    short = [tag for tag in list(data.keys()) if _is_short(data, tag)]
    for tag in short:
        # Half a UID is the UID of something else.
        del data[tag]
    cut = "header" if short or here > end else "pixels" if in_pixels else ""
    return HeaderRead(data, max(end - start, 0), cut)


def _has_whole_fragments(stream: BinaryIO, start: int, end: int) -> bool:
    """Whether compressed pixels are all there; pixels that come without fragments are measured elsewhere."""
    stream.seek(start - 4)
    if stream.read(4) != b"\xff\xff\xff\xff":
        return True
    while header := stream.read(8):
        group, element, length = struct.unpack("<HHI", header.ljust(8, b"\0"))
        if (group, element) != (0xFFFE, 0xE000) or stream.seek(length, os.SEEK_CUR) > end:
            return (group, element) == (0xFFFE, 0xE0DD)
    return True


def _is_short(data: Dataset, tag: BaseTag) -> bool:
    """Whether the file ended within the value of an element: pydicom takes what there is."""
    element = data.get_item(tag)
    if not isinstance(element, RawDataElement) or not isinstance(element.value, bytes):
        return False
    return element.length != _UNDEFINED and len(element.value) < element.length


def sha256_pixels(path: Path) -> str:
    """Return the SHA-256 of the pixel data of a file, as they are stored.

    Raises:
        READ_ERRORS: The pixel data cannot be read.
    """
    with opened(path) as stream:
        data = dcmread(stream, force=True, specific_tags=["PixelData"])
    return hashlib.sha256(data.PixelData).hexdigest()
