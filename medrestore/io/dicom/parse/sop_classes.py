"""Which DICOM objects are slices of a scan, and why other objects are not."""

from __future__ import annotations

from enum import StrEnum

import pydicom
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)


class SkipReason(StrEnum):
    """Why a file has no usable slice of a scan."""

    DIRECTORY = "directory (DICOMDIR)"
    LOCALIZER = "localizer"
    COLOUR = "colour"
    SECONDARY = "secondary capture"
    REPORT = "structured report"
    SEGMENTATION = "segmentation"
    RADIOTHERAPY = "radiotherapy object"
    PRESENTATION = "presentation state"
    MOSAIC = "Siemens mosaic"
    DEVIATION = "standard deviation"
    OTHER = "no MR, CT or PET image"
    NO_PIXELS = "no pixels"
    NO_PLACE = "no place in a frame of reference"
    LINK = "link that leads out of the folder"
    UNLISTED = "folder that cannot be listed"
    NO_FILE = "no file that can be opened"
    UNUSABLE = "unusable"
    DAMAGED = "damaged"

    @property
    def blocking(self) -> bool:
        """Whether a volume of the same series may lack a slice for it, and so cannot be trusted."""
        return self in {
            *(
                SkipReason.NO_PLACE,
                SkipReason.UNUSABLE,
                SkipReason.DAMAGED,
                SkipReason.NO_PIXELS,
                SkipReason.LINK,
                SkipReason.UNLISTED,
                SkipReason.MOSAIC,
                SkipReason.COLOUR,
            )
        }


_ENHANCED = {
    EnhancedMRImageStorage,
    EnhancedCTImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
}
_CLASSIC = {MRImageStorage, CTImageStorage, PositronEmissionTomographyImageStorage}
_NAMED = (
    ("Secondary Capture", SkipReason.SECONDARY),
    ("Presentation State", SkipReason.PRESENTATION),
    ("Segmentation", SkipReason.SEGMENTATION),
    ("Color", SkipReason.COLOUR),
    ("RT ", SkipReason.RADIOTHERAPY),
    (" SR ", SkipReason.REPORT),
    ("Report", SkipReason.REPORT),
    ("Key Object", SkipReason.REPORT),
)


# What medrestore writes, and the term of the standard for enhanced images (PS3.3 C.8.16.1).
_DEVIATIONS = ("STD_DEV", "STD_DEVIATION")


def kind_of(data: pydicom.Dataset) -> tuple[SkipReason | None, str]:
    """Return why an object is no slice of a scan, and the words for it; None and "" if it is a slice."""
    if data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return SkipReason.DIRECTORY, "an index of other files; the files themselves are looked at"
    uid = UID(str(data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""))
    name = uid.name or "no SOP class"
    if uid not in _ENHANCED | _CLASSIC:
        why = next((why for part, why in _NAMED if part in f"{name} "), SkipReason.OTHER)
        return why if uid else SkipReason.DAMAGED, f"{name}, expected MR, CT or PET images"
    if not data.get("Rows") or not data.get("Columns"):
        return SkipReason.NO_PIXELS, f"{name} without pixels"
    count = int(data.get("NumberOfFrames") or 1)
    if uid in _CLASSIC and count > 1:
        return SkipReason.UNUSABLE, f"{name} with {count} frames, expected one"
    if uid in _ENHANCED and not data.get("PerFrameFunctionalGroupsSequence"):
        return SkipReason.NO_PLACE, f"{name} that does not describe its frames"
    return _kind_of_pixels(data)


def _kind_of_pixels(data: pydicom.Dataset) -> tuple[SkipReason | None, str]:
    kinds = {str(value).strip().upper() for value in data.get("ImageType") or ()}
    if "LOCALIZER" in kinds:
        return SkipReason.LOCALIZER, "a localizer, which is no slice of a volume"
    if not kinds.isdisjoint(_DEVIATIONS):
        return SkipReason.DEVIATION, "a standard deviation, which is no scan"
    colour = data.get("PhotometricInterpretation", "missing")
    if data.get("SamplesPerPixel", 1) != 1 or colour not in {"MONOCHROME1", "MONOCHROME2"}:
        return SkipReason.COLOUR, f"photometric interpretation {colour}, expected greyscale (MONOCHROME2)"
    if colour == "MONOCHROME1":
        return SkipReason.UNUSABLE, "photometric interpretation MONOCHROME1 (inverted), expected MONOCHROME2"
    if "MOSAIC" in kinds:
        return SkipReason.MOSAIC, (
            "a mosaic, many slices tiled into one picture, and its header does not say for certain how; "
            "convert it with dcm2niix first"
        )
    return None, ""
