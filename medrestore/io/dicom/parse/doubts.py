"""What the header of a slice leaves open, and what was odd about it and is to be said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from medrestore.findings import KINDS, Finding

_MOST_NAMED = 4


class Doubt(StrEnum):
    """What a header leaves open of the values, and the pixels of the series may decide."""

    NO_SCALE = "without rescale slope and intercept"
    ZERO_SLOPE = "with a rescale slope of 0"
    RESCALE_TYPE = "with a rescale type that DICOM does not have"
    CLASS = "whose SOP class is not that of CT"
    HIGH_BIT = "whose high bit is not the highest of its bits stored"
    INVERTED = "with photometric interpretation MONOCHROME1 (black and white exchanged)"


class Oddity(NamedTuple):
    """Something odd about a file that was read all the same: code of its finding, and what it is."""

    code: str
    what: str


class _Odd(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def oddities(self) -> tuple[Oddity, ...]: ...


def findings_of(heads: Iterable[_Odd]) -> tuple[Finding, ...]:
    """Return what is to be said of the slices of a series: one finding for each kind of oddity."""
    met: dict[str, dict[str, list[str]]] = {}
    for head in heads:
        for code, what in head.oddities:
            met.setdefault(code, {}).setdefault(what, []).append(head.name)
    return tuple(_finding(code, whats) for code, whats in met.items())


def _finding(code: str, whats: dict[str, list[str]]) -> Finding:
    files: Sequence[str] = [name for names in whats.values() for name in names]
    more = f" and {len(whats) - _MOST_NAMED} more" if len(whats) > _MOST_NAMED else ""
    told = f"{'; '.join(list(whats)[:_MOST_NAMED])}{more}"
    text = f"{told} (in {len(set(files))} images, such as {files[0]})"
    return KINDS[code].found(text, images=len(set(files)))
