"""The header of a derived image: the source's, less what is no longer true, plus what was done."""

from __future__ import annotations

import contextlib
import copy
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage

from medrestore.errors import OutputError
from medrestore.io.dicom_head import READ_ERRORS
from medrestore.io.dicom_writer_source import SourceSlice
from medrestore.provenance import JSON, RunRecord

Quantity = Literal["restored", "std"]

SCHEME = "99MEDRESTORE"
"""Designator of our own codes, where DICOM has none."""

# uuid5 of the DNS namespace and "medrestore"; UIDs are made in it and so never meet anybody else's.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "medrestore")
_NUMBER = {"restored": 1000, "std": 2000}
_TITLE = {"restored": "Restored", "std": "Std dev"}

# What speaks of the stored pixels, the file or the moment that it was made, and so of the source alone.
_STALE = (
    *("InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "ContentDate", "ContentTime"),
    *("SeriesDate", "SeriesTime", "ReferencedPerformedProcedureStepSequence", "SourceImageSequence"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries"),
    *("LargestPixelValueInSeries", "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "IconImageSequence"),
    *("ModalityLUTSequence", "VOILUTSequence", "RealWorldValueMappingSequence", "RescaleType"),
    *("RescaleSlope", "RescaleIntercept", "PixelDataProviderURL", "DataSetTrailingPadding"),
    *("DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence"),
    *("OriginalAttributesSequence", "ConcatenationUID", "NumberOfFrames", "ReferencedImageEvidenceSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData", "StorageMediaFileSetUID"),
)
# What every image must have, if only empty (type 2); sources without it are mended on the way.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "PositionReferenceIndicator"),
)
_LONG, _SHORT_TEXT, _LONG_TEXT = 64, 1024, 10240


@dataclass(frozen=True)
class Derivation:
    """What is said of a series in every one of its images.

    Attributes:
        quantity: The restored scan, or the standard deviation of its samples.
        record: How it was made.
        series_uid: UID of the new series.
        resampled: Whether the result lies on another grid than the source.
        settings: What the UIDs are made of, as text.
    """

    quantity: Quantity
    record: RunRecord
    series_uid: str
    resampled: bool
    settings: str

    def instance_uid(self, number: int) -> str:
        """Return the UID of image `number` of the series."""
        return make_uid("instance", self.settings, str(number))


def derivation(
    record: RunRecord, quantity: Quantity, sources: Sequence[SourceSlice], resampled: bool
) -> Derivation:
    """Work out the UIDs of a series: the same sources, weights and settings give the same UIDs.

    The version of medrestore takes part, since another one may make other voxels of the same settings.
    """
    facts: dict[str, JSON] = {
        "sources": sorted(str(item.data.SOPInstanceUID) for item in sources),
        "quantity": quantity,
        "model": record.model.name,
        "weights": record.model.sha256,
        "medrestore": record.medrestore,
        "settings": dict(record.settings),
    }
    settings = json.dumps(facts, sort_keys=True)
    return Derivation(quantity, record, make_uid("series", settings), resampled, settings)


def make_uid(*parts: str) -> str:
    """Return a UID that depends on `parts` alone: PS3.5 B.2, of a name-based UUID (version 5)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}"


def derived_header(source: SourceSlice, what: Derivation) -> Dataset:
    """Return the header of a derived image, without its identity, place, pixels and sources.

    Raises:
        OutputError: The source is neither MR nor CT.
    """
    data = _kept(source.data)
    data.SOPClassUID = storage_class(source)
    for name in _EMPTY:
        if name not in data:
            setattr(data, name, "")
    data.SeriesInstanceUID = what.series_uid
    data.SeriesNumber = _NUMBER[what.quantity] + int(source.data.get("SeriesNumber") or 0)
    data.ImageType = _image_type(data, what.quantity)
    data.SeriesDescription = _series_description(data, what)
    _describe(data, what)
    _codes(data, what)
    return data


def _kept(source: Dataset) -> Dataset:
    """Return a copy without private elements, overlays, curves, pixels and what is no longer true."""
    data = Dataset()
    for element in source.elements():
        group = element.tag.group
        # 50xx are curves, 60xx overlays; element 0000 is the length of a group, retired.
        if group % 2 or group & 0xFF00 in (0x5000, 0x6000) or group in (0x0002, 0x7FE0, 0xFFFC):
            continue
        if element.tag.element:
            with contextlib.suppress(*READ_ERRORS):  # what cannot be read cannot be written either
                data[element.tag] = copy.deepcopy(source[element.tag])
    data.remove_private_tags()
    for name in _STALE:
        if name in data:
            delattr(data, name)
    return data


def storage_class(source: SourceSlice) -> UID:
    """Return the class of the images that are made from one.

    Raises:
        OutputError: The source is neither MR nor CT.
    """
    kinds = {"MR": MRImageStorage, "CT": CTImageStorage}
    modality = str(source.data.get("Modality"))
    if modality not in kinds:
        raise OutputError(
            f"{source.path}: modality {modality}; derived series are written for MR and CT, write NIfTI"
        )
    return kinds[modality]


def _image_type(data: Dataset, quantity: Quantity) -> list[str]:
    """Return DERIVED, SECONDARY and the further values; the third one is needed in MR and in CT."""
    kind = data.get("ImageType") or []
    further = [str(value) for value in ([kind] if isinstance(kind, str) else kind)[2:]]
    usual = "AXIAL" if data.SOPClassUID == CTImageStorage else "OTHER"
    if quantity == "std":
        return ["DERIVED", "SECONDARY", usual, "STD_DEV"]
    return ["DERIVED", "SECONDARY", *(further or [usual])]


def _series_description(data: Dataset, what: Derivation) -> str:
    title = _TITLE[what.quantity]
    model = what.record.model.name.rsplit("/", 1)[-1][:24]
    return f"{title} ({model}) {data.get('SeriesDescription') or ''}".strip()[:_LONG].rstrip()


def _describe(data: Dataset, what: Derivation) -> None:
    """Say in words that the image is processed, before what the source said of itself."""
    record = what.record
    model = f"medrestore {record.medrestore}, model {record.model.name}"
    if what.quantity == "std":
        comment = (
            f"NOT AN IMAGE OF THE PATIENT: standard deviation of {record.settings.get('samples')} posterior "
            f"samples ({model})"
        )
    else:
        comment = f"PROCESSED IMAGE, NOT AN ORIGINAL: restored by {model}; compare with the source series"
    before = str(data.get("ImageComments") or "")
    data.ImageComments = (f"{comment}. {before}" if before else comment)[:_LONG_TEXT]
    weights = f", weights sha256 {record.model.sha256}" if record.model.sha256 else ""
    text = f"{_TITLE[what.quantity]}: {model}{weights}; {_settings(record)}"
    before = str(data.get("DerivationDescription") or "")
    data.DerivationDescription = (f"{text}. After: {before}" if before else text)[:_SHORT_TEXT]


def _settings(record: RunRecord) -> str:
    names = ("output", "noise", "samples", "steps", "sampler", "seed", "dtype")
    known: Mapping[str, JSON] = record.settings
    return ", ".join(f"{name} {known[name]}" for name in names if known.get(name) is not None)


def _codes(data: Dataset, what: Derivation) -> None:
    """Append to what the source says of its own derivation and equipment."""
    codes = [("113087", "DCM", "Smoothing"), ("restoration", SCHEME, "Restoration by a statistical model")]
    if what.resampled:
        codes[0] = ("113085", "DCM", "Spatial resampling")
    if what.quantity == "std":
        codes = [("posterior-std", SCHEME, "Standard deviation of posterior samples")]
    data.DerivationCodeSequence = [
        *(data.get("DerivationCodeSequence") or []),
        *(code(*item) for item in codes),
    ]
    record = what.record
    equipment = Dataset()
    equipment.Manufacturer = "medrestore"
    equipment.ManufacturerModelName = record.model.name[:_LONG]
    equipment.SoftwareVersions = record.medrestore
    equipment.ContributionDescription = data.DerivationDescription
    equipment.PurposeOfReferenceCodeSequence = [code("109102", "DCM", "Processing Equipment")]
    data.ContributingEquipmentSequence = [*(data.get("ContributingEquipmentSequence") or []), equipment]


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence."""
    item: Dataset = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def source_item(source: SourceSlice, preserved: bool) -> Dataset:
    """Return the item of SourceImageSequence that names one image."""
    item: Dataset = Dataset()
    item.ReferencedSOPClassUID = source.data.SOPClassUID
    item.ReferencedSOPInstanceUID = source.data.SOPInstanceUID
    item.SpatialLocationsPreserved = "YES" if preserved else "NO"
    item.PurposeOfReferenceCodeSequence = [
        code("121322", "DCM", "Source image for image processing operation")
    ]
    return item
