"""The slices that one DICOM file describes: read once, checked, and kept without any patient data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.uid import UID

from medrestore.errors import GeometryError, InputError
from medrestore.findings import (
    CLASS_NOT_STATED,
    MALFORMED_ELEMENTS,
    TILES_NOT_BELIEVED,
    VOXEL_SIZE_DOUBTED,
)
from medrestore.io.dicom.parse.doubts import Doubt, noted
from medrestore.io.dicom.parse.elements import DamagedElementError, Elements, named, tag_in
from medrestore.io.dicom.parse.fields import bits_of, read_place, stored_type, too_wide
from medrestore.io.dicom.parse.files import READ_ERRORS, is_dicom, quietly, read_header
from medrestore.io.dicom.parse.frames import frame_count, frames
from medrestore.io.dicom.parse.rescale import (
    PHILIPS_CREATOR,
    PHILIPS_INTER,
    PHILIPS_SLOPE,
    doubts_about_scale,
    read_scaling,
)
from medrestore.io.dicom.parse.sampling import SAMPLING_TAGS, sampling_of
from medrestore.io.dicom.parse.slices import LeftOut, SliceHeader, is_compressed
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
    hints_of,
    image_type_of,
    traits_of,
)

__all__ = ["READ_ERRORS", "SliceHeader", "LeftOut", "SkipReason", "is_dicom", "read_heads"]

_TAGS: list[Any] = [
    *("Modality", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID", "ImageType", "SeriesInstanceUID"),
    *("SeriesNumber", "SeriesDescription", "InstanceNumber"),
    *("Rows", "Columns", "PixelSpacing", "SliceThickness", "ReconstructionDiameter"),
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
# Pixels may be this many times as large as the file that holds them compressed; empty images are small.
_COMPRESSED_SHARE, _COMPRESSED_FLOOR = 1000, 1 << 26
_UID = re.compile(r"[\w.-]{1,64}")


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
        data, pixels, cut = read_header(path, _TAGS)
        plain = Elements(str(path), [data])
        series = _series(plain)
        if cut:
            raise DamagedElementError(f"{path}: the file ends within its {cut}; get it again or remove it")
        if not series.uid and plain("SeriesInstanceUID"):
            what = f"{named('SeriesInstanceUID')} is no UID; the file is damaged, get it again or remove it"
            raise DamagedElementError(f"{path}: {what}")
        kind = kind_of(data, next(frames(data, str(path), plain.odd)))
        if kind.why is not None:
            return LeftOut(path, kind.why, f"{path}: {kind.text}", *series)
        if not pixels:
            return LeftOut(path, SkipReason.NO_PIXELS, f"{path}: {_WITHOUT_PIXELS}", *series)
        _check_length(path, plain, UID(_plain(data.file_meta.get("TransferSyntaxUID"))), pixels)
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
    description = str(get("SeriesDescription") or "").strip()
    return _Series(_plain(get("SeriesInstanceUID")), _whole(get("SeriesNumber")), description)


def _plain(value: object) -> str:
    """Return a word or a UID; nothing where damage has made it anything else, which is not repeated."""
    text = str(value or "").strip()
    return text if _UID.fullmatch(text) else ""


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
        modality=_plain(data.get("Modality")),
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
        syntax=UID(_plain(data.file_meta.get("TransferSyntaxUID"))),
        concatenation=_concatenation(data),
        sampling=sampling_of(get, image_type, size, place.spacing),
        doubts=(*bits_of(get).doubts, *_doubts(get)),
    )


def _doubts(get: Elements) -> tuple[Doubt, ...]:
    inverted = str(get("PhotometricInterpretation")).strip() == "MONOCHROME1"
    return ((Doubt.INVERTED,) if inverted else ()) + doubts_about_scale(get)


def _judged(head: SliceHeader, kind: Kind, tiles: Tiles | None, get: Elements) -> SliceHeader:
    """Return a slice with what is odd about its file, and the doubts that follow from it."""
    odd = [noted(MALFORMED_ELEMENTS.found(f"malformed {name}")) for name in get.odd]
    doubts = head.doubts
    if kind.text:
        odd.append(noted(CLASS_NOT_STATED.found(kind.text)))
        if head.modality == "CT" and head.scaling.rescale.units != "HU" and head.scaling.table is None:
            doubts = (*doubts, Doubt.CLASS)
    if tiles is None and head.frames == 1 and says_tiled(get):
        odd.append(noted(TILES_NOT_BELIEVED.found("image type of a mosaic, picture of one slice")))
    if wide := too_wide(get, head.size, head.spacing):
        odd.append(noted(VOXEL_SIZE_DOUBTED.found(wide)))
    return replace(head, oddities=tuple(odd), doubts=doubts, otherwise=kind.otherwise)


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
    room = max(size * _COMPRESSED_SHARE, _COMPRESSED_FLOOR) if is_compressed(syntax) else size
    if wanted > room:
        raise DamagedElementError(
            f"{path}: pixels cannot be decoded: the header declares {count} x {rows} x {columns} pixels "
            f"({wanted} bytes) in a file of {path.stat().st_size} bytes; the file is truncated or its header "
            "is damaged, get it again"
        )
