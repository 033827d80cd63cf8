"""NIfTI files to volumes, one pass over the stream and one float32 copy of the voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medrestore.errors import InputError
from medrestore.io.formats import ScanHeader, header_by_name, modality_of_name
from medrestore.io.nifti.bids_sampling import sampling_beside
from medrestore.io.nifti.header import NiftiHeader, begins_as_nifti, opened, read_header
from medrestore.io.sampling import Sampling
from medrestore.options import ReadRequest
from medrestore.provenance import Source, sha256_file
from medrestore.types import FloatArray, Modality
from medrestore.volume import UNITS, Volume

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

    Raises:
        InputError: Voxels are not finite or the data are damaged.
    """
    return tuple(_volumes(header.own))


def _volumes(header: NiftiHeader) -> Iterator[Volume]:
    modality = modality_of_name(header.path)
    digest = sha256_file(header.path)
    sampling = sampling_beside(header.path, header.geometry)
    stated = {} if sampling == Sampling() else {"sampling": sampling.as_json()}
    with opened(header.path, header.compressed) as stream:
        _skip(stream, header)
        for index in range(header.volumes):
            array = _voxels(stream, header)
            if index + 1 == header.volumes:
                # Reading on is what makes gzip compare its checksum.
                stream.read(1)
            source = Source(str(header.path), "nifti", digest, {**header.details(index), **stated})
            yield _volume(array, header, modality, source, index)


def _volume(array: FloatArray, header: NiftiHeader, modality: Modality, source: Source, index: int) -> Volume:
    try:
        return Volume(array, header.geometry, modality, UNITS[modality], source)
    except InputError as error:
        where = f" (volume {index} of {header.volumes})" if header.volumes > 1 else ""
        raise InputError(f"{error}{where}") from error


def _skip(stream: BinaryIO, header: NiftiHeader) -> None:
    left = header.offset
    while left:
        block = stream.read(min(left, _BLOCK))
        if not block:
            raise _short(header, header.offset - left)
        left -= len(block)


def _voxels(stream: BinaryIO, header: NiftiHeader) -> FloatArray:
    """Read one volume, (X, Y, Z) with X fastest in memory, scaled in float64 block by block."""
    count = math.prod(header.geometry.shape)
    try:
        voxels: FloatArray = np.empty(count, dtype=np.float32)
    except MemoryError as error:
        raise InputError(f"{header.path}: {4 * count} bytes for the voxels do not fit into memory") from error
    lost = False
    for start in range(0, count, _BLOCK):
        target = voxels[start : start + _BLOCK]
        wanted = target.size * header.dtype.itemsize
        block = stream.read(wanted)
        if len(block) < wanted:
            raise _short(header, header.offset + start * header.dtype.itemsize + len(block))
        lost |= _scale(np.frombuffer(block, dtype=header.dtype), header.scale, target)
    if lost and not voxels.any():
        raise InputError(
            f"{header.path}: every voxel that is not 0 is too small for float32, in which all is computed; "
            "multiply them by a constant first"
        )
    return voxels.reshape(header.geometry.shape, order="F")


def _scale(raw: np.ndarray[Any, Any], scale: tuple[float, float] | None, target: FloatArray) -> bool:
    """Put scaled voxels into `target`; return whether all became 0 that were not."""
    # A float64 beyond float32 becomes infinite here and is refused, with its place, by Volume.
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw if scale in (None, (1.0, 0.0)) else raw.astype(np.float64) * scale[0] + scale[1]
        target[...] = values
    return not target.any() and bool(values.any())


def _short(header: NiftiHeader, found: int) -> InputError:
    return InputError(
        f"{header.path}: the data end at about byte {found}, "
        f"the header declares {header.volumes} x {header.geometry.shape} voxels of {header.dtype.name} "
        f"from byte {header.offset}; the file is truncated, get it again"
    )
