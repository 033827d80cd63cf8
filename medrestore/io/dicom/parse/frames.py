"""One way to ask for an attribute of a slice, in classic images and in frames of enhanced ones."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from medrestore.io.dicom.parse.elements import DamagedElementError, Elements, Get

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


def frames(data: Dataset, where: str = "", odd: dict[str, None] | None = None) -> Iterator[Elements]:
    """Yield, for every frame of an image, a function that looks its attributes up.

    Args:
        data: The header.
        where: What messages call the file.
        odd: Takes the names of malformed elements.

    Raises:
        DamagedElementError: A count of frames that is no number, or not that of the functional groups.
    """
    plain = Elements(where, [data], odd)
    groups, count = plain("PerFrameFunctionalGroupsSequence"), frame_count(plain)
    if not groups:
        yield plain
        return
    if len(groups) != count:
        raise DamagedElementError(f"{where}: {count} frames declared, and {len(groups)} described")
    shared = plain("SharedFunctionalGroupsSequence")
    common = [*_macros(shared[0])] if shared else []
    for number, item in enumerate(groups, 1):
        places = [item, *_macros(item), *common, *(shared or [])[:1], data]
        yield Elements(where if count == 1 else f"{where}: frame {number}", places, plain.odd)


def frame_count(get: Get) -> int:
    """Return how many frames an image says that it has; 1 where it does not say it."""
    return int(get("NumberOfFrames") or 1)


def _macros(group: Dataset) -> Iterator[Dataset]:
    for name in _MACROS:
        sequence = group.get(name)
        if sequence:
            yield sequence[0]
            if sequence[0].get(_NESTED):
                yield sequence[0][_NESTED].value[0]
    private = group[_PHILIPS_FRAME].value if _PHILIPS_FRAME in group else None
    if private and not isinstance(private, bytes):
        yield private[0]
