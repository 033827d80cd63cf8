"""The slices that one DICOM file describes: read once, checked, and kept without any patient data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrestore.errors import GeometryError, InputError
from medrestore.io.dicom.parse.fields import read_place, stored_type
from medrestore.io.dicom.parse.files import READ_ERRORS, is_dicom, opened
from medrestore.io.dicom.parse.frames import frames
from medrestore.io.dicom.parse.mosaic import MOSAIC_TAGS, Mosaic, read_mosaic
from medrestore.io.dicom.parse.rescale import (
    PHILIPS_CREATOR,
    PHILIPS_INTER,
    PHILIPS_SLOPE,
    Get,
    Scaling,
    read_scaling,
)
from medrestore.io.dicom.parse.sampling import SAMPLING_TAGS, sampling_of
from medrestore.io.dicom.parse.sop_classes import SkipReason, kind_of
from medrestore.io.dicom.parse.volume_labels import (
    HINT_TAGS,
    TRAIT_TAGS,
    Traits,
    hints_of,
    image_type_of,
    traits_of,
)
from medrestore.io.sampling import Sampling

__all__ = ["READ_ERRORS", "SliceHeader", "LeftOut", "SkipReason", "is_dicom", "read_heads"]

_TAGS: list[Any] = [
    *("Modality", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID", "ImageType", "SeriesInstanceUID"),
    *(
        "SeriesNumber",
        "InstanceNumber",
        "SeriesDescription",
        "Rows",
        "Columns",
        "PixelSpacing",
        "SliceThickness",
    ),
    *("SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RealWorldValueMappingSequence"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber"),
    *(PHILIPS_CREATOR, PHILIPS_INTER, PHILIPS_SLOPE),
    *TRAIT_TAGS,
    *HINT_TAGS,
    *SAMPLING_TAGS,
    *MOSAIC_TAGS,
]
_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_Series = tuple[str, int | None, str]
# Pixels may be this many times as large as the file that holds them compressed; empty images are small.
_COMPRESSED_SHARE, _COMPRESSED_FLOOR = 1000, 1 << 26


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice, as its file describes it; lengths in mm, vectors in LPS+ as DICOM has them.

    Attributes:
        path: The file.
        frame: Number of the frame in the file, from 0.
        frames: How many frames the file has.
        series: Series UID.
        instance: SOP Instance UID.
        number: Series number.
        order: Instance number; None if none is stated.
        description: Series description.
        modality: Such as ``"MR"``.
        frame_of_reference: UID of the frame of reference; empty if the file states none.
        image_type: Values of the image type, or of the frame type.
        size: Rows and columns.
        spacing: Distance between rows and between columns.
        orientation: Unit vectors along a row and along a column, 2x3.
        position: Centre of the first pixel.
        distance: Slice distance stated in the file; 1 if none is stated.
        thickness: Slice thickness stated in the file; None if none is stated.
        traits: Values that tell the volumes of a series apart: echo, b-value, time, stack.
        hints: Values that may tell the volumes apart where traits do not.
        dtype: Type of the stored values.
        bits: How many bits of a stored value are in use, the lowest ones.
        scaling: How stored values become values.
        syntax: Transfer syntax.
        sampling: What the header states of how the slice was sampled.
        concatenation: UID of the concatenation that the file is a part of, number of the part from 1, and
            the number of parts (0 if not stated); None if the file is part of none.
        tiles: Slices along each side of the picture, if the slice is a tile of a Siemens mosaic; then `frame`
            and `frames` count tiles.
    """

    path: Path
    frame: int
    frames: int
    series: str
    instance: str
    number: int | None
    order: int | None
    description: str
    modality: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    size: tuple[int, int]
    spacing: tuple[float, float]
    orientation: tuple[tuple[float, ...], tuple[float, ...]]
    position: tuple[float, ...]
    distance: float
    thickness: float | None
    traits: Traits
    hints: Traits
    dtype: np.dtype[Any]
    bits: int
    scaling: Scaling
    syntax: UID
    sampling: Sampling
    concatenation: tuple[str, int, int] | None = None
    tiles: int = 1

    @property
    def scale(self) -> tuple[float, float]:
        """Rescale slope and intercept."""
        return self.scaling.rescale.slope, self.scaling.rescale.inter

    @property
    def unused_bits(self) -> int:
        """Bits of a stored value above the bits in use; their content is undefined."""
        return self.dtype.itemsize * 8 - self.bits

    @property
    def compressed(self) -> bool:
        """Whether the pixels go through a codec."""
        return self.syntax not in (*_UNCOMPRESSED, DeflatedExplicitVRLittleEndian, "")

    @property
    def name(self) -> str:
        """Name of the file, and the number of the frame if there are several."""
        return self.path.name if self.frames == 1 else f"{self.path.name} frame {self.frame + 1}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file without a usable slice.

    Attributes:
        path: The file.
        why: Kind of reason.
        text: The reason in words, beginning with the path.
        series: Series UID; empty where it cannot be told.
        number: Series number.
        description: Series description.
    """

    path: Path
    why: SkipReason
    text: str
    series: str = ""
    number: int | None = None
    description: str = ""


def read_heads(path: Path) -> tuple[SliceHeader, ...] | LeftOut:
    """Read the headers of the slices of a DICOM file, or why it has no usable slice; raises nothing."""
    series: _Series = "", None, ""
    try:
        with opened(path) as stream:
            data = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        number = data.get("SeriesNumber")
        series = (
            str(data.get("SeriesInstanceUID") or ""),
            None if number is None else int(number),
            str(data.get("SeriesDescription") or "").strip(),
        )
        why, text = kind_of(data)
        mosaic = read_mosaic(data) if why is SkipReason.MOSAIC else None
        if why is not None and mosaic is None:
            return LeftOut(path, why, f"{path}: {text}", *series)
        heads = tuple(_head(path, data, n, get, series) for n, get in enumerate(frames(data)))
        if mosaic is not None:
            heads = _unfold(heads[0], mosaic)
        _check_length(heads)
    except GeometryError as error:
        return LeftOut(path, SkipReason.NO_PLACE, str(error), *series)
    except InputError as error:
        return LeftOut(path, SkipReason.UNUSABLE, str(error), *series)
    except READ_ERRORS as error:
        return LeftOut(path, SkipReason.DAMAGED, f"{path}: damaged DICOM header ({_reason(error)})", *series)
    return heads


def _reason(error: BaseException) -> str:
    return (next(iter(str(error).splitlines()), "") or type(error).__name__)[:200]


def _head(path: Path, data: pydicom.Dataset, number: int, get: Get, series: _Series) -> SliceHeader:
    count = int(data.get("NumberOfFrames") or 1)
    where = str(path) if count == 1 else f"{path}: frame {number + 1}"
    place = read_place(where, get)
    thickness, between = (get(name) for name in ("SliceThickness", "SpacingBetweenSlices"))
    dtype, bits = stored_type(where, get)
    image_type, size = image_type_of(get), (int(data.Rows), int(data.Columns))
    return SliceHeader(
        path=path,
        frame=number,
        frames=count,
        series=series[0],
        instance=str(data.get("SOPInstanceUID") or ""),
        number=series[1],
        order=int(data.InstanceNumber) if data.get("InstanceNumber") is not None else None,
        description=series[2],
        modality=str(data.get("Modality") or ""),
        frame_of_reference=str(data.get("FrameOfReferenceUID") or ""),
        image_type=image_type,
        size=size,
        spacing=place.spacing,
        orientation=place.orientation,
        position=place.position,
        distance=abs(float(between or thickness or 1.0)),
        thickness=abs(float(thickness)) if thickness else None,
        traits=traits_of(get),
        hints=(*hints_of(get), *((("file", str(path)),) if count > 1 else ())),
        dtype=dtype,
        bits=bits,
        scaling=read_scaling(get, where),
        syntax=UID(str(data.file_meta.get("TransferSyntaxUID", ""))),
        concatenation=_concatenation(data),
        sampling=sampling_of(get, image_type, size, place.spacing),
    )


def _unfold(head: SliceHeader, mosaic: Mosaic) -> tuple[SliceHeader, ...]:
    """Return the slices of a mosaic."""
    rows, columns = (pixels // mosaic.side for pixels in head.size)
    places = mosaic.positions(
        np.asarray(head.position), np.asarray(head.orientation), head.spacing, head.size
    )
    tile = replace(
        head,
        frames=mosaic.count,
        size=(rows, columns),
        tiles=mosaic.side,
        hints=(*head.hints, ("file", str(head.path))),
    )
    return tuple(replace(tile, frame=k, position=tuple(place)) for k, place in enumerate(places.tolist()))


def _concatenation(data: pydicom.Dataset) -> tuple[str, int, int] | None:
    if not data.get("ConcatenationUID"):
        return None
    part, total = (
        int(data.get(name) or 0) for name in ("InConcatenationNumber", "InConcatenationTotalNumber")
    )
    return str(data.ConcatenationUID), part, total


def _check_length(heads: tuple[SliceHeader, ...]) -> None:
    """Refuse sizes that the file cannot hold, before memory of that size is asked for."""
    head = heads[0]
    rows, columns = head.size
    wanted, size = rows * columns * head.dtype.itemsize * head.frames, head.path.stat().st_size
    plain = head.syntax in _UNCOMPRESSED
    room = size if plain else max(size * _COMPRESSED_SHARE, _COMPRESSED_FLOOR)
    if wanted > room:
        raise InputError(
            f"{head.path}: header declares {head.frames} x {rows} x {columns} pixels ({wanted} bytes) in a "
            f"file of {size} bytes; the file is truncated or its header is damaged, get it again"
        )
