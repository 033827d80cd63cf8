"""Enhanced images of a derived series: one for each volume, with its slices as frames."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from medrestore.errors import OutputError
from medrestore.io.dicom.derive.header import (
    derivation_codes,
    derived_header,
    description,
    kept,
    make_uid,
    source_items,
)
from medrestore.io.dicom.derive.image import ds, exact, item_of, set_lossy, set_pixels, set_window
from medrestore.io.dicom.derive.series import DerivedSeries, DerivedSlice

# Pixel data of a file have a length of 32 bits.
_LARGEST = (1 << 32) - 2
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")
_KINDS = (
    *("PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique"),
    *("ComplexImageComponent", "AcquisitionContrast"),
)
"""Attributes that the image states for all its frames, or as MIXED (PS3.3 C.8.16.2)."""

# They describe the values of the source, and are no longer true.
_STALE = ("RealWorldValueMappingSequence", "PixelValueTransformationSequence")
# Enhanced images have these if acquired, and shall not have them if derived.
_OF_ORIGINALS = (
    *("PulseSequenceName", "MRAcquisitionType", "EchoPulseSequence", "MultiPlanarExcitation"),
    *("PhaseContrast", "TimeOfFlightContrast", "SteadyStatePulseSequence", "EchoPlanarPulseSequence"),
    *("SaturationRecovery", "SpectrallySelectedSuppression", "OversamplingPhase"),
    *("GeometryOfKSpaceTraversal", "RectilinearPhaseEncodeReordering", "SegmentedKSpaceTraversal"),
    *("CoverageOfKSpace", "NumberOfKSpaceTrajectories", "BulkMotionCompensationTechnique"),
)
_DIMENSIONS = {
    "echo time": ("EffectiveEchoTime", "MREchoSequence"),
    "b-value": ("DiffusionBValue", "MRDiffusionSequence"),
    "direction": ("DiffusionGradientOrientation", "MRDiffusionSequence"),
    "time": ("TemporalPositionIndex", "FrameContentSequence"),
    "acquisition": ("FrameAcquisitionNumber", "FrameContentSequence"),
    "trigger time": ("NominalCardiacTriggerDelayTime", "CardiacSynchronizationSequence"),
    "time offset": ("TemporalPositionTimeOffset", "TemporalPositionSequence"),
    "flip angle": ("FlipAngle", "MRTimingAndRelatedParametersSequence"),
}
"""Attribute and functional group of each quantity that tells volumes apart."""


def objects(series: DerivedSeries) -> list[list[DerivedSlice]]:
    """Return the slices of each file: one volume a file, as dcm2niix mixes up the volumes of one file."""
    volumes: dict[int, list[DerivedSlice]] = {}
    for item in series.slices:
        volumes.setdefault(item.volume, []).append(item)
    return list(volumes.values())


def enhanced_image(series: DerivedSeries, slices: Sequence[DerivedSlice], number: int) -> tuple[Dataset, int]:
    """Return image `number` of a series, with a frame for each slice, and how many values were clipped."""
    first = slices[0]
    data = derived_header(first.source, series.what)
    for name in _OF_ORIGINALS:
        data.pop(name, None)
    data.SOPInstanceUID = series.what.instance_uid(first.index)
    data.InstanceNumber, data.NumberOfFrames = number, len(slices)
    data.Columns, data.Rows = first.place.size
    shared = _shared_groups(series, first)
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = groups = [_frame_groups(series, item) for item in slices]
    _set_dimensions(data, slices, groups)
    _set_kind(data, [shared, *groups])
    data.SourceImageEvidenceSequence = _evidence(slices)
    set_pixels(data, series.encoding)
    set_lossy(data, series.lossy)
    frames = [series.stored(item) for item in slices]
    pixels = b"".join(frame for frame, _ in frames)
    if len(pixels) > _LARGEST:
        raise OutputError(
            f"{first.source.path}: {len(pixels)} bytes of pixels, and an enhanced image holds {_LARGEST}; "
            "write NIfTI"
        )
    data.add_new("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
    return data, sum(clipped for _, clipped in frames)


def _shared_groups(series: DerivedSeries, item: DerivedSlice) -> Dataset:
    """Return the functional groups that all frames have in common."""
    source = item.source.data.get("SharedFunctionalGroupsSequence") or [Dataset()]
    group = kept(source[0], _replaced(series, shared=True))
    if series.what.resampled:
        across, down, between = item.place.spacing
        group.PixelMeasuresSequence = [
            item_of(
                PixelSpacing=[ds(down), ds(across)],
                SliceThickness=ds(between),
                SpacingBetweenSlices=ds(between),
            )
        ]
    group.PixelValueTransformationSequence = [
        item_of(
            RescaleIntercept=exact(series.encoding.inter),
            RescaleSlope=exact(series.encoding.slope),
            RescaleType="HU" if series.hounsfield else "US",
        )
    ]
    if series.window is not None:
        window: Dataset = Dataset()
        set_window(window, series.window)
        group.FrameVOILUTSequence = [window]
    _set_frame_type(series, group)
    _forget_tilt(series, group)
    return group


def _frame_groups(series: DerivedSeries, item: DerivedSlice) -> Dataset:
    """Return the functional groups of one frame, less the shared ones."""
    data, frame = item.source.data, item.source.head.frame
    source = data.PerFrameFunctionalGroupsSequence[frame]
    shared = (data.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    group = kept(source, _replaced(series, shared=False))
    content = source.get("FrameContentSequence") or [Dataset()]
    group.FrameContentSequence = [kept(content[0], ("DimensionIndexValues",))]
    # dcm2niix joins several images to a 4-D file only where each frame has its orientation.
    group.PlaneOrientationSequence = [
        item_of(ImageOrientationPatient=[ds(value) for value in item.place.axes.ravel()])
    ]
    group.PlanePositionSequence = [item_of(ImagePositionPatient=[ds(value) for value in item.place.position])]
    before = source.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or []
    group.DerivationImageSequence = [
        *copy.deepcopy(list(before)),
        item_of(
            DerivationDescription=description(series.what),
            DerivationCodeSequence=derivation_codes(series.what),
            SourceImageSequence=source_items(item.sources, item.place.preserved),
        ),
    ]
    _set_frame_type(series, group)
    _forget_tilt(series, group)
    return group


def _replaced(series: DerivedSeries, shared: bool) -> list[str]:
    """Return the functional groups that are not taken from the source."""
    names = [*_STALE, "PlaneOrientationSequence", "PlanePositionSequence", "FrameContentSequence"]
    if series.what.resampled:
        names.append("PixelMeasuresSequence")
    if series.window is not None:
        names.append("FrameVOILUTSequence")
    return [*names, "DerivationImageSequence"] if shared else names


def _set_frame_type(series: DerivedSeries, group: Dataset) -> None:
    """Write that frames are derived, and how, in the terms of enhanced images, which are never SECONDARY."""
    how = "RESAMPLED" if series.what.resampled else "FILTERED"
    if series.what.quantity.is_map:
        how = series.what.quantity.frame_type
    for name in _FRAME_TYPES:
        for item in group.get(name) or ():
            flavour = [*(item.get("FrameType") or []), "", "", ""][2] or "NONE"
            item.FrameType = ["DERIVED", "PRIMARY", flavour, how]


def _forget_tilt(series: DerivedSeries, group: Dataset) -> None:
    """Remove the gantry tilt once the stack was resampled: readers would shift the slices again."""
    if series.what.resampled:
        for item in group.get("CTAcquisitionDetailsSequence") or ():
            item.pop("GantryDetectorTilt", None)


def _set_kind(data: Dataset, groups: Sequence[Dataset]) -> None:
    """Let the image state the values of its frames; a value that differs among frames is MIXED."""
    items = [item for group in groups for name in _FRAME_TYPES for item in group.get(name) or ()]
    types = {tuple(item.FrameType) for item in items}
    if types:
        data.ImageType = [
            values.pop() if len(values) == 1 else "MIXED" for values in map(set, zip(*types, strict=True))
        ]
    for name in _KINDS:
        values = {str(item.get(name)) for item in items if item.get(name)}
        if values:
            setattr(data, name, values.pop() if len(values) == 1 else "MIXED")


def _set_dimensions(data: Dataset, slices: Sequence[DerivedSlice], groups: Sequence[Dataset]) -> None:
    """Number the frames anew, in their order: by stack, volume label, and place.

    The source may number by private elements, and may have other slices.
    """
    contents = [group.FrameContentSequence[0] for group in groups]
    per_volume = sum(item.volume == slices[0].volume for item in slices)
    for n, content in enumerate(contents):
        content.StackID = str(content.get("StackID") or "1")
        content.InStackPositionNumber = n % per_volume + 1
    labels = {name: [str(item.label.get(name)) for item in slices] for name in _DIMENSIONS}
    varying = [name for name, texts in labels.items() if len(set(texts)) > 1]
    numbers = [
        _ranks([content.StackID for content in contents]),
        *(_ranks(labels[name]) for name in varying),
        [content.InStackPositionNumber for content in contents],
    ]
    for content, values in zip(contents, zip(*numbers, strict=True), strict=True):
        content.DimensionIndexValues = list(values)
    frame = "FrameContentSequence"
    pointers = [("StackID", frame), *(_DIMENSIONS[n] for n in varying), ("InStackPositionNumber", frame)]
    uid = make_uid("dimensions", str(data.SOPInstanceUID))
    data.DimensionOrganizationSequence = [item_of(DimensionOrganizationUID=uid)]
    data.DimensionIndexSequence = [
        item_of(
            DimensionOrganizationUID=uid,
            DimensionIndexPointer=tag_for_keyword(attribute),
            FunctionalGroupPointer=tag_for_keyword(group),
        )
        for attribute, group in pointers
    ]


def _ranks(texts: Sequence[str]) -> list[int]:
    """Return the number of each text among the distinct texts, from 1."""
    order = list(dict.fromkeys(texts))
    return [order.index(text) + 1 for text in texts]


def _evidence(slices: Sequence[DerivedSlice]) -> list[Dataset]:
    """Return study, series and UID of every source image."""
    images = {str(s.data.SOPInstanceUID): s.data for item in slices for s in item.sources}
    any_of = next(iter(images.values()))
    series = item_of(
        SeriesInstanceUID=any_of.SeriesInstanceUID,
        ReferencedSOPSequence=[
            item_of(ReferencedSOPClassUID=data.SOPClassUID, ReferencedSOPInstanceUID=uid)
            for uid, data in images.items()
        ],
    )
    return [item_of(StudyInstanceUID=any_of.StudyInstanceUID, ReferencedSeriesSequence=[series])]
