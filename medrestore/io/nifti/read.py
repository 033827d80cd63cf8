"""NIfTI files to volumes, one pass over the stream and one float32 copy of the voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medrestore.errors import InputError
from medrestore.findings import BYTES_BEHIND_VOXELS, FIELDS_IGNORED, Finding
from medrestore.io.formats import ScanHeader, header_by_name
from medrestore.io.nifti.bids_sampling import sampling_beside
from medrestore.io.nifti.header import HEADER_SIZES, NiftiHeader, begins_as_nifti, read_header
from medrestore.io.nifti.stream import Stream, drain, may_hold, opened, skip
from medrestore.io.sampling import Sampling
from medrestore.options import ReadRequest
from medrestore.provenance import JSON, Source, sha256_file
from medrestore.types import FloatArray
from medrestore.volume import UNITS, Volume
from medrestore.voxels import filled

_BLOCK = 1 << 20


def is_nifti(path: Path) -> bool:
    """Whether a file begins as one, compressed or not."""
    return path.is_file() and begins_as_nifti(path)


def nifti_header(path: Path, _: ReadRequest) -> ScanHeader:
    """Read what is known of a NIfTI file before its voxels.

    Raises:
        InputError: As `read_header`.
        GeometryError: As `read_header`.
    """
    header = read_header(path)
    return header_by_name(path, header.geometry, header.volumes, header)


def read_nifti(header: ScanHeader) -> tuple[Volume, ...]:
    """Read every time point of a NIfTI file; a file with one volume gives one.

    The file is read to its end, whatever is behind the voxels: only there the checksum of gzip is met, and no
    volume is returned before.

    Raises:
        InputError: Voxels are not finite or the data are damaged.
    """
    own: NiftiHeader = header.own
    digest = sha256_file(own.path)
    sampling = sampling_beside(own.path, own.geometry)
    _check_length(own)
    with opened(own.path) as stream:
        reading = _Reading(own, stream, header.nan_fill)
        reading.skip_to_voxels()
        arrays = [reading.volume() for _ in range(own.volumes)]
        behind = drain(own.path, stream)
    findings = [*own.findings, *reading.findings, *_behind(behind), *filled(reading.filled, header.nan_fill)]
    stated: dict[str, JSON] = {} if sampling == Sampling() else {"sampling": sampling.as_json()}
    if findings:
        stated["findings"] = [finding.as_json() for finding in findings]
    made = []
    for index, array in enumerate(arrays):
        source = Source(str(own.path), "nifti", digest, {**own.details(index), **stated})
        try:
            made.append(Volume(array, own.geometry, header.modality, UNITS[header.modality], source))
        except InputError as error:
            where = f" (volume {index} of {own.volumes})" if own.volumes > 1 else ""
            raise InputError(f"{error}{where}") from error
    return tuple(made)


def first_nifti(header: ScanHeader) -> Volume:
    """Read the first volume alone, for a look at it: what follows it is not read, nor any checksum met.

    Raises:
        InputError: Its voxels are not finite or damaged.
    """
    own: NiftiHeader = header.own
    _check_length(own)
    with opened(own.path) as stream:
        reading = _Reading(own, stream, header.nan_fill)
        reading.skip_to_voxels()
        array = reading.volume()
    return Volume(
        array, own.geometry, header.modality, UNITS[header.modality], Source(str(own.path), "nifti")
    )


def _check_length(header: NiftiHeader) -> None:
    """Refuse a gzip file that is too short for its header, before memory is taken for what it declares."""
    wanted = header.offset + header.voxel_bytes
    if header.compressed and not may_hold(header.path, wanted):
        with opened(header.path) as stream:
            found = skip(stream, wanted)
        if found < wanted:
            raise _short(header, found)


def _behind(count: int) -> tuple[Finding, ...]:
    if not count:
        return ()
    text = f"{count} bytes follow the voxels that the header declares, and were not read"
    return (BYTES_BEHIND_VOXELS.found(text, bytes=count),)


@dataclass
class _Reading:
    """The voxels of a file while they are read.

    Attributes:
        header: Of the file.
        stream: Its bytes.
        nan_fill: The value that voxels which are no number get; None where they are refused.
        filled: How many got it.
        findings: What was found on the way.
    """

    header: NiftiHeader
    stream: Stream
    nan_fill: float | None
    filled: int = 0
    findings: list[Finding] = field(default_factory=list)

    def skip_to_voxels(self) -> None:
        """Read over header and extensions."""
        offset = self.header.offset
        block = self.stream.read(min(offset, _BLOCK))
        if (found := len(block) + skip(self.stream, offset - len(block))) < offset:
            raise _short(self.header, found)
        if not _are_extensions(block, self.header):
            text = "the extensions of the header make no sense, and were not needed"
            self.findings.append(FIELDS_IGNORED.found(text, fields=["extension"]))

    def volume(self) -> FloatArray:
        """Read one volume, (X, Y, Z) with X fastest in memory, scaled in float64 block by block."""
        header, count = self.header, math.prod(self.header.geometry.shape)
        try:
            voxels: FloatArray = np.empty(count, dtype=np.float32)
        except MemoryError as error:
            raise InputError(
                f"{header.path}: {4 * count} bytes for the voxels do not fit into memory"
            ) from error
        lost = False
        for start in range(0, count, _BLOCK):
            target = voxels[start : start + _BLOCK]
            wanted = target.size * header.dtype.itemsize
            block = self.stream.read(wanted)
            if len(block) < wanted:
                raise _short(header, header.offset + start * header.dtype.itemsize + len(block))
            lost |= self._scale(np.frombuffer(block, dtype=header.dtype), target)
        if lost and not voxels.any():
            raise InputError(
                f"{header.path}: every voxel that is not 0 is too small for float32, in which all is "
                "computed; multiply them by a constant first"
            )
        return voxels.reshape(header.geometry.shape, order="F")

    def _scale(self, raw: np.ndarray[Any, Any], target: FloatArray) -> bool:
        """Put scaled voxels into `target`; return whether all became 0 that were not."""
        scale = self.header.scale
        # A float64 beyond float32 becomes infinite here and is refused, with its place, by Volume.
        with np.errstate(over="ignore", invalid="ignore"):
            values = raw if scale in (None, (1.0, 0.0)) else raw.astype(np.float64) * scale[0] + scale[1]
            target[...] = values
            if self.nan_fill is not None and raw.dtype.kind == "f" and not (known := np.isfinite(raw)).all():
                target[~known] = self.nan_fill
                self.filled += int(known.size - known.sum())
                values = values[known]
            return not target.any() and bool(values.any())


def _are_extensions(block: bytes, header: NiftiHeader) -> bool:
    """Whether what is between header and voxels, as far as it is here, is nothing, or extensions."""
    at = HEADER_SIZES[header.version] + 4
    if not any(block[at - 4 : at - 3]):
        return True
    while at + 8 <= header.offset and at + 4 <= len(block):
        size = int.from_bytes(block[at : at + 4], "little" if header.order == "<" else "big")
        if size < 16 or size % 16:
            return False
        at += size
    return at <= header.offset


def _short(header: NiftiHeader, found: int) -> InputError:
    return InputError(
        f"{header.path}: the data end at about byte {found}, "
        f"the header declares {header.volumes} x {header.geometry.shape} voxels of {header.dtype.name} "
        f"from byte {header.offset}; the file is truncated, get it again"
    )
