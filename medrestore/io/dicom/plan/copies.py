"""Images in one place: copies, which are read once, and repeats, of which the mean may be taken."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from medrestore.errors import GeometryError, InputError
from medrestore.io.dicom.parse.files import READ_ERRORS, sha256_pixels
from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.io.dicom.parse.pixels import Pixels
from medrestore.io.dicom.plan.groups import parts_by
from medrestore.types import RealArray

# Repeats of an image correlate by more than this, and their deviations differ by less than this factor.
_SAME_SHAPE, _SAME_SPREAD = 0.5, 2.0


def without_copies(heads: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Return the slices without copies, and the copies.

    A copy is a file with the same pixels as another file, whose slices have the same place, instance number
    and attributes; instance UID, name and transfer syntax may differ.
    """
    files = parts_by(heads, lambda head: head.path)
    alike = parts_by(files, lambda path: tuple(_anonymous(head) for head in files[path]))
    copies: set[Path] = set()
    for paths in alike.values():
        if len(paths) == 1:
            continue
        decode = len({files[path][0].syntax for path in paths}) > 1
        seen: set[str] = set()
        for path in sorted(paths):
            digest = _digest_of_values(files[path]) if decode else _digest(path)
            if digest in seen:
                copies.add(path)
            seen.add(digest)
    kept = [head for head in heads if head.path not in copies]
    return kept, [head for head in heads if head.path in copies]


def _anonymous(head: SliceHeader) -> SliceHeader:
    """Return the header of a slice without path, UID and transfer syntax of its file."""
    hints = tuple((name, value) for name, value in head.hints if name != "file")
    return replace(head, path=Path(), instance="", hints=hints, syntax=UID(""))


def _digest(path: Path) -> str:
    try:
        return sha256_pixels(path)
    except READ_ERRORS:
        # Files that cannot be compared are not called equal; reading them raises the error.
        return str(path)


def _digest_of_values(heads: Sequence[SliceHeader]) -> str:
    try:
        with Pixels() as pixels:
            images = pixels.read(heads)
    except InputError:
        return str(heads[0].path)
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def check_repeats(first: SliceHeader, one: RealArray, second: SliceHeader, other: RealArray) -> None:
    """Refuse the mean of two images that do not show the same thing at the same scale.

    Raises:
        GeometryError: Their values are unlike, as those of two components, units or parts of the body.
    """
    spreads = float(one.std()), float(other.std())
    low, high = min(spreads), max(spreads)
    alike = low == high == 0.0
    if low > 0.0 and high <= _SAME_SPREAD * low:
        alike = float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) >= _SAME_SHAPE
    if not alike:
        raise GeometryError(
            f"{first.path.parent}: {first.name} and {second.name} lie in one place and do not show the same "
            "thing, so their mean would show nothing; take one of them out"
        )
