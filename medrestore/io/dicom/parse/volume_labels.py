"""The values that tell the volumes of a series apart: echo, b-value, time, stack, and further hints."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np

from medrestore.io.dicom.parse.elements import Get

Trait: TypeAlias = "float | str | tuple[float, ...] | None"
Traits: TypeAlias = tuple[tuple[str, Trait], ...]

_SIEMENS_B, _SIEMENS_DIRECTION, _SIEMENS_CREATOR = 0x0019100C, 0x0019100E, 0x00190010
_GE_B, _GE_CREATOR = 0x00431039, 0x00430010
_PHILIPS_B, _PHILIPS_CREATOR = 0x20011003, 0x20010010
# GE adds this to the b-value of some sequences.
_GE_OFFSET = 1_000_000_000

_FIRST_OF = {
    "echo time": ("EchoTime", "EffectiveEchoTime"),
    "echo": ("EchoNumbers",),
    "b-value": ("DiffusionBValue", _SIEMENS_B, _GE_B, _PHILIPS_B),
    "direction": ("DiffusionGradientOrientation", _SIEMENS_DIRECTION),
    "time": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "stack": ("StackID",),
}
# A word of an image type; makers use longer ones than the 16 characters that there are for it.
_WORD = re.compile(r"[A-Z0-9_ .+*/:-]{0,64}")
ACQUIRED_AT = "acquired at"
_HINTS = {
    "acquisition": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "trigger time": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "time offset": ("TemporalPositionTimeOffset",),
    "inversion time": ("InversionTime",),
    "flip angle": ("FlipAngle",),
    ACQUIRED_AT: ("AcquisitionTime",),
}
TRAIT_TAGS = [
    *(tag for tags in _FIRST_OF.values() for tag in tags),
    *(_SIEMENS_CREATOR, _GE_CREATOR, _PHILIPS_CREATOR),
]
HINT_TAGS = [tag for tags in _HINTS.values() for tag in tags]
_CREATORS = {
    _SIEMENS_B: (_SIEMENS_CREATOR, "SIEMENS"),
    _SIEMENS_DIRECTION: (_SIEMENS_CREATOR, "SIEMENS"),
    _GE_B: (_GE_CREATOR, "GEMS"),
    _PHILIPS_B: (_PHILIPS_CREATOR, "PHILIPS"),
}


def seconds_of_day(clock: float) -> float:
    """Return the seconds since midnight of a time of DICOM, HHMMSS.FFFFFF, that was read as a number."""
    hours, rest = divmod(clock, 10000)
    minutes, seconds = divmod(rest, 100)
    return 3600 * hours + 60 * minutes + seconds


def image_type_of(get: Get) -> tuple[str, ...]:
    """Return the values of the frame type, or else of the image type, in capitals."""
    values = get("FrameType") or get("ImageType") or ()
    values = [values] if isinstance(values, str) else values
    words = (str(value).strip().upper() for value in values)
    # What a damaged length drags into the type is no word of it.
    return tuple(word if _WORD.fullmatch(word) else "" for word in words)


def traits_of(get: Get) -> Traits:
    """Return the standard attributes that tell volumes apart."""
    return tuple((name, _first(get, tags)) for name, tags in _FIRST_OF.items())


def hints_of(get: Get) -> Traits:
    """Return further attributes that scanners use to tell volumes apart, the most reliable first."""
    return tuple((name, _first(get, tags)) for name, tags in _HINTS.items())


def _first(get: Get, tags: tuple[Any, ...]) -> Trait:
    for tag in tags:
        if tag in _CREATORS:
            creator, start = _CREATORS[tag]
            if not str(get(creator) or "").upper().startswith(start):
                continue
        trait = _plain(get(tag))
        if tag == _GE_B and trait is not None:
            # The b-value is the first of four numbers.
            first = trait[0] if isinstance(trait, tuple) else trait
            return first % _GE_OFFSET if isinstance(first, float) else None
        if trait is not None:
            return trait
    return None


def _plain(value: Any) -> Trait:
    """Return numbers as floats, several as a tuple, anything else as text; rounding is not a difference."""
    if value is None or value == "" or isinstance(value, bytes):
        # Private values without a type, as in implicit VR, are not guessed at.
        return None
    if isinstance(value, str):
        try:
            return round(float(value), 4)
        except ValueError:
            return value.strip()
    numbers = np.atleast_1d(np.asarray(value))
    if numbers.dtype.kind not in "iuf":
        try:
            numbers = numbers.astype(np.float64)
        except (TypeError, ValueError):
            return str(value)
    if numbers.size == 0:
        return None
    if numbers.size == 1:
        return round(float(numbers[0]), 4)
    return tuple(round(float(number), 4) for number in numbers)
