"""The formats that scans come in and go out as: which one reads a path, and what each knows before voxels.

This room knows two formats, NIfTI and DICOM; whoever calls it may give it more. `header_by_name`,
`volumes_of` and `medrestore.io.encoding` are what readers and writers of any format share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrestore.errors import ConfigError, InputError, PluginError
from medrestore.geometry import Geometry
from medrestore.io.named import modality_of_name
from medrestore.options import ReadRequest
from medrestore.paths import Obstacle, obstacle
from medrestore.provenance import JSON, Source, sha256_of
from medrestore.types import Modality, RealArray
from medrestore.volume import UNITS, Volume
from medrestore.voxels import as_float32, fill, filled


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
        format: Name of the format that it was read in; empty before the registry has set it.
        nan_fill: What voxels get that are no number; None where they are refused. The registry sets it too.
    """

    path: Path
    geometry: Geometry
    volumes: int = 1
    modality: Modality = Modality.UNKNOWN
    stated: str | None = None
    own: Any = None
    format: str = ""
    nan_fill: float | None = None


def header_by_name(path: Path, geometry: Geometry, volumes: int = 1, own: Any = None) -> ScanHeader:
    """Return the header of a scan whose modality is what its name says: see `modality_of_name`."""
    modality = modality_of_name(path)
    return ScanHeader(
        path, geometry, volumes, modality, None if modality is Modality.UNKNOWN else str(modality), own
    )


