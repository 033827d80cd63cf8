"""Which slices belong together: series, then volumes of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrestore.io.dicom.parse.files import READ_ERRORS, sha256_pixels
from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.io.dicom.parse.volume_labels import Trait
from medrestore.io.dicom.plan.stack import SAME_PLACE_MM, heights_of

_DIRECTION = 2e-4
_PIXEL_MM = 1e-4
# Volumes of one series lie in the same places, up to the rounding of positions.
_SAME_GRID_MM = 0.02

Label = tuple[tuple[str, Trait], ...]
"""The values that tell a volume from the others of its series, such as ``(("echo time", 4.6),)``."""


def group_slices(heads: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Return the slices that may be one series: of one UID, frame of reference, kind, size, orientation."""
    kinds: dict[Any, list[list[SliceHeader]]] = {}
    for head in heads:
        key = (head.series, head.frame_of_reference, head.modality, head.image_type, head.size)
        groups = kinds.setdefault((*key, head.scaling.rescale.units), [])
        for group in groups:
            if _alike(group[0], head):
                group.append(head)
                break
        else:
            groups.append([head])
    return [group for groups in kinds.values() for group in groups]


def without_copies(heads: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Return the slices without copies, and the copies.

    A copy is a file with the same pixels as another file, byte for byte, whose slices have the same place and
    attributes; instance UID and name may differ.
    """
    files: dict[Path, list[SliceHeader]] = {}
    for head in heads:
        files.setdefault(head.path, []).append(head)
    alike: dict[tuple[SliceHeader, ...], list[Path]] = {}
    for path, slices in files.items():
        alike.setdefault(tuple(_anonymous(head) for head in slices), []).append(path)
    copies: set[Path] = set()
    for paths in alike.values():
        seen: set[str] = set()
        for path in sorted(paths) if len(paths) > 1 else ():
            digest = _digest(path)
            if digest in seen:
                copies.add(path)
            seen.add(digest)
    kept = [head for head in heads if head.path not in copies]
    return kept, [head for head in heads if head.path in copies]


def _anonymous(head: SliceHeader) -> SliceHeader:
    """Return the header of a slice without path and UID of its file."""
    hints = tuple((name, value) for name, value in head.hints if name != "file")
    return replace(head, path=Path(), instance="", hints=hints)


def _digest(path: Path) -> str:
    try:
        return sha256_pixels(path)
    except READ_ERRORS:
        # Files that cannot be compared are not called equal; reading them raises the error.
        return str(path)


def _alike(first: SliceHeader, second: SliceHeader) -> bool:
    return bool(
        np.allclose(first.orientation, second.orientation, rtol=0, atol=_DIRECTION)
        and np.allclose(first.spacing, second.spacing, rtol=0, atol=_PIXEL_MM)
    )


def split_volumes(heads: Sequence[SliceHeader]) -> list[tuple[Label, list[SliceHeader]]]:
    """Return the volumes of a group, in the order of their labels.

    Echo, b-value, direction, time and stack always tell volumes apart, unless every slice has a value of
    its own and a place of its own. Where images still share a place, the hints of scanners are tried:
    a hint counts if each of its values has exactly one image in every place.
    """
    places = _places(heads)
    varying = [name for name, _ in heads[0].traits if _varies(heads, name, places)]
    volumes = []
    for label, part in _split(heads, varying):
        volumes += [((*label, *more), slices) for more, slices in _by_hints(part)]
    return volumes


def same_places(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> bool:
    """Whether two volumes lie on the same grid."""
    if len(first) != len(second):
        return False
    one, other = (np.asarray([head.position for head in _ordered(part)]) for part in (first, second))
    return bool(np.abs(one - other).max() <= _SAME_GRID_MM)


def missing_places(heads: Sequence[SliceHeader], others: Sequence[SliceHeader]) -> int:
    """Return how many places of another volume have no slice here; 0 unless all of these are in it."""
    normal = np.cross(*np.asarray(heads[0].orientation))
    here, there = (np.asarray([np.dot(h.position, normal) for h in part]) for part in (heads, others))
    near = np.abs(here[:, np.newaxis] - there[np.newaxis, :]) <= _SAME_GRID_MM
    return int((~near.any(axis=0)).sum()) if near.any(axis=1).all() else 0


def missing_parts(heads: Sequence[SliceHeader]) -> dict[str, int]:
    """Return how many parts are known to be absent, of each concatenation that the slices belong to."""
    parts: dict[str, set[int]] = {}
    totals: dict[str, int] = {}
    for head in heads:
        if head.concatenation is not None:
            uid, part, total = head.concatenation
            parts.setdefault(uid, set()).add(part)
            totals[uid] = max(totals.get(uid, 0), total, part)
    return {uid: totals[uid] - len(found) for uid, found in parts.items()}


def _ordered(heads: Sequence[SliceHeader]) -> list[SliceHeader]:
    return [heads[n] for n in np.argsort(heights_of(heads), kind="stable")]


def _places(heads: Sequence[SliceHeader]) -> int:
    along = np.sort(heights_of(heads))
    return int((np.diff(along) >= SAME_PLACE_MM).sum()) + 1


def _varies(heads: Sequence[SliceHeader], name: str, places: int) -> bool:
    values = {dict(head.traits)[name] for head in heads}
    if len(values) == len(heads) == places > 2:
        # A quantity of the slice, not of the volume.
        return False
    return len(values) > 1


def _split(heads: Sequence[SliceHeader], names: Sequence[str]) -> list[tuple[Label, list[SliceHeader]]]:
    parts: dict[Label, list[SliceHeader]] = {}
    for head in heads:
        values = dict((*head.traits, *head.hints))
        parts.setdefault(tuple((name, values.get(name)) for name in names), []).append(head)
    return sorted(parts.items(), key=lambda item: [_rank(value) for _, value in item[0]])


def _rank(value: Trait) -> tuple[int, float, str]:
    """Return a sort key for values of any kind: missing values, numbers, then words."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, float):
        return 1, value, ""
    return 2, 0.0, str(value)


def _by_hints(heads: Sequence[SliceHeader]) -> list[tuple[Label, list[SliceHeader]]]:
    places = _places(heads)
    if places < len(heads):
        for name, _ in heads[0].hints:
            parts = _split(heads, [name])
            if len(parts) > 1 and all(len(part) == places == _places(part) for _, part in parts):
                return parts
    return [((), list(heads))]
