"""What a NIfTI header says, checked against the file before any voxel is read."""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medrestore.errors import GeometryError, InputError
from medrestore.findings import PLACE_NOT_STATED
from medrestore.geometry import Geometry
from medrestore.provenance import JSON

GZIP_MAGIC = b"\x1f\x8b"

_LOG = logging.getLogger("medrestore.io")
_LOG.addHandler(logging.NullHandler())

_VERSIONS = {348: (1, nib.Nifti1Header), 540: (2, nib.Nifti2Header)}
_SINGLE = {1: (344, b"n+1\x00"), 2: (4, b"n+2\x00")}
_HEADER_BYTES = 540
# One deflate code of two bits at best stands for 258 bytes (RFC 1951): no stream expands further.
_GZIP_RATIO = 1032
_NOT_REAL = {
    0: "of unknown type",
    1: "of one bit",
    32: "complex",
    128: "RGB colour",
    1792: "complex",
    2048: "complex",
    2304: "RGBA colour",
}
UNPLACED = PLACE_NOT_STATED.found(
    "the header does not say how the scan lies in space (sform and qform codes 0): "
    "which side is left is not known"
)
_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True)
class NiftiHeader:
    """The part of a NIfTI header that medrestore uses; everything else stays behind, text fields above all.

    Attributes:
        path: The file.
        compressed: Whether the file is a gzip stream.
        version: NIfTI version, 1 or 2.
        geometry: Grid of one volume, RAS+ mm; nibabel's choice among sform, qform and voxel sizes.
        volumes: Time points; 1 for an image or a volume.
        dtype: Voxel type on disk, with its byte order.
        scale: Slope and intercept, or None where the header sets none.
        offset: Bytes before the first voxel (in the uncompressed stream).
        codes: sform and qform code, 0 where not set.
        qform: The qform affine in mm where it is not the one in `geometry`, else None.
        time: Time step and its unit (``"sec"``, ``"msec"``, ...).
    """

    path: Path
    compressed: bool
    version: int
    geometry: Geometry
    volumes: int
    dtype: np.dtype[Any]
    scale: tuple[float, float] | None
    offset: int
    codes: tuple[int, int]
    qform: tuple[tuple[float, ...], ...] | None
    time: tuple[float, str]

    def details(self, index: int) -> dict[str, JSON]:
        """Return the on-disk facts of volume `index` that a writer needs."""
        slope, inter = self.scale or (1.0, 0.0)
        facts: dict[str, JSON] = {
            "nifti": self.version,
            "dtype": self.dtype.newbyteorder("=").name,
            "slope": slope,
            "inter": inter,
            "sform_code": self.codes[0],
            "qform_code": self.codes[1],
            "affine": self.geometry.affine.tolist(),
            "qform": self.qform,
        }
        if self.codes == (0, 0):
            facts["findings"] = (UNPLACED.as_json(),)
        if self.volumes > 1:
            facts |= {"volume": index, "volumes": self.volumes, "time": self.time}
        return facts


