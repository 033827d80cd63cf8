"""How the voxels of a derived DICOM image are stored: 16 bits, a scale, and the value of padding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from pydicom.valuerep import format_number_as_ds

from medrestore.types import FloatArray, RealArray

BITS = 16
_INT16 = (-(1 << 15), (1 << 15) - 1)
_UINT16 = (0, (1 << 16) - 1)
# The step of the stored values over the standard deviation of the noise: the noise of rounding is then 3 %.
_STEP_OF_NOISE = 0.1
# Where the noise is not known: steps in the range of the values.
_STEPS = 1 << 13

T = TypeVar("T", float, FloatArray)


@dataclass(frozen=True)
class Encoding:
    """How values are stored: ``value = stored * slope + inter``, in 16 bits.

    Attributes:
        slope: Rescale slope, exactly as the header has it.
        inter: Rescale intercept, likewise.
        signed: Whether stored values are signed.
        padding: Smallest and largest stored value that means "never measured"; None where the source has no
            such value.
    """

    slope: float
    inter: float
    signed: bool
    padding: tuple[int, int] | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest stored value."""
        return _INT16 if self.signed else _UINT16

    @property
    def is_plain(self) -> bool:
        """Whether stored values equal the values: slope 1, intercept 0."""
        return (self.slope, self.inter) == (1.0, 0.0)

    def stored(self, value: T) -> T:
        """Return the stored form of a value, or of each value of an array, before rounding."""
        return (value - self.inter) / self.slope

    def holds(self, low: float, high: float) -> bool:
        """Whether values from `low` to `high` can be stored."""
        return self.limits[0] <= round(self.stored(low)) and round(self.stored(high)) <= self.limits[1]


@dataclass(frozen=True)
class Wanted:
    """What an encoding has to represent.

    Attributes:
        low: Smallest value.
        high: Largest value.
        scale: Rescale slope and intercept of the source.
        padding: Range of the (rescaled) values that the source declares padding; None if it declares none.
        unmeasured: Range of the values that are padding, declared or not; None if there is no padding.
        noise: Standard deviation of the noise of the source; None where it is not known.
    """

    low: float
    high: float
    scale: tuple[float, float]
    padding: tuple[float, float] | None
    unmeasured: tuple[float, float] | None
    noise: float | None

    @property
    def all(self) -> tuple[float, float]:
        """Smallest and largest value, padding included."""
        ends = [self.low, self.high, *(self.padding or ()), *(self.unmeasured or ())]
        return min(ends), max(ends)


def hounsfield_encoding(wanted: Wanted) -> Encoding:
    """Choose slope 1 or finer and the source's intercept if they hold the values, else slope 1 and 0.

    Whole Hounsfield units are then stored exactly; values that do not fit into 16 bits are clipped, since one
    extreme value (metal, say) must not take the precision of all others.
    """
    slope, inter = wanted.scale
    candidates = [Encoding(1.0, 0.0, signed=True)]
    if inter.is_integer():
        candidates.insert(0, Encoding(1.0, inter, signed=True))
    if 0 < slope < 1:
        candidates.insert(0, Encoding(slope, inter, signed=True))
    fitting = [encoding for encoding in candidates if encoding.holds(*wanted.all)]
    fitting += [encoding for encoding in candidates if encoding.holds(wanted.low, wanted.high)]
    return _with_padding((fitting or candidates[-1:])[0], wanted.padding)


def arbitrary_encoding(wanted: Wanted) -> Encoding:
    """Choose the source's scale, refined by powers of two until rounding is far below the noise.

    The slope is the source's wherever it is fine enough, so that stored values stay comparable in viewers
    that know no rescaling of MR; it is coarser only where 16 bits do not hold the values.
    """
    slope, inter = abs(wanted.scale[0]), wanted.scale[1]
    if not 0 <= round((wanted.low - inter) / slope) <= round((wanted.high - inter) / slope) <= _INT16[1]:
        inter = min(inter, 0.0) if wanted.low >= min(inter, 0.0) else 0.0
    spread = wanted.high - min(wanted.low, inter)
    step = spread / _STEPS if not wanted.noise else wanted.noise * _STEP_OF_NOISE
    if step > 0 and slope > step:
        slope /= 2.0 ** math.ceil(math.log2(slope / step))
    encoding = Encoding(_as_text(slope), _as_text(inter), signed=wanted.all[0] < inter)
    if not encoding.holds(*wanted.all):
        encoding = replace(encoding, signed=wanted.low < inter)
    while not encoding.holds(wanted.low, wanted.high):
        encoding = replace(encoding, slope=_as_text(encoding.slope * 2))
    return _with_padding(encoding, wanted.padding)


def encode(values: RealArray, padding: FloatArray | None, encoding: Encoding) -> tuple[RealArray, int]:
    """Return the stored values of a slice, any shape, and how many of them had to be clipped.

    Args:
        values: Voxels, in the units of the scan.
        padding: Values of pixels that were never measured, which are stored unchanged; NaN elsewhere.
        encoding: How to store values.
    """
    low, high = encoding.limits
    stored = np.rint((np.asarray(values, dtype=np.float64) - encoding.inter) / encoding.slope)
    outside = (stored < low) | (stored > high)
    stored = np.clip(stored, low, high)
    if encoding.padding is not None:
        # A pixel that was measured must not be taken for padding.
        first, last = encoding.padding
        taken = (stored >= first) & (stored <= last)
        stored[taken] = last + 1 if last < high else first - 1
    if padding is not None:
        padded = ~np.isnan(padding)
        stored[padded] = np.clip(np.rint(encoding.stored(padding[padded])), low, high)
        outside &= ~padded
    return stored.astype(np.int16 if encoding.signed else np.uint16), int(np.count_nonzero(outside))


def _with_padding(encoding: Encoding, padding: tuple[float, float] | None) -> Encoding:
    if padding is None:
        return encoding
    low, high = encoding.limits
    first, last = (min(max(round(encoding.stored(end)), low), high) for end in padding)
    return replace(encoding, padding=(first, last))


def _as_text(number: float) -> float:
    """Return the number that the header will have: a decimal string has 16 characters."""
    return float(format_number_as_ds(number))
