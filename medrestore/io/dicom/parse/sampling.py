"""What the header of an MR image states of its sampling.

A count of samples counts the k-space lines that the image was made of, including lines that parallel imaging
or partial Fourier filled in. So PercentSampling, which the acquisition matrix includes, is not applied again.
"""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

from medrestore.io.dicom.parse.elements import Get
from medrestore.io.dicom.parse.files import READ_ERRORS
from medrestore.io.sampling import NOWHERE, Counts, Elements, Sampling

_MATRIX, _FIELD = "AcquisitionMatrix", "PercentPhaseFieldOfView"
_ENHANCED = ("MRAcquisitionFrequencyEncodingSteps", "MRAcquisitionPhaseEncodingStepsInPlane")
SAMPLING_TAGS = [
    *(_MATRIX, _FIELD, *_ENHANCED, "InPlanePhaseEncodingDirection"),
    *("PartialFourier", "ScanOptions", "KSpaceFiltering"),
]

PARTIAL_FOURIER = frozenset({"PFP", "PFF"})
"""Scan options: partial Fourier along the phase or the frequency axis."""

FILTERED = frozenset({"FILTERED", "FIL"})
"""Words of scan options and image type for filters."""

CORRECTED, NOT_CORRECTED = frozenset({"DIS2D", "DIS3D"}), "ND"
"""Words of the image type for the distortion of the gradients, and for no correction of it."""

FIELD_FITS = 0.03
"""How far the field of view of the image may be, relatively, from the stated one."""

# Values that are neither a number nor a word.
_UNREADABLE = object()

# Along which array axis (along a row, along a column) the phase is encoded.
_PHASE_AXIS = {"ROW": 0, "COL": 1, "COLUMN": 1}


def sampling_of(
    get: Get, image_type: tuple[str, ...], size: tuple[int, int], spacing: tuple[float, float]
) -> Sampling:
    """Read what the header of a slice states; raises nothing.

    Args:
        get: Looks the attributes of the slice up.
        image_type: Values of image or frame type.
        size: Rows and columns.
        spacing: Distance between rows and between columns, mm.
    """
    if get("Modality") != "MR":
        return Sampling()
    elements = Elements(lambda name: _value(get, name), _named)
    kinds = frozenset(word for value in image_type for word in value.split("_"))
    options, filtering = elements.words("ScanOptions"), elements.words("KSpaceFiltering")
    lengths = (size[1] * spacing[1], size[0] * spacing[0])
    return Sampling(
        acquired=_acquired(elements, lengths),
        partial_fourier=partial_fourier(elements, options),
        filtered=True if FILTERED & (kinds | options) else _is_filtered(filtering),
        distortion_corrected=True if CORRECTED & kinds else False if NOT_CORRECTED in kinds else None,
        ignored=tuple(elements.ignored),
    )


def partial_fourier(elements: Elements, options: frozenset[str]) -> bool | None:
    """Tell whether partial Fourier is stated, by YES or NO or by the scan options."""
    stated = elements.words("PartialFourier")
    if stated and not stated <= {"YES", "NO"}:
        elements.ignore("PartialFourier")
    if "YES" in stated or PARTIAL_FOURIER & options:
        return True
    return False if "NO" in stated else None


def _is_filtered(filtering: frozenset[str]) -> bool | None:
    return None if not filtering else filtering != {"NONE"}


def _acquired(elements: Elements, lengths: tuple[float, float]) -> Counts:
    """Return the samples along a row and along a column.

    Args:
        elements: Elements of the header.
        lengths: Lengths of the image along its array axes, in mm.
    """
    phase = _phase_axis(elements)
    matrix = elements.counts(_MATRIX, 4)
    if matrix is not None:
        pair, phase = _of_matrix(elements, matrix, phase)
    else:
        frequency, lines = (elements.count(key) for key in _ENHANCED)
        pair = (lines, frequency) if phase == 0 else (frequency, lines)
    if phase is None:
        return NOWHERE
    if pair[phase] is not None and not _field_fits(elements, lengths[phase] / lengths[1 - phase]):
        pair = (None, pair[1]) if phase == 0 else (pair[0], None)
    return (*pair, None)


def _phase_axis(elements: Elements) -> int | None:
    words = elements.words("InPlanePhaseEncodingDirection")
    axes = [axis for word, axis in _PHASE_AXIS.items() if word in words]
    if len(axes) == 1:
        return axes[0]
    if words - {"OTHER"}:
        elements.ignore("InPlanePhaseEncodingDirection")
    return None


def _of_matrix(
    elements: Elements, matrix: tuple[int, ...], phase: int | None
) -> tuple[tuple[int | None, int | None], int | None]:
    """Return the samples along a row and along a column, and the phase axis.

    Args:
        elements: Elements of the header.
        matrix: Frequency along rows and columns, phase along rows and columns; two of the four are 0.
        phase: The phase axis, as another element states it.
    """
    by_places: dict[tuple[int, ...], int] = {(0, 3): 1, (1, 2): 0}
    found = by_places.get(tuple(place for place, count in enumerate(matrix) if count))
    if found is None or phase not in {None, found}:
        elements.ignore(_MATRIX)
        return (None, None), None
    frequency_row, frequency_column, phase_row, phase_column = matrix
    return (frequency_row or phase_row, frequency_column or phase_column), found


def _field_fits(elements: Elements, ratio: float) -> bool:
    """Tell whether the image ends where the field of view does: some scanners pad it to a square.

    Args:
        elements: Elements of the header.
        ratio: Length of the image along the phase axis over its length along the other axis.
    """
    percent = elements.numbers(_FIELD)
    if percent is None:
        return True
    if abs(percent[0] / 100 / ratio - 1) <= FIELD_FITS:
        return True
    elements.ignore(_FIELD)
    return False


def _value(get: Get, name: str) -> object:
    try:
        return get(name)
    except READ_ERRORS:
        return _UNREADABLE


def _named(keyword: str) -> str:
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"