@contextlib.contextmanager
def opened(path: Path, compressed: bool) -> Iterator[BinaryIO]:
    """Open a file or a gzip stream; damage met in the body becomes an InputError that names the file."""
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except EOFError as error:
        raise InputError(
            f"{path}: the gzip stream ends early; the file is truncated, get it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip stream ({error}); get the file again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def begins_as_nifti(path: Path) -> bool:
    """Whether a file begins with the magic number of a single NIfTI file, compressed or not."""
    try:
        with path.open("rb") as stream:
            compressed = stream.read(2) == GZIP_MAGIC
        with opened(path, compressed) as stream:
            block = stream.read(_HEADER_BYTES)
    except (InputError, OSError):
        return False
    return any(block[at : at + 4] == magic for at, magic in _SINGLE.values())


def read_header(path: Path) -> NiftiHeader:
    """Read and check a header; voxels are not touched and nothing of their size is allocated.

    Raises:
        InputError: Empty, truncated, no single-file NIfTI, voxels that are not real, sizes that make no
            sense, or more voxels declared than the file can hold.
        GeometryError: The affine is NaN, infinite or singular, a form code is none of NIfTI's, or a voxel
            size that is needed is 0.
    """
    with opened(path, compressed=False) as stream:
        start = stream.read(2)
    if not start:
        raise InputError(f"{path}: the file is empty (0 bytes), expected a NIfTI image")
    compressed = start == GZIP_MAGIC
    with opened(path, compressed) as stream:
        block = stream.read(_HEADER_BYTES)
    version, raw = _parse(path, block)
    stated = _place_fields(raw)
    try:
        raw.check_fix(logger=_LOG, error_level=40)
        _check_place(path, raw, stated)
        header = _interpret(path, compressed, version, raw)
    except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise InputError(f"{path}: damaged NIfTI-{version} header ({error})") from error
    _check_size(header)
    return header


def _parse(path: Path, block: bytes) -> tuple[int, Any]:
    """Return the NIfTI version and nibabel's header, after the checks that give the clearest messages."""
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")} if len(block) >= 4 else set()
    size = next((size for size in _VERSIONS if size in sizes), None)
    if size is None:
        raise InputError(f"{path}: no NIfTI header found; expected a .nii or .nii.gz file or a DICOM series")
    if len(block) < size:
        raise InputError(f"{path}: truncated, {len(block)} bytes where the header alone takes {size}")
    version, kind = _VERSIONS[size]
    at, magic = _SINGLE[version]
    found = block[at : at + 4]
    if found != magic:
        raise InputError(
            f"{path}: header with magic {found!r}, expected {magic!r}; "
            "Analyze files and .hdr/.img pairs are not read, convert them to .nii"
        )
    raw: Any = cast(Any, kind)(block[:size], check=False)
    kinds = _NOT_REAL.get(int(raw["datatype"]))
    if kinds is not None:
        raise InputError(
            f"{path}: voxels are {kinds} (NIfTI datatype {int(raw['datatype'])}), expected real numbers; "
            "convert the image to one real value per voxel"
        )
    return version, raw


def _place_fields(raw: Any) -> dict[str, float]:
    return {
        "sform_code": float(raw["sform_code"]),
        "qform_code": float(raw["qform_code"]),
        **{f"pixdim[{axis}]": float(raw["pixdim"][axis]) for axis in (1, 2, 3)},
    }


def _check_place(path: Path, raw: Any, stated: dict[str, float]) -> None:
    """Refuse what nibabel has mended by guessing: a code that it does not know, a voxel size of 0."""
    for name, value in _place_fields(raw).items():
        axis = int(name[7]) if name.startswith("pixdim") else None
        # A sform needs no voxel sizes, and those of an axis with one voxel say nothing.
        idle = axis is not None and (raw["sform_code"] != 0 or axis > raw["dim"][0] or raw["dim"][axis] == 1)
        if value != abs(stated[name]) and not idle:
            raise GeometryError(
                f"{path}: {name} is {stated[name]:g} in the header, so that it does not say where the scan "
                "lies; set it right (nibabel, fslorient or fslchpixdim can)"
            )


def _interpret(path: Path, compressed: bool, version: int, raw: Any) -> NiftiHeader:
    shape, volumes = _sizes(path, raw)
    space, time = _units(raw)
    slope, inter = raw.get_slope_inter()
    codes = int(raw["sform_code"]), int(raw["qform_code"])
    geometry = _geometry(path, raw, shape, _MM[space])
    return NiftiHeader(
        path,
        compressed,
        version,
        geometry,
        volumes,
        raw.get_data_dtype(),
        None if slope is None else (slope, inter or 0.0),
        raw.get_data_offset() or raw.single_vox_offset,
        codes,
        _other_qform(raw, geometry, _MM[space]) if codes[1] else None,
        (float(raw["pixdim"][4]), time),
    )


def _units(raw: Any) -> tuple[str, str]:
    try:
        space, time = raw.get_xyzt_units()
    except KeyError:
        # Codes that NIfTI does not define mean no more than an unset field.
        return "unknown", "unknown"
    return (str(space), str(time)) if space in _MM else ("unknown", str(time))


def _sizes(path: Path, raw: Any) -> tuple[tuple[int, int, int], int]:
    count, *rest = (int(size) for size in raw["dim"])
    if not 2 <= count <= 7 or min(rest[:count]) < 1:
        raise InputError(f"{path}: header declares the sizes {[count, *rest]}, expected 2 to 4 positive ones")
    sizes = rest[:count]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4:
        raise InputError(
            f"{path}: {len(sizes)} axes, {' x '.join(map(str, sizes))}; expected an image, a volume or a "
            "series of volumes (vector and tensor images are not scans)"
        )
    x, y, z, volumes = sizes + [1] * (4 - len(sizes))
    return (x, y, z), volumes


def _geometry(path: Path, raw: Any, shape: tuple[int, int, int], to_mm: float) -> Geometry:
    code = "sform" if raw["sform_code"] else "qform" if raw["qform_code"] else "voxel sizes"
    try:
        return Geometry(shape, _in_mm(raw.get_best_affine(), to_mm))
    except (GeometryError, HeaderDataError, ValueError) as error:
        raise GeometryError(f"{path}: unusable {code} in the header: {error}") from error


def _in_mm(affine: Any, to_mm: float) -> Any:
    matrix = np.array(affine, dtype=np.float64)
    matrix[:3] *= to_mm
    return matrix


def _other_qform(raw: Any, geometry: Geometry, to_mm: float) -> tuple[tuple[float, ...], ...] | None:
    """Return the qform where it says something else than the affine in use (a template's sform, say)."""
    try:
        qform = Geometry(geometry.shape, _in_mm(raw.get_qform(), to_mm))
    except (GeometryError, HeaderDataError, ValueError):
        return None
    # Quaternions in float32 are good for some hundredths of a millimetre at the corner of a head.
    if geometry.allclose(qform, tol_mm=0.05):
        return None
    return tuple(tuple(row) for row in qform.affine.tolist())


def _check_size(header: NiftiHeader) -> None:
    size = header.path.stat().st_size
    declared = math.prod(header.geometry.shape) * header.volumes * header.dtype.itemsize
    room = size * _GZIP_RATIO if header.compressed else size
    if header.offset + declared > room:
        how = f"at most {room} after decompression" if header.compressed else "the whole file"
        raise InputError(
            f"{header.path}: header declares {declared} bytes of voxels from byte {header.offset}, "
            f"but {size} bytes are {how}; the file is truncated or its header is damaged"
        )
