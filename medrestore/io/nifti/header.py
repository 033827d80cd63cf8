"""What a NIfTI header says, checked against the file before any voxel is read."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medrestore.convert import NIFTI_MM, nifti_units
from medrestore.errors import InputError, reason_of
from medrestore.findings import FIELDS_IGNORED, SYNTHETIC, Finding
from medrestore.geometry import Geometry
from medrestore.io.nifti.place import Forms, other_qform, place_of
from medrestore.io.nifti.stream import GZIP_RATIO, Unpacked, opened
from medrestore.provenance import JSON

_LOG = logging.getLogger("medrestore.io")
_LOG.addHandler(logging.NullHandler())

_KINDS: dict[int, Any] = {1: nib.Nifti1Header, 2: nib.Nifti2Header}
HEADER_SIZES = {1: 348, 2: 540}
"""Bytes of the header of each version."""

_SINGLE = {1: (344, b"n+1\x00"), 2: (4, b"n+2\x00")}
_PAIR = {1: b"ni1\x00", 2: b"ni2\x00"}
_HEADER_BYTES = 540
SYNTHETIC_TEXT = b"medrestore: SYNTHETIC, shows no patient"
"""What the field descrip says in a file of a volume that was made of noise alone."""

_NOT_REAL = {
    0: "of unknown type",
    1: "of one bit",
    32: "complex",
    128: "RGB colour",
    1792: "complex",
    2048: "complex",
    2304: "RGBA colour",
}


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
        order: Byte order, ``"<"`` or ``">"``.
        findings: What is to be known of the header.
        synthetic: Whether the file says that a model made it of noise alone.
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
    order: str
    findings: tuple[Finding, ...]
    synthetic: bool = False

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels in the file."""
        return math.prod(self.geometry.shape) * self.volumes * self.dtype.itemsize

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
        if self.synthetic:
            facts["synthetic"] = True
        if self.volumes > 1:
            facts |= {"volume": index, "volumes": self.volumes, "time": self.time}
        return facts


def begins_as_nifti(path: Path) -> bool:
    """Whether a file begins with the magic number of a single NIfTI file, compressed or not."""
    try:
        with opened(path) as stream:
            block = stream.read(_HEADER_BYTES)
    except InputError:
        return False
    return any(block[at : at + 4] == magic for at, magic in _SINGLE.values())


def read_header(path: Path) -> NiftiHeader:
    """Read and check a header; voxels are not touched and nothing of their size is allocated.

    The checksum of a compressed file is not met here, but where its voxels are read.

    Raises:
        InputError: Empty, truncated, no single-file NIfTI, voxels that are not real, sizes that make no
            sense, or more voxels declared than the file can hold.
        GeometryError: Fields that say where the scan lies make no sense, and it is not certain without them.
    """
    with opened(path) as stream:
        compressed, block = isinstance(stream, Unpacked), stream.read(_HEADER_BYTES)
    version, raw = _parse(path, block)
    mended = raw.copy()
    try:
        with np.errstate(all="ignore"):  # numbers at their ends are judged by what comes of them
            mended.check_fix(logger=_LOG, error_level=40)
            header = _interpret(path, compressed, raw, mended)
    except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
        raise InputError(f"{path}: damaged NIfTI-{version} header ({reason_of(error)})") from error
    _check_size(header)
    return header


def _parse(path: Path, block: bytes) -> tuple[int, Any]:
    """Return the NIfTI version and nibabel's header, after the checks that give the clearest messages."""
    magic = {version: block[at : at + 4] for version, (at, _) in _SINGLE.items()}
    version = next((one for one, found in magic.items() if found in (_SINGLE[one][1], _PAIR[one])), None)
    if version is None:
        sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
        if sizes & set(HEADER_SIZES.values()) and len(block) >= 4:
            if len(block) < min(HEADER_SIZES.values()):
                raise InputError(f"{path}: truncated, {len(block)} bytes where the header alone takes 348")
            raise InputError(
                f"{path}: the magic of its header is none of NIfTI's, expected n+1 or n+2; Analyze files are "
                "not read, convert them to .nii"
            )
        raise InputError(f"{path}: no NIfTI header found; expected a .nii or .nii.gz file or a DICOM series")
    if len(block) < HEADER_SIZES[version]:
        raise InputError(
            f"{path}: truncated, {len(block)} bytes where the header alone takes {HEADER_SIZES[version]}"
        )
    raw: Any = cast(Any, _KINDS[version])(block[: HEADER_SIZES[version]], check=False)
    _check_fields(path, raw, paired=magic[version] == _PAIR[version])
    return version, raw


