"""What one DICOM file says about its slice: read once, checked, and kept without any patient data."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from medrestore.errors import GeometryError, InputError

READ_ERRORS = (
    InvalidDicomError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and its decoders raise on damaged or unsupported files."""

# Alike in every file of a series, or the files are no single volume.
_SAME = [
    "Modality",
    "FrameOfReferenceUID",
    "RescaleType",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
]
_TAGS = [
    *_SAME,
    *("SOPClassUID", "ImageType", "SeriesInstanceUID", "Rows", "Columns", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "HighBit", "ModalityLUTSequence"),
    *("RescaleSlope", "RescaleIntercept"),
]
_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_PREAMBLE = 128
# How a file without the 128-byte preamble begins: a short element of group 0008.
_BARE = tuple(b"\x08\x00" + bytes([element]) + b"\x00" for element in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16))


@dataclass(frozen=True)
class Head:
    """One slice, as its file describes it; lengths in mm, vectors in LPS+ as DICOM has them.

    Attributes:
        path: The file.
        series: Series UID.
        same: What must be equal in every file of a series, by the name of the attribute.
        size: Rows and columns.
        spacing: Between rows, between columns.
        orientation: Unit vectors along a row and along a column, 2x3.
        position: Centre of the first pixel.
        thickness: Slice distance stated in the file; 1 where none is.
        scale: Rescale slope and intercept.
        syntax: Transfer syntax.
    """

    path: Path
    series: str
    same: Mapping[str, object]
    size: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[tuple[float, ...], tuple[float, ...]]
    position: tuple[float, ...]
    thickness: float
    scale: tuple[float, float]
    syntax: UID

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        kind = "i" if self.same["PixelRepresentation"] else "u"
        return np.dtype(f"{kind}{int(str(self.same['BitsAllocated'])) // 8}")

    @property
    def unused_bits(self) -> int:
        """Bits of a stored value above the ones in use; what they hold is undefined."""
        return self.dtype.itemsize * 8 - int(str(self.same["BitsStored"]))


def is_dicom(path: Path) -> bool:
    """Whether a file's first bytes are those of a DICOM file; its name does not matter."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + 4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return start[_PREAMBLE:] == b"DICM" or start.startswith(_BARE)


def read_head(path: Path) -> Head | None:
    """Read what a slice needs of a DICOM file; None for a DICOMDIR, which is an index and no image.

    Raises:
        InputError: The file is damaged or truncated, no classic single-frame greyscale image, or lacks an
            attribute that is needed.
        GeometryError: Its position, orientation or pixel size is missing or unusable.
    """
    try:
        data = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        if data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
        _check_kind(path, data)
        head = _head(path, data)
    except READ_ERRORS as error:
        raise InputError(f"{path}: damaged DICOM header ({error})") from error
    _check_length(head)
    return head


def _check_kind(path: Path, data: pydicom.Dataset) -> None:
    name = UID(data.SOPClassUID).name if data.get("SOPClassUID") else "no SOP class"
    if not data.get("Rows") or not data.get("Columns"):
        raise InputError(
            f"{path}: a DICOM object without pixels ({name}); a folder holds the images of one series"
        )
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1 or "Enhanced" in name:
        raise InputError(f"{path}: {name} with {frames} frames; only classic single-frame images are read")
    if "MOSAIC" in (data.get("ImageType") or ()):
        raise InputError(
            f"{path}: a mosaic, many slices tiled into one picture; convert it with dcm2niix first"
        )
    colour = data.get("PhotometricInterpretation", "missing")
    if data.get("SamplesPerPixel", 1) != 1 or colour != "MONOCHROME2":
        raise InputError(f"{path}: photometric interpretation {colour}, expected greyscale (MONOCHROME2)")
    if data.get("ModalityLUTSequence"):
        raise InputError(f"{path}: values go through a modality lookup table; only linear rescaling is read")
    bits = [data.get(name) for name in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")]
    if bits[0] not in (8, 16, 32) or None in bits or not 0 < bits[1] <= bits[0] or bits[2] != bits[1] - 1:
        raise InputError(
            f"{path}: pixels with bits allocated, stored, high bit and sign {bits}; expected whole bytes "
            "that hold the value in their lowest bits"
        )


def _head(path: Path, data: pydicom.Dataset) -> Head:
    orientation = np.reshape(_vector(path, data, "ImageOrientationPatient", 6), (2, 3))
    lengths = np.linalg.norm(orientation, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(orientation[0] @ orientation[1]) > 1e-2:
        raise GeometryError(
            f"{path}: image orientation {orientation.tolist()} is no pair of perpendicular unit vectors"
        )
    row, column = (orientation / lengths[:, np.newaxis]).tolist()
    spacing = _vector(path, data, "PixelSpacing", 2)
    if min(spacing) <= 0:
        raise GeometryError(f"{path}: pixel spacing {spacing}, expected two positive lengths in mm")
    distance = data.get("SpacingBetweenSlices") or data.get("SliceThickness") or 1.0
    return Head(
        path=path,
        series=str(data.get("SeriesInstanceUID", "none")),
        same={key: data.get(key) for key in _SAME},
        size=(int(data.Rows), int(data.Columns)),
        spacing=(spacing[0], spacing[1]),
        orientation=(tuple(row), tuple(column)),
        position=tuple(_vector(path, data, "ImagePositionPatient", 3)),
        thickness=abs(float(distance)),
        scale=_rescale(path, data),
        syntax=UID(str(data.file_meta.get("TransferSyntaxUID", ""))),
    )


def _vector(path: Path, data: pydicom.Dataset, name: str, size: int) -> list[float]:
    value = data.get(name)
    numbers = (
        [] if value is None or isinstance(value, str) else [float(item) for item in np.atleast_1d(value)]
    )
    if len(numbers) != size or not np.isfinite(numbers).all():
        raise GeometryError(
            f"{path}: {name} is {value!r}, expected {size} finite numbers; the slice has no place"
        )
    return numbers


def _rescale(path: Path, data: pydicom.Dataset) -> tuple[float, float]:
    slope, inter = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if data.get("Modality") == "CT" and (slope is None or inter is None):
        raise InputError(f"{path}: a CT image without rescale slope and intercept; its values are not in HU")
    pair = float(1.0 if slope is None else slope), float(0.0 if inter is None else inter)
    if not np.isfinite(pair).all() or pair[0] == 0:
        raise InputError(
            f"{path}: rescale slope and intercept {pair}, expected finite numbers and a slope other than 0"
        )
    return pair


def _check_length(head: Head) -> None:
    """Refuse sizes that the file cannot hold, where they can be told: pixels that are not compressed."""
    if head.syntax not in _UNCOMPRESSED:
        return
    wanted, size = head.size[0] * head.size[1] * head.dtype.itemsize, head.path.stat().st_size
    if wanted > size:
        raise InputError(
            f"{head.path}: header declares {head.size[0]} x {head.size[1]} pixels ({wanted} bytes) in a file "
            f"of {size} bytes; the file is truncated, get it again"
        )
