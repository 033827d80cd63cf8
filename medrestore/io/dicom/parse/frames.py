"""One way to ask for an attribute of a slice, in classic images and in frames of enhanced ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

from medrestore.io.dicom.parse.rescale import Get

# Functional groups about a slice as a part of a volume.
_MACROS = (
    *("FrameContentSequence", "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("PixelValueTransformationSequence", "MRImageFrameTypeSequence", "CTImageFrameTypeSequence"),
    *("FrameVOILUTSequence",),
    *("PETFrameTypeSequence", "MREchoSequence", "MRDiffusionSequence", "TemporalPositionSequence"),
    *("CardiacSynchronizationSequence", "MRTimingAndRelatedParametersSequence", "MRModifierSequence"),
    *("MRFOVGeometrySequence", "MRArterialSpinLabelingSequence"),
)
_NESTED = "DiffusionGradientDirectionSequence"
# Philips keeps the scale of each frame in a sequence of its own.
_PHILIPS_FRAME = 0x2005140F


def frames(data: Dataset) -> Iterator[Get]:
    """Yield, for every frame of an image, a function that looks its attributes up.

    Raises:
        ValueError: An enhanced image without functional groups, or with fewer groups than frames.
    """
    groups = data.get("PerFrameFunctionalGroupsSequence")
    count = int(data.get("NumberOfFrames") or 1)
    if not groups:
        yield lambda name: _value(data, name)
        return
    if len(groups) != count:
        raise ValueError(f"{count} frames declared, and {len(groups)} described")
    shared = data.get("SharedFunctionalGroupsSequence")
    common = [*_macros(shared[0])] if shared else []
    for item in groups:
        yield _lookup([item, *_macros(item), *common, *(shared or [])[:1], data])


def _lookup(places: list[Dataset]) -> Get:
    def get(name: Any) -> Any:
        for place in places:
            value = _value(place, name)
            if value is not None:
                return value
        return None

    return get


def _value(data: Dataset, name: Any) -> Any:
    """Return a value; pydicom hands a private one out as an element, whose value is returned."""
    if isinstance(name, str):
        return data.get(name)
    return data[name].value if name in data else None


def _macros(group: Dataset) -> Iterator[Dataset]:
    for name in _MACROS:
        sequence = group.get(name)
        if sequence:
            yield sequence[0]
            if sequence[0].get(_NESTED):
                yield sequence[0][_NESTED].value[0]
    private = _value(group, _PHILIPS_FRAME)
    if private and not isinstance(private, bytes):
        yield private[0]
