"""The values that tell the volumes of a series apart: echo, b-value, time, stack, and further hints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from medrestore.io.dicom.parse.elements import Get

Trait: TypeAlias = "float | str | tuple[float, ...] | None"
Traits: TypeAlias = tuple[tuple[str, Trait], ...]


def _as_it_is(value: Trait) -> Trait:
    return value


def _ge_b_value(value: Trait) -> Trait:
    """Return the first of four numbers, to which some sequences of GE add a large one."""
    first = value[0] if isinstance(value, tuple) else value
    return first % 1_000_000_000 if isinstance(first, float) else None


@dataclass(frozen=True)
class _Private:
    """Private elements: one, or one for each component of a vector.

    Attributes:
        tags: The elements.
        creator: The element that names the block, and how its value begins.
        maker: How the manufacturer begins, which counts where an anonymiser removed the name of the block.
        read: Makes the trait of the value.
    """

    tags: tuple[int, ...]
    creator: tuple[int, str]
    maker: str
    read: Callable[[Trait], Trait] = _as_it_is

    def __call__(self, get: Get) -> Trait:
        """Return the value, None where another maker's block or none is in that place."""
        tag, start = self.creator
        block = str(get(tag) or "").upper()
        known = (
            block.startswith(start)
            if block
            else str(get("Manufacturer") or "").upper().startswith(self.maker)
        )
        if not known:
            return None
        parts = [_plain(_decoded(get(tag))) for tag in self.tags]
        numbers = tuple(part for part in parts if isinstance(part, float))
        if len(parts) == 1:
            return self.read(parts[0])
        return self.read(numbers) if len(numbers) == len(parts) else None


@dataclass(frozen=True)
class _Comment:
    """What Canon writes into the comment of a diffusion image, such as ``b=1500(0.895,0.000,0.445)``."""

    direction: bool

    def __call__(self, get: Get) -> Trait:
        """Return the b-value, or the direction; None where the comment is another text."""
        found = _B_COMMENT.fullmatch(str(get("ImageComments") or "").strip())
        if found is None:
            return None
        return tuple(map(float, found.groups()[1:])) if self.direction else float(found[1])


_NUMBER = r"(-?\d+(?:\.\d+)?)"
_B_COMMENT = re.compile(rf"b={_NUMBER}\({_NUMBER},{_NUMBER},{_NUMBER}\)")
_SIEMENS, _GE_ACQUISITION, _GE_PARAMETERS = (
    (0x00190010, "SIEMENS"),
    (0x00190010, "GEMS"),
    (0x00430010, "GEMS"),
)
_PHILIPS, _PHILIPS_MR = (0x20010010, "PHILIPS"), (0x20050010, "PHILIPS")
_SIEMENS_COILS, _UIH = (0x00510010, "SIEMENS"), (0x00650010, "IMAGE PRIVATE HEADER")

_Way: TypeAlias = "str | _Private | _Comment"
_FIRST_OF: dict[str, tuple[_Way, ...]] = {
    "echo time": ("EchoTime", "EffectiveEchoTime"),
    "echo": ("EchoNumbers",),
    "b-value": (
        "DiffusionBValue",
        _Private((0x0019100C,), _SIEMENS, "SIEMENS"),
        _Private((0x00431039,), _GE_PARAMETERS, "GE", _ge_b_value),
        _Private((0x20011003,), _PHILIPS, "PHILIPS"),
        _Private((0x00651009,), _UIH, "UIH"),
        _Comment(direction=False),
    ),
    # Of these the axes are the patient's,
    "direction": (
        "DiffusionGradientOrientation",
        _Private((0x0019100E,), _SIEMENS, "SIEMENS"),
        _Private((0x200510B0, 0x200510B1, 0x200510B2), _PHILIPS_MR, "PHILIPS"),
    ),
    # and of these the maker's own.
    "gradient": (
        _Private((0x001910BB, 0x001910BC, 0x001910BD), _GE_ACQUISITION, "GE"),
        _Private((0x00651037,), _UIH, "UIH"),
        _Comment(direction=True),
    ),
    "time": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "stack": ("StackID",),
}
# A word of an image type; makers use longer ones than the 16 characters that there are for it.
_WORD = re.compile(r"[A-Z0-9_ .+*/:-]{0,64}")
ACQUIRED_AT = "acquired at"
_HINTS: dict[str, tuple[_Way, ...]] = {
    "acquisition": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "trigger time": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "time offset": ("TemporalPositionTimeOffset",),
    "frame reference time": ("FrameReferenceTime",),
    "inversion time": ("InversionTime",),
    "flip angle": ("FlipAngle",),
    "spin label": ("ASLContext", _Private((0x20051429,), _PHILIPS_MR, "PHILIPS")),
    "coil": (_Private((0x0051100F,), _SIEMENS_COILS, "SIEMENS"),),
    ACQUIRED_AT: ("AcquisitionTime",),
}
_DIMENSIONS = "dimension"
# Dimensions of an enhanced image that say where a frame lies, not which volume it is of.
_OF_PLACE = {0x00209056, 0x00209057, 0x00200032, 0x00200037, 0x00209113, 0x00209116, 0x00209111}


def _tags_of(ways: dict[str, tuple[_Way, ...]]) -> list[Any]:
    every = [way for some in ways.values() for way in some]
    private = [way for way in every if isinstance(way, _Private)]
    tags = {tag for way in private for tag in (*way.tags, way.creator[0])}
    return [*(way for way in every if isinstance(way, str)), *sorted(tags)]


TRAIT_TAGS: list[Any] = [*_tags_of(_FIRST_OF), "ImageComments", "Manufacturer"]
HINT_TAGS: list[Any] = [*_tags_of(_HINTS), "DimensionIndexSequence"]


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
    *hints, last = ((name, _first(get, ways)) for name, ways in _HINTS.items())
    return (*hints, (_DIMENSIONS, _dimensions(get)), last)


def _first(get: Get, ways: tuple[_Way, ...]) -> Trait:
    for way in ways:
        trait = _plain(get(way)) if isinstance(way, str) else way(get)
        if trait is not None:
            return trait
    return None


def _dimensions(get: Get) -> Trait:
    """Return the index of a frame of an enhanced image in every dimension but those of its place."""
    values, items = get("DimensionIndexValues"), get("DimensionIndexSequence")
    if not values or not items or len(items) != len(np.atleast_1d(values)):
        return None
    pointers = [item.get("DimensionIndexPointer") for item in items]
    index = zip(np.atleast_1d(values), pointers, strict=True)
    return tuple(float(value) for value, pointer in index if pointer not in _OF_PLACE) or None


def _decoded(value: Any) -> Any:
    """Return the numbers that bytes of an element without a type spell; other bytes as they are."""
    if not isinstance(value, bytes):
        return value
    try:
        numbers = [float(part) for part in value.decode("ascii").strip("\0 ").split("\\")]
    except ValueError:
        return value
    return numbers if len(numbers) > 1 else numbers[0]


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