def _check_fields(path: Path, raw: Any, *, paired: bool) -> None:
    """Refuse fields without which voxels are not what they seem, each by its name."""
    damaged = f"{path}: damaged NIfTI-{2 if raw['sizeof_hdr'] == 540 else 1} header"
    datatype, offset = int(raw["datatype"]), float(raw["vox_offset"])
    kinds = _NOT_REAL.get(datatype)
    if kinds is not None:
        raise InputError(
            f"{path}: voxels are {kinds} (NIfTI datatype {datatype}), expected real numbers; "
            "convert the image to one real value per voxel"
        )
    if datatype not in raw._data_type_codes.code:
        raise InputError(f"{damaged}: datatype is {datatype}, which NIfTI does not have")
    if not raw.single_vox_offset <= offset < math.inf:
        pairs = "; .hdr/.img pairs are not read, convert them to .nii" if paired else ""
        raise InputError(
            f"{damaged}: vox_offset is {offset:g}, expected {raw.single_vox_offset} or more{pairs}"
        )
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope and math.isfinite(slope) and not math.isfinite(inter):
        raise InputError(f"{damaged}: scl_inter is {inter:g} beside a scl_slope, expected a number")


def _interpret(path: Path, compressed: bool, raw: Any, mended: Any) -> NiftiHeader:
    shape, volumes = _sizes(path, raw)
    space, time, known = nifti_units(raw)
    forms = Forms(raw, mended, shape, NIFTI_MM[space])
    place = place_of(path, forms)
    slope, inter = mended.get_slope_inter()
    synthetic = _synthetic(raw)
    return NiftiHeader(
        path,
        compressed,
        2 if mended["sizeof_hdr"] == HEADER_SIZES[2] else 1,
        place.geometry,
        volumes,
        mended.get_data_dtype(),
        None if slope is None else (slope, inter or 0.0),
        int(raw["vox_offset"]),
        place.codes,
        other_qform(forms, place),
        (float(raw["pixdim"][4]), time),
        str(raw.endianness),
        (*place.findings, *_ignored(raw, mended, units_known=known), *synthetic),
        bool(synthetic),
    )


def _synthetic(raw: Any) -> tuple[Finding, ...]:
    """Return a finding where the file says that a model made it of noise alone."""
    if not bytes(raw["descrip"].item()).startswith(SYNTHETIC_TEXT):
        return ()
    return (SYNTHETIC.found("the file says that a model made it of noise: it shows no patient"),)


def _ignored(raw: Any, mended: Any, *, units_known: bool) -> tuple[Finding, ...]:
    """Return a finding of the fields that say nothing that is not known without them."""
    magic = bytes(raw["magic"])[:3]
    names = [name for name in ("sizeof_hdr", "bitpix") if raw[name] != mended[name]]
    names += [] if units_known else ["xyzt_units"]
    names += ["magic"] if magic.startswith(b"ni") else []
    if not names:
        return ()
    text = f"fields of the header make no sense and were not needed ({', '.join(names)})"
    return (FIELDS_IGNORED.found(text, fields=list(names)),)


def _sizes(path: Path, raw: Any) -> tuple[tuple[int, int, int], int]:
    count, *rest = (int(size) for size in raw["dim"])
    if not 2 <= count <= 7 or min(rest[:count]) < 1:
        raise InputError(
            f"{path}: header declares the sizes {[count, *rest]} (dim), expected 2 to 4 positive ones"
        )
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


def _check_size(header: NiftiHeader) -> None:
    size, declared = header.path.stat().st_size, header.voxel_bytes
    room = size * GZIP_RATIO if header.compressed else size
    if header.offset + declared > room:
        how = f"at most {room} after decompression" if header.compressed else "the whole file"
        raise InputError(
            f"{header.path}: header declares {declared} bytes of voxels from byte {header.offset}, "
            f"but {size} bytes are {how}; the file is truncated or its header is damaged"
        )