def volumes_of(
    header: ScanHeader,
    name: str,
    arrays: Iterable[RealArray],
    files: Sequence[Path],
    details: Mapping[str, JSON] | None = None,
) -> tuple[Volume, ...]:
    """Return what a reader has read as volumes of float32 on the grid of the header.

    Args:
        header: Of the scan.
        name: Of the format.
        arrays: (X, Y, Z) voxels of each volume, with any scaling applied.
        files: What they were read from; the record has their hash.
        details: Facts of the storage, such as ``dtype``, ``slope`` and ``inter``, and ``notes``, a tuple of
            sentences for the record; no text of a header.

    Raises:
        InputError: Voxels are not real or not finite, or float32 does not hold them.
    """
    path, made, total = header.path, [], 0
    source = Source(str(path), name, sha256_of(files), details or {})
    for index, array in enumerate(arrays):
        where = f"{path} (volume {index} of {header.volumes})" if header.volumes > 1 else str(path)
        voxels, count = fill(array, header.nan_fill)
        total += count
        checked = Volume(
            voxels, header.geometry, header.modality, UNITS[header.modality], replace(source, path=where)
        )
        made.append(replace(checked, array=as_float32(checked.array, where)))
    stated, found = source.details.get("findings", ()), filled(total, header.nan_fill)
    if found:
        assert isinstance(stated, tuple)
        facts = {**source.details, "findings": (*stated, *(finding.as_json() for finding in found))}
        source = replace(source, details=facts)
    return tuple(replace(volume, source=source) for volume in made)


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
        first: Reads the first of them alone; None where it is had by reading all.
        recognises: Whether a path holds this format, by content; None where names alone tell.
        write: Writes volumes on one grid to a file with voxels of a type (``"float32"``, ``"input"`` or
            another name); None where the format is read only.
        files: Returns every file that the scan of a path is read from, its header first, as far as that can
            be told: it raises nothing. None where a scan is one file.
        title: What a person calls it, such as ``"NIfTI"``.

    Raises:
        PluginError: The suffixes are no such endings.
    """

    name: str
    suffixes: tuple[str, ...]
    header: Callable[[Path, ReadRequest], ScanHeader]
    read: Callable[[ScanHeader], Sequence[Volume]]
    first: Callable[[ScanHeader], Volume] | None = None
    recognises: Callable[[Path], bool] | None = None
    write: Callable[[Sequence[Volume], Path, str], StoredVoxels] | None = None
    files: Callable[[Path], Sequence[Path]] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        """Check what names of files are compared with."""
        dotted = isinstance(self.suffixes, tuple) and all(
            isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower()
            for suffix in self.suffixes
        )
        if not dotted:
            raise PluginError(
                f"format {self.name!r}: suffixes are {self.suffixes!r}; expected a tuple of lower-case "
                "endings with the dot"
            )


class Formats:
    """The formats that a call may meet, the most certain first.

    Args:
        formats: Each of them; content decides before names, and the first that recognises a path has it.
        broken: Why others cannot be had; the first is raised where no format is found.
    """

    def __init__(self, formats: Iterable[Format], broken: Sequence[PluginError] = ()) -> None:
        self._formats = tuple(formats)
        self._broken = tuple(broken)

    def __iter__(self) -> Iterator[Format]:
        """Go through them in their order."""
        return iter(self._formats)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Every ending of a file name that some format claims."""
        return tuple(suffix for one in self._formats for suffix in one.suffixes)

    @property
    def written(self) -> tuple[str, ...]:
        """Every ending of a file name under which results are written."""
        return tuple(suffix for one in self._formats if one.write is not None for suffix in one.suffixes)

    def header(self, path: Path, request: ReadRequest) -> ScanHeader:
        """Read what is known of a scan before its voxels.

        Raises:
            InputError, GeometryError, PluginError: As `of`, or as the format's own `header`; or a series is
                asked for, and the scan is no DICOM.
        """
        found = self.of(path)
        for part in self.files(path)[1:]:
            if (why := obstacle(part)) is not None:
                raise InputError(f"{part}: is {why}, expected a file with voxels of {path.name}")
        if request.series is not None and found.name != "dicom":
            raise InputError(f"{path}: no DICOM, and so without a series {request.series!r}")
        return replace(found.header(path, request), format=found.name, nan_fill=request.policy.nan_fill)

    def volumes(self, header: ScanHeader) -> tuple[Volume, ...]:
        """Read every volume of a scan whose header is known; its format is not looked for again.

        Raises:
            InputError, PluginError: As the format's own `read`.
        """
        return tuple(self._of_header(header).read(header))

    def first(self, header: ScanHeader) -> Volume:
        """Read the first volume of a scan whose header is known, for a look at what it is of.

        Raises:
            InputError, PluginError: As the format's own `first` or `read`.
        """
        found = self._of_header(header)
        return found.read(header)[0] if found.first is None else found.first(header)

    def _of_header(self, header: ScanHeader) -> Format:
        named = (one for one in self._formats if one.name == header.format)
        return next(named, None) or self.of(header.path)

    def of(self, path: Path) -> Format:
        """Return the format of a file or folder that is there.

        Raises:
            InputError: Nothing is there, or nothing reads it.
            PluginError: Nothing reads it, and a format that might cannot be had.
        """
        hindrance = obstacle(path)
        if hindrance is Obstacle.MISSING:
            raise InputError(
                f"{path}: no such file or folder; expected a NIfTI file or a folder with a DICOM series"
            )
        if hindrance is not None:
            raise InputError(f"{path}: is {hindrance}, expected a file, or a folder with a DICOM series")
        by_content = (one for one in self._formats if one.recognises is not None and one.recognises(path))
        found = next(by_content, None) or self.of_name(path)
        if found is None:
            self.refuse_broken()
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

    def writer(self, name: str) -> Format:
        """Return the format of a name that results are written in.

        Raises:
            ConfigError: There is none.
            PluginError: There is none, and a format that might be it cannot be had.
        """
        found = [one for one in self._formats if one.name == name and one.write is not None]
        if not found:
            self.refuse_broken()
            known = ", ".join(one.name for one in self._formats if one.write is not None)
            raise ConfigError(f"no format that is written is called {name!r}; expected dicom, both, {known}")
        return found[0]

    def written_as(self, path: Path) -> Format | None:
        """Return the format that a result of a name is written in; None where it ends as no such one."""
        found = self.of_name(path)
        return None if found is None or found.write is None else found

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return every file that the scan of a file is read from, its header first."""
        found = self.of_name(path)
        return (path,) if found is None or found.files is None else tuple(found.files(path))

    def refuse_broken(self) -> None:
        """Refuse to go on without the formats that cannot be had.

        Raises:
            PluginError: There is one.
        """
        for error in self._broken:
            raise error

    def stem(self, path: Path) -> str:
        """Return the name of a file without the ending of its format."""
        lower = path.name.lower()
        endings = [suffix for suffix in self.suffixes if lower.endswith(suffix)]
        return path.name[: len(path.name) - max(map(len, endings), default=0)]
