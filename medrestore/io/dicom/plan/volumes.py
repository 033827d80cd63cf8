"""The volumes of a group of slices: told apart by their labels, by hints of scanners, or by their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from medrestore.errors import InputError
from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.io.dicom.parse.pixels import Pixels
from medrestore.io.dicom.parse.rescale import apply_scaling
from medrestore.io.dicom.parse.volume_labels import Trait
from medrestore.io.dicom.plan.groups import (
    Parts,
    divided,
    dividers_within,
    is_even,
    parts_by,
    places_of,
    tells_apart,
)

Label = tuple[tuple[str, Trait], ...]
"""The values that tell a volume from the others of its series, such as ``(("echo time", 4.6),)``."""

# Numbers of two slices that differ by less than this share may be one number of a volume.
_NEAR = 0.01
# Values below zero by more than this share of the range are signed: a phase, a field map, a real part.
_SIGNED = 0.05


@dataclass(frozen=True)
class VolumeSlices:
    """The slices of one volume.

    Attributes:
        label: Values that tell it from the others.
        heads: Its slices, one for each place unless nothing tells several apart.
        varying: Names of attributes that differ between its slices, and do not tell volumes apart.
        by_order: Whether the order of the images alone told it from the others.
        signed: Whether its values are signed; known only where the order alone tells volumes apart.
    """

    label: Label
    heads: list[SliceHeader]
    varying: tuple[str, ...] = ()
    by_order: bool = False
    signed: bool = False


def split_series(heads: list[SliceHeader]) -> list[list[VolumeSlices]]:
    """Return the volumes of parallel slices, by the series that they are.

    Where all of them are volumes of one even grid, geometry, frame of reference and image type divide only
    where they go through no volume; else they divide where `tells_apart` finds that they do.
    """
    volumes = _split_volumes(heads)
    groups = _groups(heads, volumes)
    return [volumes] if len(groups) == 1 else [_split_volumes(group) for group in groups]


def _groups(heads: list[SliceHeader], volumes: Sequence[VolumeSlices]) -> Parts:
    if not _complete(volumes, len(set(places_of(heads)))) or not is_even(volumes[0].heads):
        return divided(heads)
    within = {name for volume in volumes for name in dividers_within(volume.heads)}
    return divided(heads, [name for name in dividers_within(heads) if name not in within])


def _split_volumes(heads: Sequence[SliceHeader]) -> list[VolumeSlices]:
    """Return the volumes of a group, in the order in which scanner or archive numbered their images.

    Where images have no numbers of their own, in the order of the labels.

    Echo, b-value, gradient, time and stack tell volumes apart where their parts are whole (`tells_apart`).
    Where images still share a place, the hints of scanners are tried: a hint counts if each of its values has
    exactly one image in every place. Last the order of the images: as many in every place, volume after
    volume or place after place.

    Nearly equal values of a trait tell nothing where something else tells volumes that they go through.
    """
    at = places_of(heads)
    traits = [_joined(heads, at, n) for n in range(len(heads[0].traits))]
    every = range(len(traits))
    plain = [n for n in every if not _nearly_one([*traits[n]])]
    volumes = _split(heads, traits, every)
    if len(plain) < len(traits):
        others = _split(heads, traits, plain)
        names = {heads[0].traits[n][0] for n in every if n not in plain}
        through = any(not names.isdisjoint(volume.varying) for volume in others)
        if through and _complete(others, len(set(at))):
            volumes = others
    if all(head.order is not None for head in heads) and len(set(map(_start, volumes))) == len(volumes):
        volumes.sort(key=_start)
    return volumes


def _start(volume: VolumeSlices) -> tuple[int, int]:
    return min(map(_number, volume.heads))


def _complete(volumes: Sequence[VolumeSlices], places: int) -> bool:
    """Whether every volume has one image in every place."""
    return all(len(volume.heads) == places == len(set(places_of(volume.heads))) for volume in volumes)


def _split(
    heads: Sequence[SliceHeader], traits: Sequence[dict[Trait, Trait]], numbers: Iterable[int]
) -> list[VolumeSlices]:
    """Return the volumes that some traits tell, by what counts for each value, and then hints and order."""

    def values(head: SliceHeader, chosen: Sequence[int]) -> tuple[Trait, ...]:
        return tuple(traits[n][head.traits[n][1]] for n in chosen)

    dividing: list[int] = []
    found: dict[tuple[Trait, ...], list[SliceHeader]] = {(): list(heads)}
    for n in numbers:
        tried = [*dividing, n]
        parts = parts_by(heads, lambda head, tried=tried: values(head, tried))  # type: ignore[misc]
        if len(parts) > len(found) and tells_apart([*parts.values()]):
            dividing, found = tried, parts
    names = [heads[0].traits[n][0] for n in dividing]
    volumes = []
    for labels, part in sorted(found.items(), key=lambda item: [_rank(value) for value in item[0]]):
        label = tuple(zip(names, labels, strict=True))
        volumes += [
            replace(volume, label=(*label, *volume.label), varying=_varying(volume.heads))
            for volume in _without_doubles(part)
        ]
    return volumes


def _number(head: SliceHeader) -> tuple[int, int]:
    return head.order or 0, head.frame


def _varying(heads: Sequence[SliceHeader]) -> tuple[str, ...]:
    names = [
        name for n, (name, _) in enumerate(heads[0].traits) if len({head.traits[n] for head in heads}) > 1
    ]
    return (*dividers_within(heads), *names)


def _joined(heads: Sequence[SliceHeader], at: Sequence[int], number: int) -> dict[Trait, Trait]:
    """Return what counts for each value of a trait: nearly equal values in places of their own are one."""
    places: dict[Trait, set[int]] = {}
    for head, place in zip(heads, at, strict=True):
        places.setdefault(head.traits[number][1], set()).add(place)
    same = {value: value for value in places}
    for before, value in pairwise(sorted(places, key=_rank)):
        first = same[before]
        if _near(before, value) and places[first].isdisjoint(places[value]):
            same[value] = first
            places[first] |= places[value]
    return same


def _nearly_one(values: Sequence[Trait]) -> bool:
    """Whether there are several values, each nearly equal to the next."""
    return len(values) > 1 and all(_near(one, other) for one, other in pairwise(sorted(values, key=_rank)))


def _near(first: Trait, second: Trait) -> bool:
    if first is None or second is None or isinstance(first, str) or isinstance(second, str):
        return False
    one, other = np.atleast_1d(first), np.atleast_1d(second)
    return one.shape == other.shape and bool(
        np.linalg.norm(one - other) <= _NEAR * max(np.linalg.norm(one), np.linalg.norm(other))
    )


def _rank(value: Trait) -> tuple[int, tuple[float, ...], str]:
    """Return a sort key for values of any kind: missing values, numbers, several numbers, then words."""
    if value is None:
        return 0, (), ""
    if isinstance(value, float):
        return 1, (value,), ""
    return (3, (), value) if isinstance(value, str) else (2, value, "")


def _without_doubles(heads: list[SliceHeader]) -> list[VolumeSlices]:
    """Return volumes with one image in each place, if hints or the order of the images tell them."""
    places = len(set(places_of(heads)))
    whole = [VolumeSlices((), heads)]
    if places == len(heads):
        return whole
    candidates = [*_by_hints(heads), *_by_order(heads, places)]
    for last_may_be_cut in (False, True):
        for volumes in candidates:
            if _divides(volumes, places, last_may_be_cut):
                return _kinds(volumes) if volumes[0].by_order else volumes
    return whole


def _divides(volumes: Sequence[VolumeSlices], places: int, last_may_be_cut: bool) -> bool:
    """Whether every volume has one image in every place; the last of three or more may stop early."""
    last = volumes[-1].heads
    if last_may_be_cut and len(volumes) > 2 and len(set(places_of(last))) == len(last):
        volumes = volumes[:-1]
    return len(volumes) > 1 and _complete(volumes, places)


def _by_hints(heads: Sequence[SliceHeader]) -> list[list[VolumeSlices]]:
    found = []
    for number, (name, _) in enumerate(heads[0].hints):
        parts = parts_by(heads, lambda head, number=number: head.hints[number][1])  # type: ignore[misc]
        ordered = sorted(parts.items(), key=lambda item: _rank(item[0]))
        found.append([VolumeSlices(((name, value),), part) for value, part in ordered])
    return found


def _by_order(heads: Sequence[SliceHeader], places: int) -> list[list[VolumeSlices]]:
    """Return the volumes that consecutive images make, in the two orders in which scanners number them."""
    stated = {_number(head) for head in heads if head.order is not None}
    if len(stated) < len(heads) or places < 2:
        return []
    ordered = sorted(heads, key=_number)
    count, rest = divmod(len(heads), places)
    numbers = places_of(ordered)
    found = []
    # Where the first slice of a series is missing, runs of images turn back in place.
    if not rest or _runs(numbers[:places]):
        found.append([ordered[n : n + places] for n in range(0, len(heads), places)])
    if not rest and all(len(set(numbers[n : n + count])) == 1 for n in range(0, len(heads), count)):
        found.append([ordered[n::count] for n in range(count)])
    return [
        [VolumeSlices((("order", float(n)),), part, by_order=True) for n, part in enumerate(parts, 1)]
        for parts in found
    ]


def _runs(numbers: Sequence[int]) -> bool:
    """Whether places follow one another in one direction."""
    return {second - first for first, second in pairwise(numbers)} in ({1}, {-1})


def _kinds(volumes: Sequence[VolumeSlices]) -> list[VolumeSlices]:
    """Return the volumes with the sign of their values, which is read from the middle slice of each."""
    found = []
    with Pixels() as pixels:
        for volume in volumes:
            head = volume.heads[len(volume.heads) // 2]
            try:
                (stored,) = pixels.read([head])
            except InputError:
                # Reading the series names the damage.
                return list(volumes)
            values, padded = apply_scaling(stored, head.scaling, "rescaled")
            kept = values if padded is None else values[~padded]
            low, high = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 0.0)
            signed = low < -_SIGNED * max(high - low, 0.0) and head.modality != "CT"
            found.append(replace(volume, signed=signed))
    return found
