"""Which DICOM objects are slices of a scan, and why other objects are not."""

from __future__ import annotations

from dataclasses import dataclass
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

from medrestore.io.dicom.parse.elements import Get
from medrestore.io.dicom.parse.frames import frame_count


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
    MOSAIC = "mosaic"
    DEVIATION = "standard deviation"
    INTERRUPTED = "volume that was interrupted"
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


# Classes whose objects have modality and place of a scan and are none; and one that is of slices.
_NO_PICTURES, _CONE_BEAM = ("Parametric Map", "Spectroscopy", "Raw Data"), "X-Ray 3D"
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_OF_SCANS = frozenset({"MR", "CT", "PT"})

# What medrestore writes, and the term of the standard for enhanced images (PS3.3 C.8.16.1).
_DEVIATIONS = ("STD_DEV", "STD_DEVIATION")
# Photometric interpretations of PS3.3 C.7.6.3.1.2: what else a header has there is not repeated.
_COLOURS = (
    *("PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"),
    *("YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Kind:
    """What an object is.

    Attributes:
        why: Why it is no slice of a scan; None if it is one.
        text: The same in words, or what is odd about a slice; empty where nothing is.
        otherwise: Why it is left out where other slices say what they are; None if it is not.
    """

    why: SkipReason | None
    text: str = ""
    otherwise: SkipReason | None = None


def kind_of(data: pydicom.Dataset, get: Get) -> Kind:
    """Tell whether an object is a slice of a scan: by its class, else by its modality, place and pixels.

    Args:
        data: The header.
        get: Looks attributes of its first frame up.

    Raises:
        InputError: An element that is needed is malformed.
    """
    if data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Kind(SkipReason.DIRECTORY, "an index of other files; the files themselves are looked at")
    uid = UID(str(get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""))
    # What DICOM does not list has no name but the UID, or whatever damage has put there.
    name = "" if uid.name == str(uid) else uid.name
    if uid not in _ENHANCED | _CLASSIC:
        return _kind_of_others(name or ("an unlisted SOP class" if uid else "no SOP class"), get)
    count = frame_count(get)
    if not get("Rows") or not get("Columns"):
        return Kind(SkipReason.NO_PIXELS, f"{name} without pixels")
    if uid in _CLASSIC and count > 1:
        return Kind(SkipReason.UNUSABLE, f"{name} with {count} frames, expected one")
    if uid in _ENHANCED and not data.get("PerFrameFunctionalGroupsSequence"):
        return Kind(SkipReason.NO_PLACE, f"{name} that does not describe its frames")
    return _kind_of_pixels(get) or Kind(None)


def _kind_of_others(name: str, get: Get) -> Kind:
    """Tell what an object is whose class is not that of a scan."""
    why = next((why for part, why in _NAMED if part in f"{name} "), SkipReason.OTHER)
    is_unknown = "SOP class" in name
    is_slice = get("Modality") in _OF_SCANS and all(get(part) for part in (*_PLACE, "Rows", "Columns"))
    is_open = why in {SkipReason.SECONDARY, SkipReason.OTHER} and not any(
        part in name for part in _NO_PICTURES
    )
    if is_open and is_slice and str(get("BurnedInAnnotation") or "").upper() != "YES":
        unfit = _kind_of_pixels(get)
        if unfit is None:
            said = f"{name}, but modality, place and pixels of a slice"
            return Kind(None, said, None if is_unknown or _CONE_BEAM in name else why)
        if is_unknown:
            return unfit
    text = f"{name}, expected MR, CT or PET images"
    if is_unknown and not get("SeriesInstanceUID"):
        # Every object that is whole has a class, and those with a class of a maker's own have a series.
        return Kind(SkipReason.DAMAGED, f"{text}; damaged, get the file again or remove it")
    return Kind(SkipReason.DAMAGED if name == "no SOP class" else why, text)


def _kind_of_pixels(get: Get) -> Kind | None:
    """Return why the pixels of an image are those of no slice; None if they may be."""
    stated = get("ImageType") or ()
    kinds = {str(value).strip().upper() for value in ([stated] if isinstance(stated, str) else stated)}
    if "LOCALIZER" in kinds:
        return Kind(SkipReason.LOCALIZER, "a localizer, which is no slice of a volume")
    if not kinds.isdisjoint(_DEVIATIONS):
        return Kind(SkipReason.DEVIATION, "a standard deviation, which is no scan")
    colour = str(get("PhotometricInterpretation") or "").strip()
    if (get("SamplesPerPixel") or 1) != 1 or colour not in _GREY:
        named = colour if colour in _COLOURS or colour in _GREY else "that is missing or unknown"
        text = f"photometric interpretation {named}, expected greyscale (MONOCHROME2)"
        return Kind(SkipReason.COLOUR, text)
    return None
