"""The formats that scans come in and go out as: which one reads a path, and what each knows before voxels.

This room knows two formats, NIfTI and DICOM; whoever calls it may give it more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrestore.errors import InputError
from medrestore.geometry import Geometry
from medrestore.options import ReadRequest
from medrestore.types import Modality
from medrestore.volume import Volume


@dataclass(frozen=True)
class ScanHeader:
    """What is known of a scan before its voxels are read.

    Attributes:
        path: File or folder.
        geometry: Grid of each of its volumes.
        volumes: How many volumes it has.
        modality: What it says that it is.
        stated: The same in the terms of DICOM, which has more of them; None where nothing says it.
        own: What the reader of its format goes on from, so that nothing is parsed twice.
    """

    path: Path
    geometry: Geometry
    volumes: int = 1
    modality: Modality = Modality.UNKNOWN
    stated: str | None = None
    own: Any = None


@dataclass(frozen=True)
class StoredVoxels:
    """What a writer made of voxels: their type in the file, and how many of them it could not hold."""

    dtype: str
    clipped_voxels: int


@dataclass(frozen=True)
class WriteReport:
    """What was written: where, as voxels of which type, how many it could not hold, and the file's hash."""

    path: Path
    dtype: str
    clipped_voxels: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format, as functions; what is heavy is imported when they run.

    Attributes:
        name: Short name, such as ``"nifti"``.
        suffixes: Endings of file names, lower case, with the dot, the first for results; empty where names
            tell nothing.
        header: Reads what is known before the voxels.
        read: Reads every volume of the scan of a header.
        recognises: Whether a path holds this format, by content; None where names alone tell.
        write: Writes volumes on one grid to a file with voxels of a type (``"float32"``, ``"input"`` or
            another name); None where the format is read only.
    """

    name: str
    suffixes: tuple[str, ...]
    header: Callable[[Path, ReadRequest], ScanHeader]
    read: Callable[[ScanHeader], Sequence[Volume]]
    recognises: Callable[[Path], bool] | None = None
    write: Callable[[Sequence[Volume], Path, str], StoredVoxels] | None = None


class Formats:
    """The formats that a call may meet, the most certain first.

    Args:
        formats: Each of them; content decides before names, and the first that recognises a path has it.
    """

    def __init__(self, formats: Iterable[Format]) -> None:
        self._formats = tuple(formats)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Every ending of a file name that some format claims."""
        return tuple(suffix for one in self._formats for suffix in one.suffixes)

    @property
    def written(self) -> tuple[str, ...]:
        """Every ending of a file name under which results are written."""
        return tuple(suffix for one in self._formats if one.write is not None for suffix in one.suffixes)

    def of(self, path: Path) -> Format:
        """Return the format of a file or folder that is there.

        Raises:
            InputError: Nothing is there, or nothing reads it.
        """
        if not path.exists():
            raise InputError(
                f"{path}: no such file or folder; expected a NIfTI file or a folder with a DICOM series"
            )
        by_content = (one for one in self._formats if one.recognises is not None and one.recognises(path))
        found = next(by_content, None) or self.of_name(path)
        if found is None:
            known = ", ".join(dict.fromkeys(self.suffixes))
            raise InputError(
                f"{path}: no NIfTI header found, and no other format reads it; expected {known}, or a DICOM "
                "series"
            )
        return found

    def of_name(self, path: Path) -> Format | None:
        """Return the format that the name of a file claims, the longest ending first; None for no format."""
        name = path.name.lower()
        fitting = [
            (len(suffix), one) for one in self._formats for suffix in one.suffixes if name.endswith(suffix)
        ]
        return max(fitting, key=lambda pair: pair[0])[1] if fitting else None

    def stem(self, path: Path) -> str:
        """Return the name of a file without the ending of its format."""
        lower = path.name.lower()
        endings = [suffix for suffix in self.suffixes if lower.endswith(suffix)]
        return path.name[: len(path.name) - max(map(len, endings), default=0)]
