"""Classic images of a derived series: one file for each slice."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from medrestore.io.dicom.derive.header import (
    derivation_codes,
    derived_header,
    description,
    source_items,
)
from medrestore.io.dicom.derive.image import set_lossy, set_place, set_values
from medrestore.io.dicom.derive.quantities import Quantity
from medrestore.io.dicom.derive.series import DerivedSeries, DerivedSlice
from medrestore.io.dicom.derive.source import SourceSlice
from medrestore.io.dicom.parse.tiling import TILED_WORDS


def classic_image(series: DerivedSeries, item: DerivedSlice) -> tuple[Dataset, int]:
    """Return one image, and how many of its values were clipped."""
    data, tiles = derived_header(item.source, series.what), item.source.head.tiles
    data.ImageType = _image_type(data, series.what.quantity)
    data.DerivationDescription = description(series.what, str(data.get("DerivationDescription") or ""))
    data.DerivationCodeSequence = [
        *(data.get("DerivationCodeSequence") or []),
        *derivation_codes(series.what),
    ]
    data.SOPInstanceUID = series.what.instance_uid(item.index)
    data.InstanceNumber = item.number
    data.SourceImageSequence = source_items(item.sources, item.place.preserved and tiles == 1)
    _set_diffusion(data, item.source)
    set_place(data, item.place, item.source, alone=series.alone, way=item.way)
    set_values(data, series.encoding, series.window, series.hounsfield)
    set_lossy(data, series.lossy)
    if series.nameless:
        data.AcquisitionNumber = item.volume + 1
    if tiles > 1:
        data.pop("SliceLocation", None)  # is the location of the mosaic
    pixels, clipped = series.stored(item)
    data.add_new("PixelData", "OW", pixels)
    return data, clipped


def _image_type(data: Dataset, quantity: Quantity) -> list[str]:
    """Return DERIVED, SECONDARY and the further values; the third one is needed in MR and in CT."""
    kind = data.get("ImageType") or []
    values = [str(value) for value in ([kind] if isinstance(kind, str) else kind)[2:]]
    further = [value for value in values if value not in TILED_WORDS]
    usual = "AXIAL" if data.SOPClassUID == CTImageStorage else "OTHER"
    if quantity.is_map:
        return ["DERIVED", "SECONDARY", usual, quantity.image_type]
    return ["DERIVED", "SECONDARY", *(further or [usual])]


def _set_diffusion(data: Dataset, source: SourceSlice) -> None:
    """Write diffusion from private elements into standard ones, as private elements are not copied."""
    traits = dict(source.head.traits)
    value, direction = traits["b-value"], traits["direction"]
    if "DiffusionBValue" not in data and isinstance(value, float):
        data.DiffusionBValue = value
    if "DiffusionGradientOrientation" not in data and isinstance(direction, tuple) and len(direction) == 3:
        data.DiffusionGradientOrientation = list(direction)
