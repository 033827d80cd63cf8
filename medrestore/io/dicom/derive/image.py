"""Place, values and compression history in the header of one derived image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from medrestore.io.dicom.derive.grid import Placement
from medrestore.io.dicom.derive.source import SourceSlice
from medrestore.io.dicom.derive.values import BITS, Encoding

_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Name of the lossy method by transfer syntax (PS3.3 C.7.6.1.1.5.1). J2K and HTJ2K may be lossless too."""

_ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81")
# Facts of the acquired matrix, wrong on another grid.
_OF_THE_GRID = (
    *("SpatialResolution", "PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription"),
    "GantryDetectorTilt",  # a tilted stack was resampled, or its slices made anew
)


@dataclass(frozen=True)
class Lossy:
    """Lossy compression in the history of an image: ratios and methods; empty where they are not known."""

    ratios: tuple[float, ...] = ()
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """Range of rescaled values to show as grey."""

    centre: float
    width: float


def lossy_history(sources: Sequence[SourceSlice]) -> Lossy | None:
    """Return the compression with loss of a series; None where no image of it has lost anything.

    One image with losses makes a lossy series: a restored voxel depends on the slices around it.
    """
    found = [history for source in sources if (history := _lossy(source)) is not None]
    # The image that states most, and among these the worst: an average of ratios would be true of none.
    return max(found, key=lambda item: (len(item.ratios), item.ratios), default=None)


def _lossy(source: SourceSlice) -> Lossy | None:
    data = source.data
    syntax = str(data.file_meta.get("TransferSyntaxUID", ""))
    stated = str(data.get("LossyImageCompression") or "") == "01"
    ratios = tuple(float(value) for value in _values(data, "LossyImageCompressionRatio"))
    methods = tuple(str(value) for value in _values(data, "LossyImageCompressionMethod"))
    if not stated and syntax not in _ALWAYS_LOSSY:
        return None
    if not ratios and syntax in _METHODS:
        # The header does not state the ratio of a lossy image: estimate it from the size of the file.
        bits = int(data.get("BitsAllocated", BITS))
        pixels = source.head.frames * source.size[0] * source.size[1] * bits // 8
        ratios = (round(pixels / max(source.path.stat().st_size, 1), 2),)
    if not methods and syntax in _METHODS:
        methods = (_METHODS[syntax],)
    return Lossy(ratios, methods)


def _values(data: Dataset, name: str) -> list[Any]:
    value = data.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, int, float)) else list(value)


def set_place(data: Dataset, place: Placement, source: SourceSlice, *, alone: bool, way: int | None) -> None:
    """Write where the slice lies.

    Args:
        data: Header of the image, copied from the source.
        place: Where the slice lies.
        source: The slice of the source that is nearest.
        alone: Whether the volume is a single slice.
        way: Whether the source counts its slice locations along the normal, 1, or against it, -1; None where
            it does neither.
    """
    data.Columns, data.Rows = place.size
    data.ImagePositionPatient = [ds(value) for value in place.position]
    data.ImageOrientationPatient = [ds(value) for value in place.axes.ravel()]
    data.PixelSpacing = [ds(place.spacing[1]), ds(place.spacing[0])]
    if not alone:
        data.SpacingBetweenSlices = ds(place.spacing[2])
    if place.preserved:
        return
    data.SliceThickness = ds(place.spacing[2])
    data.pop("SliceLocation", None)
    if way is not None:
        moved = float((place.position - source.position) @ source.normal)
        data.SliceLocation = ds(float(source.data.SliceLocation) + moved * way)
    for name in _OF_THE_GRID:
        data.pop(name, None)
    if abs(float(place.normal @ source.normal)) < 1 - 1e-6:
        data.pop("PatientOrientation", None)


def way_of_locations(sources: Sequence[SourceSlice]) -> int | None:
    """Return 1 or -1: whether a volume counts its slice locations along its normal or against it.

    Locations may start anywhere, so that a single location tells nothing. None where a location is missing,
    or where they do not all go the same way.
    """
    stated = [source.data.get("SliceLocation") for source in sources]
    if not all(isinstance(value, float) for value in stated):
        return None
    along = np.asarray([source.position @ sources[0].normal for source in sources])
    steps = np.diff(np.asarray(stated, dtype=np.float64)) * np.sign(np.diff(along))
    return next((way for way in (1, -1) if bool(np.all(way * steps > 0))), None)


def set_values(data: Dataset, encoding: Encoding, window: Window | None, hounsfield: bool) -> None:
    """Write the scale of the stored values, and the window; None keeps the window of the source."""
    set_pixels(data, encoding)
    if data.SOPClassUID == CTImageStorage or not encoding.is_plain:
        data.RescaleSlope, data.RescaleIntercept = exact(encoding.slope), exact(encoding.inter)
        data.RescaleType = "HU" if hounsfield else "US"
    if window is not None:
        set_window(data, window)


def set_pixels(data: Dataset, encoding: Encoding) -> None:
    """Write how pixels are stored."""
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = BITS
    data.HighBit, data.PixelRepresentation = BITS - 1, int(encoding.signed)
    if encoding.padding is not None:
        first, last = encoding.padding
        data.add_new("PixelPaddingValue", "SS" if encoding.signed else "US", first)
        if last != first:
            data.add_new("PixelPaddingRangeLimit", "SS" if encoding.signed else "US", last)


def set_window(data: Dataset, window: Window) -> None:
    """Write a window instead of the source's."""
    for name in ("WindowCenterWidthExplanation", "VOILUTFunction"):
        if name in data:
            delattr(data, name)
    data.WindowCenter, data.WindowWidth = exact(window.centre), exact(window.width)
    if window.width < 1:
        data.VOILUTFunction = "LINEAR_EXACT"  # the default function takes no narrower window


def set_lossy(data: Dataset, lossy: Lossy | None) -> None:
    """Write that the image was once compressed with loss, if it was; the mark is never taken off."""
    if lossy is None:
        return
    data.LossyImageCompression = "01"
    if lossy.ratios:
        data.LossyImageCompressionRatio = [ds(value) for value in lossy.ratios]
    if lossy.methods:
        data.LossyImageCompressionMethod = list(lossy.methods)


def ds(value: float) -> DSfloat:
    """Return a length in mm or a cosine as `exact` would, without the noise of rounding."""
    return exact(float(np.round(value, 12)))


def exact(value: float) -> DSfloat:
    """Return a decimal string of at most 16 characters, however small the number; -0 is 0."""
    return DSfloat(value + 0.0, auto_format=True)


def item_of(**attributes: Any) -> Dataset:
    """Return an item of a sequence."""
    item: Dataset = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item
