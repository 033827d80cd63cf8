"""MGH files and Analyze pairs through nibabel."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medrestore import ReadRequest, Volume
from medrestore.errors import GeometryError, InputError
from medrestore.geometry import Geometry
from medrestore.plugin import Format, ScanHeader, StoredVoxels, encode, header_by_name, volumes_of

TYPES = ("float32", "uint8", "int16", "int32")
UNPLACED = "the header does not say how the scan lies in space: which side is left is not known"
LEFT_UNKNOWN = (
    "Analyze does not say which side is left; the first axis was taken to run towards it, as nibabel does"
)

# One deflate code of two bits at best stands for 258 bytes (RFC 1951): no stream expands further.
_DEFLATE_RATIO = 1032
_MGH_HEADER = 284


def mgh_header(path: Path, _: ReadRequest) -> ScanHeader:
    """Read what a MGH file says before its voxels.

    Raises:
        InputError: It is no such file, truncated, or its voxels are not real numbers.
        GeometryError: It has no usable place in space.
    """
    import nibabel as nib

    with _named(path, "MGH"):
        image = nib.MGHImage.from_filename(path)
    return _header(path, image, path, offset=_MGH_HEADER)


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
    return _header(path, image, voxels, offset=0)


def read_mgh(header: ScanHeader) -> tuple[Volume, ...]:
    """Read every volume of a MGH file.

    Raises:
        InputError: Voxels are missing, damaged or not finite.
    """
    placed = bool(header.own.header["goodRASFlag"] > 0)
    return _read(header, "mgz", (header.path,), () if placed else (UNPLACED,))


def read_analyze(header: ScanHeader) -> tuple[Volume, ...]:
    """Read every volume of a pair.

    Raises:
        InputError: Voxels are missing, damaged or not finite.
    """
    stated, notes = header.own.header, tuple[str, ...]()
    if "sform_code" in stated:
        notes = () if stated["sform_code"] or stated["qform_code"] else (UNPLACED,)
    elif not any(one.suffix == ".mat" for one in analyze_files(header.path)):
        notes = (LEFT_UNKNOWN,)
    return _read(header, "analyze", analyze_files(header.path), notes)


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
    """Return the files of a pair and the matrix that SPM kept; one whose header is missing is alone."""
    stated, voxels = pair(path)
    if not stated.is_file():
        return (path,)
    matrix = path.with_suffix(".mat")
    return (stated, voxels, matrix) if matrix.is_file() else (stated, voxels)


def _header(path: Path, image: Any, voxels: Path, offset: int) -> ScanHeader:
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "complex" if dtype.kind == "c" else "colour or of an unknown type"
        raise InputError(f"{path}: voxels are {kind}, expected real numbers; split the image into such first")
    sizes = [int(size) for size in image.shape]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if not 2 <= len(sizes) <= 4:
        raise InputError(f"{path}: {len(sizes)} axes; expected an image, a volume or a series of volumes")
    x, y, z, volumes = sizes + [1] * (4 - len(sizes))
    _check_size(path, voxels, math.prod(sizes) * dtype.itemsize, offset)
    try:
        geometry = Geometry((x, y, z), image.affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: unusable place in the header: {error}") from error
    return header_by_name(path, geometry, volumes, image)


def _check_size(path: Path, voxels: Path, declared: int, offset: int) -> None:
    with voxels.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    size = voxels.stat().st_size
    if offset + declared > size * (_DEFLATE_RATIO if packed else 1):
        raise InputError(
            f"{path}: the header declares {declared} bytes of voxels, and {size} bytes are the whole file; it "
            "is truncated or its header is damaged"
        )


def _read(header: ScanHeader, name: str, files: Sequence[Path], notes: tuple[str, ...]) -> tuple[Volume, ...]:
    image = header.own
    with _named(header.path, name):
        voxels = np.asanyarray(image.dataobj)  # scaled, where the header has a scale
        whole = voxels.reshape(*header.geometry.shape, header.volumes)
    slope, inter = (getattr(image.dataobj, key, default) for key, default in (("slope", 1.0), ("inter", 0.0)))
    details = {
        "dtype": image.get_data_dtype().newbyteorder("=").name,
        "slope": float(slope),
        "inter": float(inter),
        **({"notes": notes} if notes else {}),
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
