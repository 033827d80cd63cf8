"""Elements of a header, looked up one by one: a malformed one is passed over, or named where it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from medrestore.errors import InputError

Get = Callable[[Any], Any]
"""Looks an attribute of a slice up, by keyword or tag; None if the slice lacks it."""

NEEDED = frozenset(
    {
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored"),
        *("PixelRepresentation", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"),
        *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    }
)
"""Elements that voxels, or their place, come from: they are not passed over where they are malformed."""

_NUMBERS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV", "US or SS"})
_WHOLE = _NUMBERS - {"DS", "FL", "FD"}
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),\s*([0-9A-Fa-f]{4})\)")
_DECIMAL = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


class DamagedElementError(InputError):
    """An element that is needed and does not hold what it should."""


class Elements:
    """Looks attributes up in the data sets that may hold them, the first one that does.

    Attributes:
        odd: Names of the malformed elements that were met; several lookups of a file share it.
    """

    def __init__(self, where: str, places: Sequence[Dataset], odd: dict[str, None] | None = None) -> None:
        self._where = where
        self._places = places
        self.odd: dict[str, None] = {} if odd is None else odd

    def __call__(self, name: Any) -> Any:
        """Return a value; None where there is none, or none that makes sense.

        Raises:
            DamagedElementError: It is malformed, and one of those that are needed.
        """
        for place in self._places:
            value = self._value(place, name)
            if value is not None:
                return value
        return None

    def _value(self, data: Dataset, name: Any) -> Any:
        try:
            tag = _tag(name)
            value = data[tag].value if tag in data.keys() else None  # noqa: SIM118  Dataset looks tags up anew
            vr = _vr(name)
            if value is None or vr not in _NUMBERS or (_is_number(value) and not _has_too_many(value, name)):
                return value
            if value in ("", b"") or (not isinstance(value, str) and len(value) == 0):
                return None
        except Exception:  # noqa: BLE001  # pydicom raises whatever a damaged value leads it to
            value, vr = _raw(data, name), _vr(name)
        mended = _mended(value, vr)
        if _has_too_many(mended, name):
            mended = mended[0] if len(set(mended)) == 1 else None
        if mended is None and name in NEEDED:
            raise DamagedElementError(
                f"{self._where}: {named(name)} is malformed, and needed; the file is damaged, get it again"
            )
        self.odd[named(name)] = None
        return mended


def mend(data: Dataset) -> None:
    """Mend the malformed numbers of a header, in place and in sequences; leave out what cannot be mended."""
    for tag in list(data.keys()):
        keyword = keyword_for_tag(tag)
        vr = dictionary_VR(tag) if keyword else ""
        if vr not in {"SQ", *_NUMBERS}:
            continue
        get = Elements("", [data])
        try:
            value = get(keyword)
        except DamagedElementError:
            value, get.odd[keyword] = None, None
        if not get.odd:
            for item in value or () if vr == "SQ" else ():
                mend(item)
        elif value is None:
            del data[tag]
        else:
            setattr(data, keyword, value)


def named(name: Any) -> str:
    """Return keyword and tag of an element, such as ``Rows (0028,0010)``."""
    tag = Tag(tag_for_keyword(name) or 0) if isinstance(name, str) else Tag(name)
    numbers = f"({tag.group:04X},{tag.element:04X})"
    keyword = keyword_for_tag(tag)
    return f"{keyword} {numbers}" if keyword else f"private {numbers}" if tag.is_private else numbers


@cache
def _tag(name: Any) -> BaseTag:
    """Return the tag of an element, which pydicom would make anew from its keyword in every look-up."""
    return Tag(name)


@cache
def _vr(name: Any) -> str:
    """Return the kind of value that an element of the standard has; empty for private ones."""
    return dictionary_VR(name) if isinstance(name, str) else ""


def _has_too_many(value: Any, name: Any) -> bool:
    """Whether an element that holds one value by the standard has several."""
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) > 1
    return several and isinstance(name, str) and dictionary_VM(name) == "1"


def tag_in(error: BaseException) -> str:
    """Return the tag that an error of pydicom names, such as `` in (0028,0102)``; else nothing."""
    found = _TAG.search(str(error))
    return f" in ({found[1].upper()},{found[2].upper()})" if found else ""


def _is_number(value: Any) -> bool:
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        items = list(value)
        return bool(items) and all(_is_number(item) for item in items)
    return isinstance(value, (int, float))


def _raw(data: Dataset, name: Any) -> Any:
    """Return the bytes of an element that cannot be read, as text; None where they are no text."""
    element = data.get_item(name)
    value = element.value if isinstance(element, RawDataElement) else None
    try:
        return value.decode("ascii").split("\\") if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def _mended(value: Any, vr: str) -> Any:
    """Return the numbers that a text holds with a decimal comma, as some locales write them; else None."""
    items = [value] if isinstance(value, str) else value
    if vr not in _NUMBERS or not isinstance(items, Iterable):
        return None
    numbers = []
    for item in items:
        text = str(item).strip(" \0")
        if not _DECIMAL.fullmatch(text):
            return None
        number = float(text.replace(",", "."))
        if vr in _WHOLE and not number.is_integer():
            return None
        numbers.append(int(number) if vr in _WHOLE else number)
    return numbers[0] if len(numbers) == 1 else numbers or None
