"""The slices that one DICOM file describes: read once, checked, and kept without any patient data."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
from medrestore.findings import CLASS_NOT_STATED, MALFORMED_ELEMENTS, TILES_NOT_BELIEVED
from medrestore.io.dicom.parse.doubts import Doubt, Oddity
from medrestore.io.dicom.parse.elements import DamagedElementError, Elements, tag_in
from medrestore.io.dicom.parse.fields import bits_of, read_place, stored_type
from medrestore.io.dicom.parse.files import READ_ERRORS, is_dicom, quietly, read_header
from medrestore.io.dicom.parse.frames import frame_count, frames
from medrestore.io.dicom.parse.rescale import (
    PHILIPS_CREATOR,
    PHILIPS_INTER,
    PHILIPS_SLOPE,
    Scaling,
    doubts_about_scale,
    read_scaling,
)
from medrestore.io.dicom.parse.sampling import SAMPLING_TAGS, sampling_of
from medrestore.io.dicom.parse.sop_classes import Kind, SkipReason, kind_of
from medrestore.io.dicom.parse.tiling import (
    TILING_TAGS,
    TiledError,
    Tiles,
    place_of_tiles,
    read_tiles,
    says_tiled,
)
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
    *("ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber", "BurnedInAnnotation"),
    *(PHILIPS_CREATOR, PHILIPS_INTER, PHILIPS_SLOPE),
    *TRAIT_TAGS,
    *HINT_TAGS,
    *SAMPLING_TAGS,
    *TILING_TAGS,
]
_UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
# Pixels may be this many times as large as the file that holds them compressed; empty images are small.
_COMPRESSED_SHARE, _COMPRESSED_FLOOR = 1000, 1 << 26
_UID = re.compile(r"[\w.-]{1,64}")


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
        tiles: Slices along a row of the picture, if the slice is a tile of one; then `frame` and `frames`
            count tiles.
        tiles_down: Slices along a column of the picture.
        shift: How many bits lie below those in use.
        doubts: What the header leaves open of the values.
        oddities: What was odd about the file.
        captured: Whether its class is that of pictures of any kind.
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
    tiles_down: int = 1
    shift: int = 0
    doubts: tuple[Doubt, ...] = ()
    oddities: tuple[Oddity, ...] = ()
    captured: bool = False

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
        return _is_compressed(self.syntax)

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


class _Series(NamedTuple):
    """UID, number and description of a series."""

    uid: str = ""
    number: int | None = None
    description: str = ""


def read_heads(path: Path) -> tuple[SliceHeader, ...] | LeftOut:
    """Read the headers of the slices of a DICOM file, or why it has no usable slice; raises nothing."""
    with quietly():
        return _read_heads(path)


def _read_heads(path: Path) -> tuple[SliceHeader, ...] | LeftOut:
    series = _Series()
    try:
        data, pixels, is_cut = read_header(path, _TAGS)
        plain = Elements(str(path), [data])
        series = _series(plain)
        if is_cut:
            raise DamagedElementError(f"{path}: the file ends within its header; get it again or remove it")
        kind = kind_of(data, next(frames(data, str(path), plain.odd)))
        if kind.why is not None:
            return LeftOut(path, kind.why, f"{path}: {kind.text}", *series)
        if not pixels:
            return LeftOut(path, SkipReason.NO_PIXELS, f"{path}: {_WITHOUT_PIXELS}", *series)
        _check_length(path, plain, UID(str(data.file_meta.get("TransferSyntaxUID", ""))), pixels)
        tiles = read_tiles(data, plain, str(path))
        images = (
            frames(data, str(path), plain.odd) if tiles is None else [place_of_tiles(data, plain, str(path))]
        )
        heads = tuple(_head(path, data, n, get, series) for n, get in enumerate(images))
        if tiles is not None:
            heads = _unfold(heads[0], tiles)
        return tuple(_judged(head, kind, tiles, plain) for head in heads)
    except (DamagedElementError, TiledError) as error:
        why = SkipReason.MOSAIC if isinstance(error, TiledError) else SkipReason.DAMAGED
        return LeftOut(path, why, str(error), *series)
    except GeometryError as error:
        return LeftOut(path, SkipReason.NO_PLACE, str(error), *series)
    except InputError as error:
        return LeftOut(path, SkipReason.UNUSABLE, str(error), *series)
    except READ_ERRORS as error:
        what = f"damaged DICOM header ({type(error).__name__}{tag_in(error)})"
        text = f"{path}: {what}; get the file again or remove it"
        return LeftOut(path, SkipReason.DAMAGED, text, *series)


_WITHOUT_PIXELS = "without pixels, where its header describes some; the file is cut short, get it again"


def _series(get: Elements) -> _Series:
    uid, number = str(get("SeriesInstanceUID") or ""), get("SeriesNumber")
    if uid and not _UID.fullmatch(uid):
        # What no UID looks like is not repeated, and tells series apart all the same.
        uid = f"damaged-{hashlib.sha256(uid.encode()).hexdigest()[:16]}"
    return _Series(uid, _whole(number), str(get("SeriesDescription") or "").strip())


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None


def _head(path: Path, data: pydicom.Dataset, number: int, get: Elements, series: _Series) -> SliceHeader:
    count = frame_count(get)
    where = str(path) if count == 1 else f"{path}: frame {number + 1}"
    place = read_place(where, get)
    thickness, between = (get(name) for name in ("SliceThickness", "SpacingBetweenSlices"))
    dtype = stored_type(where, get)
    image_type, size = image_type_of(get), (int(get("Rows")), int(get("Columns")))
    return SliceHeader(
        path=path,
        frame=number,
        frames=count,
        series=series.uid,
        instance=str(data.get("SOPInstanceUID") or ""),
        number=series.number,
        order=_whole(get("InstanceNumber")),
        description=series.description,
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
        bits=bits_of(get).stored,
        scaling=read_scaling(get, where),
        syntax=UID(str(data.file_meta.get("TransferSyntaxUID", ""))),
        concatenation=_concatenation(data),
        sampling=sampling_of(get, image_type, size, place.spacing),
        doubts=(*bits_of(get).doubts, *_doubts(get)),
    )


def _doubts(get: Elements) -> tuple[Doubt, ...]:
    inverted = str(get("PhotometricInterpretation")).strip() == "MONOCHROME1"
    return ((Doubt.INVERTED,) if inverted else ()) + doubts_about_scale(get)


def _judged(head: SliceHeader, kind: Kind, tiles: Tiles | None, get: Elements) -> SliceHeader:
    """Return a slice with what is odd about its file, and the doubts that follow from it."""
    odd = [Oddity(MALFORMED_ELEMENTS.code, f"malformed {name}") for name in get.odd]
    doubts = head.doubts
    if kind.text:
        odd.append(Oddity(CLASS_NOT_STATED.code, kind.text))
        if head.modality == "CT" and head.scaling.rescale.units != "HU" and head.scaling.table is None:
            doubts = (*doubts, Doubt.CLASS)
    if tiles is None and head.frames == 1 and says_tiled(get):
        odd.append(Oddity(TILES_NOT_BELIEVED.code, "image type of a mosaic, picture of one slice"))
    return replace(head, oddities=tuple(odd), doubts=doubts, captured=kind.captured)


def _unfold(head: SliceHeader, tiles: Tiles) -> tuple[SliceHeader, ...]:
    """Return the slices that are tiled into a picture."""
    tile = replace(
        head,
        frames=len(tiles.positions),
        size=(head.size[0] // tiles.down, head.size[1] // tiles.across),
        tiles=tiles.across,
        tiles_down=tiles.down,
        hints=(*head.hints, ("file", str(head.path))),
    )
    return tuple(
        replace(tile, frame=k, position=tuple(place)) for k, place in enumerate(tiles.positions.tolist())
    )


def _concatenation(data: pydicom.Dataset) -> tuple[str, int, int] | None:
    if not data.get("ConcatenationUID"):
        return None
    part, total = (
        int(data.get(name) or 0) for name in ("InConcatenationNumber", "InConcatenationTotalNumber")
    )
    return str(data.ConcatenationUID), part, total


def _is_compressed(syntax: UID) -> bool:
    return syntax not in (*_UNCOMPRESSED, DeflatedExplicitVRLittleEndian, "")


def _check_length(path: Path, get: Elements, syntax: UID, size: int) -> None:
    """Refuse sizes that the file cannot hold, before memory of that size is asked for.

    Args:
        path: The file.
        get: Looks its attributes up.
        syntax: Transfer syntax.
        size: Bytes of pixels in the file.
    """
    rows, columns, count = int(get("Rows")), int(get("Columns")), frame_count(get)
    wanted = rows * columns * stored_type(str(path), get).itemsize * count
    room = max(size * _COMPRESSED_SHARE, _COMPRESSED_FLOOR) if _is_compressed(syntax) else size
    if wanted > room:
        raise DamagedElementError(
            f"{path}: pixels cannot be decoded: the header declares {count} x {rows} x {columns} pixels "
            f"({wanted} bytes) in a file of {path.stat().st_size} bytes; the file is truncated or its header "
            "is damaged, get it again"
        )
