"""Stored pixels to values: rescaling, lookup tables, padding, and the scales that are used on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medrestore.errors import InputError
from medrestore.io.dicom.parse.doubts import Doubt
from medrestore.io.dicom.parse.elements import Get
from medrestore.options import Values
from medrestore.types import UNMEASURED_HU, BoolArray, RealArray

PHILIPS_CREATOR, PHILIPS_INTER, PHILIPS_SLOPE = 0x20050010, 0x2005100D, 0x2005100E
HOUNSFIELD = ("", "HU", "US")
"""Rescale types of CT in HU; "US" is DICOM's word for unspecified."""

_OTHER_UNITS = frozenset({"OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
"""Rescale types of the standard (PS3.3 C.11.1.1.2) that are not HU."""


@dataclass(frozen=True)
class Linear:
    """A linear scale, ``value = stored * slope + inter``, in `units`."""

    slope: float = 1.0
    inter: float = 0.0
    units: str = ""


@dataclass(frozen=True)
class Scaling:
    """How the stored values of a slice become values.

    Attributes:
        rescale: The modality's rescaling; its units are the rescale type.
        table: Modality lookup table and the stored value that its first entry is for; None if there is
            no table.
        padding: Smallest and largest stored value that means "nothing here"; None if no value does.
        least: Rescaled values below this mean "nothing here" too.
        philips: Philips' floating-point scale.
        real_world: Real world value mapping.
        top: The stored value that is the darkest, where white and black are exchanged; None where they are
            not.
    """

    rescale: Linear = Linear()
    table: tuple[int, tuple[float, ...]] | None = None
    padding: tuple[int, int] | None = None
    least: float | None = None
    philips: Linear | None = None
    real_world: Linear | None = None
    top: int | None = None

    def chosen(self, values: Values) -> Linear | None:
        """Return the linear scale that is asked for; None where the slice has none."""
        scales = {"rescaled": self.rescale, "philips": self.philips, "real-world": self.real_world}
        return Linear() if values == "stored" else scales[values]


def read_scaling(get: Get, where: str) -> Scaling:
    """Read the scales of a slice; a slope of 0 counts for none.

    Raises:
        InputError: A scale without a finite number, or CT in other units than HU.
    """
    table = _table(get, where)
    slope, inter = get("RescaleSlope"), get("RescaleIntercept")
    kind = _rescale_type(get)
    is_ct = get("Modality") == "CT"
    if is_ct and kind in _OTHER_UNITS:
        raise InputError(f"{where}: a CT image with rescale type {kind}; its values are not in HU")
    if slope == 0:
        slope = inter = None
    # A word that the standard does not know says nothing, and is not repeated.
    units = kind if not is_ct or kind in HOUNSFIELD else ""
    rescale = _linear(1.0 if slope is None else slope, 0.0 if inter is None else inter, units, where)
    return Scaling(
        rescale,
        table,
        _padding(get),
        UNMEASURED_HU if is_ct else None,
        _philips(get, rescale, where),
        _real_world(get, where),
    )


def doubts_about_scale(get: Get) -> tuple[Doubt, ...]:
    """Return what the header of a slice leaves open of its scale."""
    if get("ModalityLUTSequence"):
        return ()
    slope, inter, kind = get("RescaleSlope"), get("RescaleIntercept"), _rescale_type(get)
    if get("Modality") != "CT":
        return (Doubt.ZERO_SLOPE,) if slope == 0 else ()
    doubts = {
        Doubt.NO_SCALE: slope is None or inter is None,
        Doubt.ZERO_SLOPE: slope == 0,
        Doubt.RESCALE_TYPE: kind not in HOUNSFIELD,
    }
    return tuple(doubt for doubt, found in doubts.items() if found)


def _rescale_type(get: Get) -> str:
    return str(get("RescaleType") or "").strip().upper()


def apply_scaling(stored: RealArray, scaling: Scaling, values: Values) -> tuple[RealArray, BoolArray | None]:
    """Return the values of a slice, and where it is padding (None if no value means padding).

    Args:
        stored: Stored values, any shape.
        scaling: How stored values become values.
        values: Which of the scales to apply; the slice must have it.
    """
    padded = None
    if scaling.padding is not None:
        low, high = scaling.padding
        padded = (stored >= low) & (stored <= high)
    scaled = _scaled(stored, scaling, values)
    if values in {"rescaled", "stored"} and scaling.least is not None:
        outside = scaled < scaling.least
        padded = outside if padded is None else padded | outside
    return scaled, padded


def _scaled(stored: RealArray, scaling: Scaling, values: Values) -> RealArray:
    if values == "rescaled" and scaling.table is not None:
        first, entries = scaling.table
        table = np.asarray(entries)
        return np.asarray(table[np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)])
    linear = scaling.chosen(values)
    assert linear is not None
    if scaling.top is not None and values != "stored":
        stored = scaling.top - stored.astype(np.int64)
    if (linear.slope, linear.inter) == (1.0, 0.0):
        return stored
    return np.asarray(stored.astype(np.float64) * linear.slope + linear.inter)


def _linear(slope: Any, inter: Any, units: str, where: str) -> Linear:
    pair = float(slope), float(inter)
    if not np.isfinite(pair).all() or pair[0] == 0:
        raise InputError(
            f"{where}: a scale with slope and intercept {pair}, expected finite numbers and a slope other "
            "than 0"
        )
    return Linear(*pair, units)


def _table(get: Get, where: str) -> tuple[int, tuple[float, ...]] | None:
    sequence = get("ModalityLUTSequence")
    if not sequence:
        return None
    item = sequence[0]
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    entries = item.LUTData
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, dtype=np.uint8 if bits <= 8 else np.uint16)
    if get("PixelRepresentation") and first >= 1 << 15:
        first -= 1 << 16
    numbers = tuple(float(value) for value in np.atleast_1d(entries)[: count or 1 << 16])
    if not numbers or (count and len(numbers) < count):
        raise InputError(f"{where}: a modality lookup table with {len(numbers)} of {count} entries")
    return first, numbers


