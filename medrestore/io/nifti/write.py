"""Volumes to NIfTI files, with a fresh header: geometry, units and nothing else goes out."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import nibabel as nib
import numpy as np

from medrestore.geometry import Geometry
from medrestore.io.encoding import Encoding, encode_values, encoding_of
from medrestore.io.formats import StoredVoxels
from medrestore.io.nifti.header import SYNTHETIC_TEXT
from medrestore.types import RealArray
from medrestore.volume import Volume

_HEADERS: dict[int, Any] = {1: nib.Nifti1Header, 2: nib.Nifti2Header}
# The largest axis that NIfTI-1 can hold: its sizes are int16.
_NIFTI1_AXIS = 32767
_GZIP_LEVEL = 1
_GZIP_FORMAT = 16 + zlib.MAX_WBITS  # zlib's way to say gzip
_ALIGNED = 2


def write_nifti(volumes: Sequence[Volume], path: Path, dtype: str) -> StoredVoxels:
    """Write one volume, or several on one grid as a 4-D series.

    Raises:
        OutputError: The voxel type is none of NIfTI's, or the input's is not known.
    """
    encoding = encoding_of(volumes[0], dtype)
    header = _header(volumes, encoding)
    compressed = path.name.lower().endswith(".gz")
    with path.open("wb") as file, _encoder(file, compressed, encoding.dtype) as stream:
        header.write_to(stream)
        clipped = sum(_write_voxels(stream, volume.array, encoding) for volume in volumes)
    return StoredVoxels(encoding.dtype.name, clipped)


class _Stream(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> object: ...


class _Deflated:
    """A gzip stream without name and time: the same voxels make the same bytes."""

    def __init__(self, file: BinaryIO, strategy: int) -> None:
        self._file = file
        self._pack = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT, strategy=strategy)

    def write(self, data: bytes, /) -> None:
        self._file.write(self._pack.compress(data))

    def end(self) -> None:
        self._file.write(self._pack.flush())


@contextlib.contextmanager
def _encoder(file: BinaryIO, compressed: bool, dtype: np.dtype[Any]) -> Iterator[_Stream]:
    if not compressed:
        yield file
        return
    # In the mantissas of floats nothing repeats: looking for it takes three times as long and finds less than
    # runs of equal bytes, which are the background.
    stream = _Deflated(file, zlib.Z_RLE if dtype.kind == "f" else zlib.Z_DEFAULT_STRATEGY)
    yield stream
    stream.end()


def _write_voxels(stream: _Stream, array: RealArray, encoding: Encoding) -> int:
    """Write (X, Y, Z) with X fastest, a slice at a time; return how many voxels were clipped."""
    clipped = 0
    for k in range(array.shape[2]):
        stored, count = encode_values(array[:, :, k], encoding)
        clipped += count
        stream.write(stored.tobytes(order="F"))
    return clipped


def _header(volumes: Sequence[Volume], encoding: Encoding) -> Any:
    volume = volumes[0]
    details = {} if volume.source is None else volume.source.details
    shape = volume.shape if len(volumes) == 1 else (*volume.shape, len(volumes))
    version = 2 if details.get("nifti") == 2 or max(shape) > _NIFTI1_AXIS else 1
    header = _HEADERS[version]()
    header.set_data_dtype(encoding.dtype)
    header.set_data_shape(shape)
    header.set_slope_inter(encoding.slope, encoding.inter)
    header["descrip"] = SYNTHETIC_TEXT if details.get("synthetic") is True else b"medrestore"
    step, unit = cast("tuple[float, str]", details.get("time", (0.0, "unknown")))
    header.set_xyzt_units("mm", unit if len(shape) == 4 else None)
    if len(shape) == 4:
        header["pixdim"][4] = step
    _set_orientation(header, volume.geometry, details)
    return header


def _set_orientation(header: Any, geometry: Geometry, details: Any) -> None:
    """Set sform and qform, with the input's codes wherever they still say the truth.

    The sform always carries the affine: quaternions in float32 lose up to some hundredths of a millimetre.
    Where the input had no orientation at all, the output has none either: voxel sizes alone then give the
    same place, as long as the middle of the scan is where it was.
    """
    sform, qform = int(details.get("sform_code", 0)), int(details.get("qform_code", 0))
    affine = details.get("affine")
    same_grid = affine is not None and geometry.allclose(Geometry(geometry.shape, affine))
    header.set_qform(geometry.affine, code=qform)
    if affine is not None and sform == qform == 0:
        header.set_sform(None, code=0)
        if same_grid or geometry.allclose(Geometry(geometry.shape, header.get_base_affine()), tol_mm=1e-3):
            return
    if affine is not None and details.get("qform") is not None:
        # Voxel sizes belong to the affine in use; the two forms agree on them in any sane file.
        other = np.asarray(details["qform"])
        moved = other if same_grid else other @ np.linalg.inv(np.asarray(affine)) @ geometry.affine
        header.set_qform(moved, code=qform)
    elif not sform and not qform:
        header.set_qform(geometry.affine, code=_ALIGNED)
    header.set_sform(geometry.affine, code=sform or qform or _ALIGNED)
