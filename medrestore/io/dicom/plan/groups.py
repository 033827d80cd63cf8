"""Which slices belong together: of one series, one geometry and one kind of image.

Headers tell more apart than scanners do: an anonymiser gives every slice a frame of reference of its own, a
workstation rounds cosines, a console changes the image type half-way. So an attribute divides a series only
where the places of the slices agree: its parts must each be whole, in the same places or apart from each
other. Parts that lie between each other's slices are one volume.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.io.dicom.parse.rescale import HOUNSFIELD
from medrestore.io.dicom.plan.stack import SAME_PLACE_MM, GridDefect, heights_of, stack_slices

# Largest difference of a cosine, and of a pixel as a share of it: up to the first two it is rounding; up to
# the second two, slices between each other are one volume; up to the third two, no volumes of their own.
_SAME = (2e-4, 1e-4)
_JOINED = (2e-3, 1e-3)
_SUSPECT = (3e-2, 3e-2)
# Volumes of one series lie in the same places, up to the rounding of positions.
_SAME_GRID_MM = 0.02
# Slices further apart than this many of their thicknesses are not called neighbours.
_NEIGHBOURS = 2.0

Value = TypeVar("Value", bound=Hashable)
Item = TypeVar("Item")
Parts = list[list[SliceHeader]]


@dataclass(frozen=True)
class Cluster:
    """Slices of one series that lie in parallel.

    Attributes:
        groups: The slices that may be one series of volumes, each.
        cut: Whether slices of the series that are turned or scaled a little lie in between: too much to be
            of this volume, and too little to be another.
    """

    groups: Parts
    cut: bool


def group_slices(heads: Sequence[SliceHeader]) -> list[Cluster]:
    """Return the slices that may be one series.

    Slices of a group share series UID, modality, size, units and, within narrow bounds, orientation and pixel
    spacing. Geometry, frame of reference and image type divide them where `tells_apart` finds that they do.
    """
    clusters = []
    for kind in parts_by(heads, _kind).values():
        for near in _by_geometry(kind, _SUSPECT):
            parallel = _by_geometry(near, _JOINED)
            cut = not tells_apart(parallel)
            clusters += [Cluster(_divided(part, _DIVIDERS), cut) for part in parallel]
    return clusters


def _kind(head: SliceHeader) -> Hashable:
    units = head.scaling.rescale.units
    return head.series, head.modality, head.size, "" if units in HOUNSFIELD else units


def _by_geometry(heads: Sequence[SliceHeader], bounds: tuple[float, float]) -> Parts:
    parts: Parts = []
    for head in heads:
        for part in parts:
            if _alike(part[0], head, bounds):
                part.append(head)
                break
        else:
            parts.append([head])
    return parts


def _alike(first: SliceHeader, second: SliceHeader, bounds: tuple[float, float]) -> bool:
    turned = np.abs(np.subtract(first.orientation, second.orientation)).max()
    scaled = np.abs(np.subtract(first.spacing, second.spacing)).max() / min(first.spacing)
    return bool(turned <= bounds[0] and scaled <= bounds[1])


def parts_by(items: Iterable[Item], value: Callable[[Item], Value]) -> dict[Value, list[Item]]:
    """Return items, such as slices, by a value of theirs, in the order in which values come up."""
    parts: dict[Value, list[Item]] = {}
    for item in items:
        parts.setdefault(value(item), []).append(item)
    return parts


_DIVIDERS: dict[str, Callable[[Sequence[SliceHeader]], Parts]] = {
    "orientation or pixel spacing": lambda heads: _by_geometry(heads, _SAME),
    "frame of reference": lambda heads: [*parts_by(heads, lambda head: head.frame_of_reference).values()],
    "image type": lambda heads: [*parts_by(heads, lambda head: head.image_type).values()],
}


def _divided(heads: list[SliceHeader], names: Iterable[str]) -> Parts:
    name, *further = names
    parts = _DIVIDERS[name](heads)
    if not tells_apart(parts):
        parts = [heads]
    return [group for part in parts for group in _divided(part, further)] if further else parts


def divided_in_vain(heads: Sequence[SliceHeader]) -> list[str]:
    """Return the names of the attributes that differ within one group."""
    return [name for name, divider in _DIVIDERS.items() if len(divider(heads)) > 1]


def tells_apart(parts: Sequence[Sequence[SliceHeader]]) -> bool:
    """Whether parts of parallel slices are volumes or stacks of their own, by the places that they have.

    Two parts are apart if one has all places of the other, or if neither lacks a place of the other between
    its own slices; stacks that touch so that one even stack is made of both are not.
    """
    if len(parts) < 2:
        return True
    numbers = iter(places_of([head for part in parts for head in part]))
    stacks: dict[frozenset[int], dict[int, SliceHeader]] = {}
    for part in parts:
        slices = {next(numbers): head for head in part}
        stacks.setdefault(frozenset(slices), slices)
    return all(_apart(stacks[one], stacks[other]) for one, other in combinations(stacks, 2))


def _apart(first: dict[int, SliceHeader], second: dict[int, SliceHeader]) -> bool:
    one, other = set(first), set(second)
    if one <= other or other <= one:
        return True
    if _between(one, other) or _between(other, one):
        return False
    return bool(one & other) or not _even([*first.values(), *second.values()])


def _between(one: set[int], other: set[int]) -> bool:
    """Whether places of `other` that `one` lacks lie between its first and its last place."""
    return any(min(one) < place < max(one) for place in other - one)


def _even(heads: Sequence[SliceHeader]) -> bool:
    """Whether slices are neighbours at one distance; a tilt does not matter."""
    stack = stack_slices(heads)
    reach = max(*(head.thickness or 0.0 for head in heads), heads[0].distance)
    near = heads[0].thickness is None or stack.distance <= _NEIGHBOURS * reach
    return near and all(finding.flaw is GridDefect.TILT for finding in stack.findings)


def places_of(heads: Sequence[SliceHeader]) -> list[int]:
    """Return the number of the place of each slice along the normal of the first."""
    along = heights_of(heads)
    order = np.argsort(along, kind="stable")
    numbers = np.empty(len(heads), dtype=int)
    numbers[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) >= SAME_PLACE_MM)
    return [int(number) for number in numbers]


def same_places(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> bool:
    """Whether two volumes lie on the same grid."""
    if len(first) != len(second):
        return False
    one, other = (np.asarray([head.position for head in _ordered(part)]) for part in (first, second))
    return bool(np.abs(one - other).max() <= _SAME_GRID_MM)


def missing_places(heads: Sequence[SliceHeader], others: Sequence[SliceHeader]) -> int:
    """Return how many places of another volume have no slice here; 0 unless all of these are in it."""
    lacking, within = _lacking(heads, others)
    return len(lacking) if within else 0


def skipped_places(heads: Sequence[SliceHeader], others: Sequence[SliceHeader]) -> int:
    """Return how many places of another volume lie between slices here, where there is none."""
    lacking, _ = _lacking(heads, others)
    along = heights_of(heads)
    return int(((lacking > along.min()) & (lacking < along.max())).sum())


def _lacking(
    heads: Sequence[SliceHeader], others: Sequence[SliceHeader]
) -> tuple[np.ndarray[Any, Any], bool]:
    """Return the heights of others without a slice here, and whether all slices here are among the others."""
    normal = np.cross(*np.asarray(heads[0].orientation))
    here, there = (np.asarray([np.dot(h.position, normal) for h in part]) for part in (heads, others))
    near = np.abs(here[:, np.newaxis] - there[np.newaxis, :]) <= _SAME_GRID_MM
    return there[~near.any(axis=0)], bool(near.any(axis=1).all())


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