def _padding(get: Get) -> tuple[int, int] | None:
    first, limit = get("PixelPaddingValue"), get("PixelPaddingRangeLimit")
    if first is None or first == "":
        return None
    ends = sorted(_as_stored(int(end), get) for end in (first, first if limit in {None, ""} else limit))
    return ends[0], ends[1]


def _as_stored(value: int, get: Get) -> int:
    """Return a padding value as the pixels have it: some headers state a signed value without its sign."""
    bits = int(get("BitsAllocated") or 16)
    if get("PixelRepresentation") and value >= 1 << (bits - 1):
        return value - (1 << bits)
    if not get("PixelRepresentation") and value < 0:
        return value + (1 << bits)
    return value


def _philips(get: Get, rescale: Linear, where: str) -> Linear | None:
    """Return Philips' scale (Chenevert et al. 2014): FP = (stored * RS + RI) / (RS * SS)."""
    scale = _private_float(get(PHILIPS_SLOPE))
    if not str(get(PHILIPS_CREATOR) or "").startswith("Philips") or not scale:
        return None
    return _linear(1 / scale, rescale.inter / (rescale.slope * scale), "", where)


def _private_float(value: Any) -> float | None:
    if isinstance(value, bytes):
        return float(np.frombuffer(value[:4], "<f4")[0]) if len(value) >= 4 else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _real_world(get: Get, where: str) -> Linear | None:
    sequence = get("RealWorldValueMappingSequence")
    if not sequence or sequence[0].get("RealWorldValueSlope") is None:
        return None
    item = sequence[0]
    codes = item.get("MeasurementUnitsCodeSequence")
    units = str(codes[0].get("CodeValue", "")) if codes else ""
    return _linear(item.RealWorldValueSlope, item.get("RealWorldValueIntercept", 0.0), units, where)
