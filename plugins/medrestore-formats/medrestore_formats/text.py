"""Headers that are text, NRRD and MetaImage: only what says where the voxels are, and how they are packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from medrestore.errors import InputError
from medrestore_formats.packed import DEFLATE_RATIO, truncated

_LONGEST = 1 << 20
"""Bytes of a header that are looked through."""

_RATIOS = {"raw": 1, "gzip": DEFLATE_RATIO, "gz": DEFLATE_RATIO}


@dataclass(frozen=True)
class TextHeader:
    """What of a header is needed beside what SimpleITK says of it.

    Attributes:
        path: The file.
        fields: Values by names in lower case.
        end: Bytes of the header.
        data: Name of the file of voxels; None where they are behind the header.
        deflated: Whether the voxels are one zlib or gzip stream from `source` on.
        ratio: Most bytes of voxels for a byte of the file; None where that is not known.
    """

    path: Path
    fields: dict[str, str]
    end: int
    data: str | None
    deflated: bool
    ratio: int | None

    @property
    def source(self) -> tuple[Path, int]:
        """The file of the voxels, and where in it they begin."""
        return (self.path, self.end) if self.data is None else (self.path.parent / self.data, 0)


Parse = Callable[[Path], TextHeader]


def nrrd_header(path: Path) -> TextHeader:
    """Read the lines of a NRRD header up to the empty one.

    Raises:
        OSError: The file cannot be read.
    """
    fields, end = {}, 0
    with path.open("rb") as stream:
        for line in _lines(stream):
            end += len(line)
            text = line.decode("latin-1").rstrip("\r\n")
            if not text:
                break
            name, colon, value = text.partition(":")
            if colon and not text.startswith("#") and not value.startswith("="):
                fields[name.strip().lower().replace(" ", "")] = value.strip()
    ratio = _RATIOS.get(fields.get("encoding", "").lower())
    skips = {fields.get("lineskip", "0"), fields.get("byteskip", "0")} != {"0"}
    return TextHeader(path, fields, end, fields.get("datafile"), ratio == DEFLATE_RATIO and not skips, ratio)


def meta_header(path: Path) -> TextHeader:
    """Read the lines of a MetaImage header up to the one that says where the voxels are.

    Raises:
        OSError: The file cannot be read.
    """
    fields, end, data = {}, 0, ""
    with path.open("rb") as stream:
        for line in _lines(stream):
            end += len(line)
            name, equals, value = line.decode("latin-1").partition("=")
            if equals:
                fields[name.strip().lower()] = value.strip()
            if name.strip().lower() == "elementdatafile":
                data = value.strip()
                break
    binary, packed = (fields.get(name, "").lower() == "true" for name in ("binarydata", "compresseddata"))
    ratio = None if not binary else DEFLATE_RATIO if packed else 1
    deflated = packed and fields.get("headersize", "0") == "0"
    return TextHeader(path, fields, end, None if data.upper() == "LOCAL" else data, deflated, ratio)


def _lines(stream: BinaryIO) -> list[bytes]:
    """Return lines as long as a header may be; behind it come voxels, which may have no end of line."""
    return stream.read(_LONGEST).splitlines(keepends=True)


def files(parse: Parse, path: Path) -> Sequence[Path]:
    """Return a header and the file of voxels that it names, if it names one."""
    try:
        header = parse(path)
        check_data(header)
    except (OSError, InputError):
        return (path,)
    return (path,) if header.data is None else (path, header.source[0])


def check_data(header: TextHeader) -> None:
    """Refuse voxels that are not in one file, the header's own or another below its folder.

    Raises:
        InputError: They are.
    """
    if header.data is None:
        return
    if not header.data:
        raise InputError(f"{header.path}: the header does not say where the voxels are; it is damaged")
    words = header.data.split()
    if words[0].upper().startswith("LIST") or "%" in header.data:
        raise InputError(
            f"{header.path}: the voxels are in several files; write the scan to one file first, as "
            "SimpleITK can"
        )
    place = PurePosixPath(header.data.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts:
        raise InputError(
            f"{header.path}: its file of voxels lies outside of its folder; put both into one folder, and "
            "the bare name into the header"
        )
    if not header.source[0].is_file():
        raise InputError(f"{header.path}: the file of voxels that it names is missing; put it beside it")


def check_size(header: TextHeader, declared: int) -> None:
    """Refuse a file that cannot hold its voxels.

    Args:
        header: Of the scan.
        declared: Bytes of voxels.

    Raises:
        InputError: It is.
    """
    data, start = header.source
    held = data.stat().st_size - start
    if header.ratio is not None and declared > held * header.ratio:
        raise truncated(header.path, declared, held)
