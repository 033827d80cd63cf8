"""NIfTI files to volumes, one pass over the stream and one float32 copy of the voxels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medrestore.errors import InputError
from medrestore.io.bids_sampling import sampling_beside
from medrestore.io.nifti_header import NiftiHeader, opened, read_header
from medrestore.io.sampling import Sampling
from medrestore.provenance import Source, sha256_file
from medrestore.types import FloatArray, Modality
from medrestore.volume import UNITS, Volume

_BLOCK = 1 << 20

SUFFIXES = {
    **dict.fromkeys(
        ("t1w", "t2w", "pdw", "flair", "t2starw", "t2star", "inplanet1", "inplanet2", "swi", "mp2rage"),
        Modality.MR,
    ),
    **dict.fromkeys(("ct",), Modality.CT),
}
"""Ends of file names that tell the modality, as in ``sub-01_T1w.nii.gz``: the part after the last ``_``."""


def modality_of_name(path: Path) -> Modality:
    """Return the modality that a BIDS-like file name states, else UNKNOWN.

    NIfTI headers do not know the modality, so the part after the last underscore (before the first dot) is
    looked up in `SUFFIXES`, whatever its case. ``head_ct.nii`` is CT and in HU; ``ct_head.nii`` says nothing.
    """
    stem = path.name.split(".", 1)[0]
    return (
        SUFFIXES.get(stem.rpartition("_")[2].lower(), Modality.UNKNOWN) if "_" in stem else Modality.UNKNOWN
    )


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI image or volume.

    Raises:
        InputError: As `read_header`, or the file is a series, its voxels are not finite or its data damaged.
    """
    header = read_header(path)
    if header.volumes > 1:
        raise InputError(
            f"{path}: a series of {header.volumes} volumes, expected one; read it with read_series, "
            "which returns one volume per time point"
        )
    (volume,) = _volumes(header)
    return volume


def read_nifti_series(path: Path) -> tuple[Volume, ...]:
    """Read every time point of a NIfTI file; a file with one volume gives one.

    Raises:
        InputError: As `read_header`, or voxels are not finite or the data are damaged.
    """
    return tuple(_volumes(read_header(path)))


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
    for start in range(0, count, _BLOCK):
        target = voxels[start : start + _BLOCK]
        wanted = target.size * header.dtype.itemsize
        block = stream.read(wanted)
        if len(block) < wanted:
            raise _short(header, header.offset + start * header.dtype.itemsize + len(block))
        _scale(np.frombuffer(block, dtype=header.dtype), header.scale, target)
    return voxels.reshape(header.geometry.shape, order="F")


def _scale(raw: np.ndarray[Any, Any], scale: tuple[float, float] | None, target: FloatArray) -> None:
    # A float64 beyond float32 becomes infinite here and is refused, with its place, by Volume.
    with np.errstate(over="ignore", invalid="ignore"):
        if scale is None or scale == (1.0, 0.0):
            target[...] = raw
        else:
            target[...] = raw.astype(np.float64) * scale[0] + scale[1]


def _short(header: NiftiHeader, found: int) -> InputError:
    return InputError(
        f"{header.path}: the data end at about byte {found}, "
        f"the header declares {header.volumes} x {header.geometry.shape} voxels of {header.dtype.name} "
        f"from byte {header.offset}; the file is truncated, get it again"
    )
