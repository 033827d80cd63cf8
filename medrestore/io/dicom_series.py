"""From slices to a grid: order them along the normal, and refuse what is no regular grid.

DICOM does not promise that a folder is one volume. Readers that guess turn a missing slice into a wrong
voxel size and a tilted gantry into a sheared head; here every such case is an error that names its files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrestore.errors import GeometryError, InputError
from medrestore.geometry import Geometry, lps_to_ras
from medrestore.io.dicom_head import Head
from medrestore.types import Float64Array

# Slices nearer than this are two images of the same place.
_SAME_PLACE_MM = 0.01
# Positions are rounded decimal strings: gaps may differ by this much, or this share of the gap.
_UNEVEN_MM, _UNEVEN_SHARE = 0.02, 0.02
# A gap this near to a multiple of the usual one is taken for missing slices.
_MISSING = 0.05
_TILT_DEGREES = 0.1
_DIRECTION = 2e-4
_PIXEL_MM = 1e-4


@dataclass(frozen=True)
class SeriesPlan:
    """The files of a series in the order of the third array axis, and the grid that they make."""

    heads: tuple[Head, ...]
    geometry: Geometry


def plan_series(heads: Sequence[Head], folder: Path) -> SeriesPlan:
    """Order slices by position along their normal and work out the grid, axes (column, row, slice).

    Raises:
        InputError: More than one series, sizes, modalities or value types that differ.
        GeometryError: Orientations or pixel sizes that differ, slices missing, doubled or unevenly spaced, or
            a tilted gantry.
    """
    _check_one_series(heads, folder)
    _check_alike(heads, folder)
    row, column = np.asarray(heads[0].orientation)
    normal = np.cross(row, column)
    ordered = sorted(heads, key=lambda head: float(np.dot(head.position, normal)))
    positions = np.asarray([head.position for head in ordered])
    if len(ordered) == 1:
        step = normal * heads[0].thickness
    else:
        along = positions @ normal
        _check_doubled(ordered, along, folder)
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        _check_tilt(step, normal, folder)
        _check_gaps(ordered, along, folder)
        _check_line(ordered, positions, step, folder)
    rows, columns = heads[0].size
    affine = np.eye(4)
    affine[:3, 0] = row * heads[0].spacing[1]
    affine[:3, 1] = column * heads[0].spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return SeriesPlan(tuple(ordered), Geometry((columns, rows, len(ordered)), lps_to_ras(affine)))


def _check_one_series(heads: Sequence[Head], folder: Path) -> None:
    counts = Counter(head.series for head in heads)
    if len(counts) > 1:
        listed = "; ".join(
            f"{uid} ({count} files, such as {next(head.path.name for head in heads if head.series == uid)})"
            for uid, count in counts.most_common(4)
        )
        raise InputError(
            f"{folder}: {len(counts)} DICOM series, expected one; put each into its own folder: {listed}"
        )


def _check_alike(heads: Sequence[Head], folder: Path) -> None:
    first = heads[0]
    for head in heads:
        where = f"{folder}: {first.path.name} and {head.path.name} differ in"
        if head.size != first.size:
            raise InputError(f"{where} size: {first.size} and {head.size} rows and columns")
        for name, value in first.same.items():
            if head.same[name] != value:
                raise InputError(
                    f"{where} {name}: {value!r} and {head.same[name]!r}; they are no single volume"
                )
        if not np.allclose(head.orientation, first.orientation, rtol=0, atol=_DIRECTION):
            raise GeometryError(f"{where} orientation: {first.orientation} and {head.orientation}")
        if not np.allclose(head.spacing, first.spacing, rtol=0, atol=_PIXEL_MM):
            raise GeometryError(f"{where} pixel spacing: {first.spacing} and {head.spacing} mm")


def _check_doubled(heads: Sequence[Head], along: Float64Array, folder: Path) -> None:
    doubled = np.flatnonzero(np.diff(along) < _SAME_PLACE_MM)
    if doubled.size:
        pair = f"{heads[doubled[0]].path.name} and {heads[doubled[0] + 1].path.name}"
        raise GeometryError(
            f"{folder}: {doubled.size} slices lie where another one does, such as {pair}; expected one image "
            "per position (several echoes, time points or copies are not one volume)"
        )


def _check_gaps(heads: Sequence[Head], along: Float64Array, folder: Path) -> None:
    """Check the distances of neighbours along the normal."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - usual) > max(_UNEVEN_MM, _UNEVEN_SHARE * usual))
    if uneven.size:
        worst = int(uneven[np.argmax(gaps[uneven])])
        times = float(gaps[worst]) / usual
        whole = round(times) > 1 and abs(times - round(times)) < _MISSING
        what = f"{round(times) - 1} slice(s) missing" if whole else "slices are unevenly spaced"
        raise GeometryError(
            f"{folder}: {what}: {gaps[worst]:.3f} mm between {heads[worst].path.name} and "
            f"{heads[worst + 1].path.name}, where {usual:.3f} mm is usual ({uneven.size} such gaps)"
        )


def _check_line(heads: Sequence[Head], positions: Float64Array, step: Float64Array, folder: Path) -> None:
    """Check that the slices lie on one straight, even line: small gaps can add up, slices can shift."""
    expected = positions[0] + np.arange(len(heads))[:, np.newaxis] * step
    apart = np.linalg.norm(positions - expected, axis=1)
    worst = int(apart.argmax())
    if apart[worst] > max(_UNEVEN_MM, _UNEVEN_SHARE * float(np.linalg.norm(step))):
        raise GeometryError(
            f"{folder}: {heads[worst].path.name} lies {apart[worst]:.3f} mm from its place "
            "on an even line of slices"
        )


def _check_tilt(step: Float64Array, normal: Float64Array, folder: Path) -> None:
    sine = np.linalg.norm(np.cross(step, normal)) / np.linalg.norm(step)
    degrees = float(np.rad2deg(np.arcsin(min(float(sine), 1.0))))
    if degrees > _TILT_DEGREES:
        raise GeometryError(
            f"{folder}: slices are stacked {degrees:.2f} degrees off their normal (tilted gantry); "
            "the voxels are no rectangular grid, resample the series first"
        )
