"""MGH files and Analyze pairs through nibabel."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrestore import ReadRequest, Volume
from medrestore.errors import GeometryError, InputError
from medrestore.findings import PLACE_NOT_STATED, Finding
from medrestore.geometry import Geometry
from medrestore.plugin import Format, ScanHeader, StoredVoxels, encode, header_by_name, volumes_of
from medrestore_formats.packed import DEFLATE_RATIO, check_stream, is_gzip, truncated

TYPES = ("float32", "uint8", "int16", "int32")
UNPLACED = PLACE_NOT_STATED.found(
    "the header does not say how the scan lies in space: which side is left is not known"
)
LEFT_UNKNOWN = PLACE_NOT_STATED.found(
    "Analyze does not say which side is left; the first axis was taken to run towards it, as nibabel does"
)

_MGH_HEADER = 284
"""Bytes before the voxels of a MGH file."""
_GOOD_RAS = slice(28, 30)
"""Where in them is the flag that says whether the place of the scan is stated."""


def mgh_header(path: Path, _: ReadRequest) -> ScanHeader:
    """Read what a MGH file says before its voxels.

    Raises:
        InputError: It is no such file, truncated, or its voxels are not real numbers.
        GeometryError: It has no usable place in space.
    """
    from nibabel.freesurfer.mghformat import MGHHeader

    # nibabel reads what is behind the voxels as well, and so would unpack them all.
    with _named(path, "MGH"), gzip.open(path) if is_gzip(path) else path.open("rb") as stream:
        block = stream.read(_MGH_HEADER)
        if len(block) < _MGH_HEADER:
            raise InputError(f"{path}: truncated, {len(block)} bytes where the header takes {_MGH_HEADER}")
        stated = MGHHeader(block.ljust(MGHHeader.template_dtype.itemsize, b"\0"))
    # nibabel has set it by now, with the place that FreeSurfer then takes.
    placed = any(block[_GOOD_RAS])
    return replace(_header(path, stated, stated.get_affine(), path), own=placed)


def analyze_header(path: Path, _: ReadRequest) -> ScanHeader:
    """Read what the header of an Analyze or NIfTI pair says; either of its files names it.

    Raises:
        InputError: It is no such pair, a file of it is missing or truncated, or voxels are not real numbers.
        GeometryError: It has no usable place in space.
    """
    import nibabel as nib

    stated, voxels = pair(path)
    for one in (stated, voxels):
        if not one.is_file():
            raise InputError(f"{path}: {one.suffix} of the pair is missing; put it beside it")
    with _named(path, "Analyze"):
        image = nib.load(stated)
    return _header(path, image.header, image.affine, voxels)


def read_mgh(header: ScanHeader) -> tuple[Volume, ...]:
    """Read every volume of a MGH file.

    Raises:
        InputError: Voxels are missing, damaged or not finite.
    """
    import nibabel as nib

    if is_gzip(header.path):
        check_stream(header.path, header.path)
    notes = () if header.own else (UNPLACED,)
    return _read(header, nib.MGHImage, "mgz", (header.path,), notes)


def read_analyze(header: ScanHeader) -> tuple[Volume, ...]:
    """Read every volume of a pair.

    Raises:
        InputError: Voxels are missing, damaged or not finite.
    """
    import nibabel as nib

    stated, files, notes = header.own, analyze_files(header.path), tuple[Finding, ...]()
    if "sform_code" in stated:
        notes = () if stated["sform_code"] or stated["qform_code"] else (UNPLACED,)
    elif not any(one.suffix == ".mat" for one in files):
        notes = (LEFT_UNKNOWN,)
    return _read(header, nib, "analyze", files, notes)


def write_mgh(volumes: Sequence[Volume], path: Path, dtype: str) -> StoredVoxels:
    """Write volumes to one file.

    Raises:
        OutputError: The type is none of the format's.
    """
    import nibabel as nib

    arrays, stored = encode(volumes, dtype, TYPES)
    voxels = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)
    nib.MGHImage(voxels, volumes[0].geometry.affine).to_filename(path)
    return stored


def pair(path: Path) -> tuple[Path, Path]:
    """Return the header and the voxels of a pair, of which `path` is one; their endings have one case."""
    suffix = path.suffix
    other = {".hdr": ".img", ".img": ".hdr"}[suffix.lower()]
    beside = path.with_suffix(other.upper() if suffix.isupper() else other)
    return (path, beside) if suffix.lower() == ".hdr" else (beside, path)


def analyze_files(path: Path) -> Sequence[Path]:
    """Return the files of a pair, and the matrix that SPM kept beside them."""
    stated, voxels = pair(path)
    matrix = path.with_suffix(".mat")
    return (stated, voxels, matrix) if matrix.is_file() else (stated, voxels)


def _header(path: Path, stated: Any, affine: Any, voxels: Path) -> ScanHeader:
    """Return what a header of nibabel says of a scan whose voxels are in a file.

    Raises:
        InputError: They are not real numbers, of too many axes, or more than the file can hold.
        GeometryError: The affine is none.
    """
    dtype = stated.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "colour or of an unknown type"
        raise InputError(f"{path}: voxels are {kind}, expected real numbers; split the image into such first")
    sizes = [int(size) for size in stated.get_data_shape()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if not 2 <= len(sizes) <= 4:
        raise InputError(f"{path}: {len(sizes)} axes; expected an image, a volume or a series of volumes")
    declared, held = math.prod(sizes) * dtype.itemsize, voxels.stat().st_size
    if declared > held * (DEFLATE_RATIO if is_gzip(voxels) else 1):
        raise truncated(path, declared, held)
    x, y, z, volumes = sizes + [1] * (4 - len(sizes))
    try:
        geometry = Geometry((x, y, z), affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: unusable place in the header: {error}") from error
    return header_by_name(path, geometry, volumes, stated)


def _read(
    header: ScanHeader, library: Any, name: str, files: Sequence[Path], notes: tuple[Finding, ...]
) -> tuple[Volume, ...]:
    with _named(header.path, name):
        image = library.load(files[0])
        voxels = np.asanyarray(image.dataobj)  # scaled, where the header has a scale
        whole = voxels.reshape(*header.geometry.shape, header.volumes)
    details = {
        "dtype": image.get_data_dtype().newbyteorder("=").name,
        "slope": float(getattr(image.dataobj, "slope", 1.0)),
        "inter": float(getattr(image.dataobj, "inter", 0.0)),
        **({"findings": [note.as_json() for note in notes]} if notes else {}),
    }
    return volumes_of(header, name, (whole[..., index] for index in range(header.volumes)), files, details)


@contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Say of the file what nibabel says of its content; what the system says passes."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    damage = (ImageFileError, MGHError, HeaderDataError, WrapStructError, ValueError, EOFError, KeyError)
    try:
        yield
    except (*damage, OverflowError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path}: no {name} file, or a truncated or damaged one; get it again") from error


FORMATS = {
    "mgz": Format(name="mgz", suffixes=(".mgz", ".mgh"), header=mgh_header, read=read_mgh, write=write_mgh),
    "analyze": Format(
        name="analyze",
        suffixes=(".hdr", ".img"),
        header=analyze_header,
        read=read_analyze,
        files=analyze_files,
    ),
}
