"""The header of a derived image: the source's, less what is no longer true, plus the processing."""

from __future__ import annotations

import contextlib
import copy
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from medrestore.errors import OutputError
from medrestore.io.dicom.derive.quantities import QUANTITIES, SCHEME, Quantity
from medrestore.io.dicom.derive.source import SourceSlice
from medrestore.io.dicom.parse.files import READ_ERRORS
from medrestore.provenance import IN_PARTS, JSON, ModelRef, RunRecord

# uuid5 of the DNS namespace and "medrestore"; UIDs are made in it and so never equal other UIDs.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "medrestore")

# Elements about the stored pixels, the file or the time of its making, true of the source alone.
_STALE = (
    *("InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID"),
    *("SeriesDate", "SeriesTime", "ReferencedPerformedProcedureStepSequence", "SourceImageSequence"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"),
    *("LargestPixelValueInSeries", "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "IconImageSequence"),
    *("ModalityLUTSequence", "VOILUTSequence", "RealWorldValueMappingSequence", "RescaleType"),
    *("RescaleSlope", "RescaleIntercept", "PixelDataProviderURL", "DataSetTrailingPadding"),
    *("DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence"),
    *("OriginalAttributesSequence", "NumberOfFrames", "ConcatenationUID", "InConcatenationNumber"),
    *("InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber", "SOPInstanceUIDOfConcatenationSource"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence"),
    *("DimensionOrganizationSequence", "DimensionOrganizationType"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData", "StorageMediaFileSetUID"),
)
# In enhanced images these two must be there; no date of the restoration is written.
_STALE_CLASSIC = ("ContentDate", "ContentTime")
# Elements that every image must have, if only empty (type 2); they are added where the source lacks them.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator"),
)
_ENHANCED = {
    *(EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
    *(EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
}
_LONG, _SHORT_TEXT, _LONG_TEXT = 64, 1024, 10240


@dataclass(frozen=True)
class Derivation:
    """What every image of a derived series states of the series.

    Attributes:
        quantity: What the images show.
        record: Record of the restoration.
        series_uid: UID of the new series.
        resampled: Whether the result lies on another grid than the source.
        settings: Settings that the UIDs depend on, as text.
        frame_of_reference: Of all images of the series; slices of the source may each state another.
    """

    quantity: Quantity
    record: RunRecord
    series_uid: str
    resampled: bool
    settings: str
    frame_of_reference: str

    def instance_uid(self, number: int) -> str:
        """Return the UID of image `number` of the series."""
        return make_uid("instance", self.settings, str(number))


def derivation(
    record: RunRecord, quantity: str, sources: Sequence[SourceSlice], resampled: bool
) -> Derivation:
    """Work out the UIDs of a series: the same sources, weights and settings give the same UIDs.

    The version of medrestore is part of the UIDs, since another version may make other voxels.
    """
    facts: dict[str, JSON] = {
        "sources": sorted(_name(item) for item in sources),
        "values": sources[0].values,
        "read": record.input.details.get("resampled"),
        "quantity": quantity,
        "model": record.model.name,
        "weights": record.model.sha256,
        "medrestore": record.medrestore,
        "settings": {name: value for name, value in record.settings.items() if name not in IN_PARTS},
    }
    settings = json.dumps(facts, sort_keys=True)
    uid, frame = make_uid("series", settings), sources[0].head.frame_of_reference
    return Derivation(QUANTITIES[quantity], record, uid, resampled, settings, frame)


def make_uid(*parts: str) -> str:
    """Return a UID that depends on `parts` alone: PS3.5 B.2, of a name-based UUID (version 5)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"


def _name(source: SourceSlice) -> str:
    uid = str(source.data.SOPInstanceUID)
    return f"{uid}#{source.head.frame}" if source.is_frame else uid


def derived_header(source: SourceSlice, what: Derivation) -> Dataset:
    """Return the header of a derived image, without its identity, kind, place, pixels and sources.

    Raises:
        OutputError: The source is neither MR nor CT.
    """
    data = kept(source.data, _STALE if source.is_frame else (*_STALE, *_STALE_CLASSIC))
    data.SOPClassUID = storage_class(source)
    for name in _EMPTY:
        if name not in data:
            setattr(data, name, "")
    data.SeriesInstanceUID = what.series_uid
    if what.frame_of_reference:
        data.FrameOfReferenceUID = what.frame_of_reference
    data.SeriesNumber = what.quantity.number + int(source.data.get("SeriesNumber") or 0)
    data.SeriesDescription = _series_description(data, what)
    comment, before = _comment(what), str(data.get("ImageComments") or "")
    data.ImageComments = (f"{comment}. {before}" if before else comment)[:_LONG_TEXT]
    data.ContributingEquipmentSequence = [
        *(data.get("ContributingEquipmentSequence") or []),
        _equipment(what),
    ]
    return data


def kept(source: Dataset, stale: Iterable[str] = _STALE) -> Dataset:
    """Return a copy without private elements, overlays, curves, pixels and elements no longer true."""
    data: Dataset = Dataset()
    left = {tag_for_keyword(name) for name in stale}
    for element in source.elements():
        group = element.tag.group
        # 50xx are curves, 60xx overlays; element 0000 is the length of a group, retired.
        if group % 2 or group & 0xFF00 in (0x5000, 0x6000) or group in (0x0002, 0x7FE0, 0xFFFC):
            continue
        if element.tag.element and element.tag not in left:
            with contextlib.suppress(*READ_ERRORS):  # unreadable elements cannot be written
                data[element.tag] = copy.deepcopy(source[element.tag])
    data.remove_private_tags()
    return data


def storage_class(source: SourceSlice) -> UID:
    """Return the class of images derived from a source: its own class if enhanced, else a classic class.

    Raises:
        OutputError: The source is neither MR nor CT.
    """
    kinds = {"MR": MRImageStorage, "CT": CTImageStorage}
    modality, uid = str(source.data.get("Modality")), UID(source.data.SOPClassUID)
    if modality not in kinds or (source.is_frame and uid not in _ENHANCED):
        raise OutputError(
            f"{source.path}: {uid.name}, modality {modality}; derived series are written for MR and CT, "
            "write NIfTI"
        )
    return uid if source.is_frame else kinds[modality]


def _series_description(data: Dataset, what: Derivation) -> str:
    model = what.record.model.name.rsplit("/", 1)[-1][:24]
    return f"{what.quantity.title} ({model}) {data.get('SeriesDescription') or ''}".strip()[:_LONG].rstrip()


def _comment(what: Derivation) -> str:
    """Return a comment, which viewers show, that the image is processed."""
    record = what.record
    model = f"medrestore {record.medrestore}, model {record.model.name}"
    if what.quantity.is_map:
        return f"NOT AN IMAGE OF THE PATIENT: {what.quantity.comment.format_map(record.settings)} ({model})"
    codes = ", ".join(dict.fromkeys(finding.code for finding in record.findings))
    found = f"; findings: {codes}" if codes else ""
    judged = "" if record.judgement is None else f"; consistency with the source: {record.judgement}"
    return (
        f"PROCESSED IMAGE, NOT AN ORIGINAL: restored by {model}; compare with the source series"
        f"{judged}{found}"
    )


def description(what: Derivation, before: str = "") -> str:
    """Return how the image was made, followed by the description of the source."""
    record = what.record
    cleaned = "" if record.cleaner is None else f", after model {_named(record.cleaner)}"
    text = (
        f"{what.quantity.title}: medrestore {record.medrestore}, model {_named(record.model)}{cleaned}; "
        f"{_settings(record)}"
    )
    return (f"{text}. After: {before}" if before else text)[:_SHORT_TEXT]


def _named(model: ModelRef) -> str:
    return f"{model.name}, weights sha256 {model.sha256}" if model.sha256 else model.name


def _settings(record: RunRecord) -> str:
    names = ("output", "noise", "samples", "steps", "sampler", "seed", "dtype")
    known: Mapping[str, JSON] = record.settings
    return ", ".join(f"{name} {known[name]}" for name in names if known.get(name) is not None)


def derivation_codes(what: Derivation) -> list[Dataset]:
    """Return the codes of the kind of derivation."""
    if what.quantity.is_map:
        value, meaning = what.quantity.code
        return [code(value, SCHEME, meaning)]
    kind = ("113085", "DCM", "Spatial resampling") if what.resampled else ("113087", "DCM", "Smoothing")
    return [code(*kind), code("restoration", SCHEME, "Restoration by a statistical model")]


def _equipment(what: Derivation) -> Dataset:
    record = what.record
    equipment: Dataset = Dataset()
    equipment.Manufacturer = "medrestore"
    equipment.ManufacturerModelName = record.model.name[:_LONG]
    equipment.SoftwareVersions = record.medrestore
    equipment.ContributionDescription = description(what)
    equipment.PurposeOfReferenceCodeSequence = [code("109102", "DCM", "Processing Equipment")]
    return equipment


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence."""
    item: Dataset = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def source_items(sources: Sequence[SourceSlice], preserved: bool) -> list[Dataset]:
    """Return SourceImageSequence: an item for each image, with the numbers of enhanced frames."""
    images: dict[str, list[SourceSlice]] = {}
    for source in sources:
        images.setdefault(str(source.data.SOPInstanceUID), []).append(source)
    items = []
    for uid, parts in images.items():
        item: Dataset = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = parts[0].data.SOPClassUID, uid
        if parts[0].is_frame:
            item.ReferencedFrameNumber = [part.head.frame + 1 for part in parts]
        item.SpatialLocationsPreserved = "YES" if preserved else "NO"
        item.PurposeOfReferenceCodeSequence = [
            code("121322", "DCM", "Source image for image processing operation")
        ]
        items.append(item)
    return items
