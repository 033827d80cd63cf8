"""From slices to a stack: in order along their normal, and the defects of that order.

DICOM does not promise that a folder is one volume. Readers that guess turn a missing slice into a wrong
voxel size and a tilted gantry into a sheared head; here every such case is a finding that names its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np

from medrestore.io.dicom.parse.header import SliceHeader
from medrestore.types import Float64Array

# Slices nearer than this are two images of the same place.
SAME_PLACE_MM = 0.01
# Positions are rounded decimal strings: gaps may differ by this much, or this share of the gap.
_UNEVEN_MM, _UNEVEN_SHARE = 0.02, 0.02
# Positions written to a tenth of a millimetre may be off by half of that; the above covers finer ones.
_COARSE = 0.1
# Rounding says nothing of distances smaller than this many times its step.
_COARSE_SHARE = 4
# A gap this near to a multiple of the usual gap is taken for missing slices.
_MISSING = 0.05
# Slices beyond more missing slices than this do not belong to the scan any more.
_LONGEST_RUN = 3
_TILT_DEGREES = 0.1


class GridDefect(StrEnum):
    """Kinds of defects that keep a stack of slices from being a regular grid."""

    GAP = "gap"
    DUPLICATE = "duplicate"
    TILT = "tilt"
    NONUNIFORM = "nonuniform"


@dataclass(frozen=True)
class Finding:
    """A flaw of a stack.

    Attributes:
        flaw: Kind of defect.
        amount: Slices missing, places with several images, or degrees; 0 if the kind has no count.
        text: The observation, its place, and the usual value.
        mendable: Whether resampling can mend it.
    """

    flaw: GridDefect
    amount: float
    text: str
    mendable: bool = True

    @property
    def label(self) -> str:
        """Such as ``gap(2)`` or ``tilt(18.5)``."""
        return f"{self.flaw}({self.amount:.4g})" if self.amount else str(self.flaw)


@dataclass(frozen=True)
class Stack:
    """Slices of one volume in the order along their normal, mm and LPS+.

    Attributes:
        places: The images at each place; one, unless there is a `GridDefect.DUPLICATE`.
        heights: Heights of the places along the normal, from the first place, (n,).
        shifts: Shifts of the places along row and column direction, from the first place, (n, 2).
        distance: The usual distance of neighbours; the stated distance for a single slice.
        lean: Shift along row and column direction for each mm of height, as a tilt causes, (2,).
        findings: Flaws of the stack.
        rounding: Step to which positions are rounded, mm, where that shows; else 0.
    """

    places: tuple[tuple[SliceHeader, ...], ...]
    heights: Float64Array
    shifts: Float64Array
    distance: float
    lean: Float64Array
    findings: tuple[Finding, ...]
    rounding: float = 0.0

    @property
    def heads(self) -> tuple[SliceHeader, ...]:
        """One image for each place."""
        return tuple(place[0] for place in self.places)


def axes_of(head: SliceHeader) -> Float64Array:
    """Return the unit vectors along a row, along a column and along the normal, 3x3."""
    return _axes(head.orientation)


@lru_cache(maxsize=64)  # a series has hardly more orientations, and asks for that of each of its slices
def _axes(orientation: tuple[tuple[float, ...], tuple[float, ...]]) -> Float64Array:
    row, column = np.asarray(orientation)
    axes = np.stack([row, column, np.cross(row, column)])
    axes.flags.writeable = False
    return axes


def heights_of(heads: Sequence[SliceHeader]) -> Float64Array:
    """Return the place of each image along the normal of the first, in mm."""
    normal = axes_of(heads[0])[2]
    return np.asarray([np.dot(head.position, normal) for head in heads])


def stack_slices(heads: Sequence[SliceHeader]) -> Stack:
    """Order the slices of one volume, and find defects that keep them from being a regular grid."""
    along = heights_of(heads)
    order = np.argsort(along, kind="stable")
    starts = np.flatnonzero(np.diff(along[order], prepend=-np.inf) >= SAME_PLACE_MM)
    places = tuple(tuple(heads[n] for n in part) for part in np.split(order, starts[1:]))
    findings = _doubled(places)
    axes = axes_of(heads[0])
    local = (np.asarray([place[0].position for place in places]) - places[0][0].position) @ axes.T
    heights, shifts = local[:, 2], local[:, :2]
    if len(places) == 1:
        return Stack(places, heights, shifts, heads[0].distance, np.zeros(2), findings)
    exact = _Tolerance(0.0, 0.0)
    stack = _measured(places, heights, shifts, exact)
    step = _rounding(places)
    if step and any(finding.flaw is GridDefect.NONUNIFORM for finding in stack.findings):
        # What looks uneven may be the rounding of an even stack.
        coarse = _Tolerance(step, step * float(np.abs(axes[2]).sum()))
        other = _measured(places, heights, shifts, coarse)
        even = not any(finding.flaw is GridDefect.NONUNIFORM for finding in other.findings)
        if even and other.distance > _COARSE_SHARE * step:
            stack = other
    return replace(stack, findings=(*findings, *stack.findings))


@dataclass(frozen=True)
class _Tolerance:
    """How far positions may be off for their rounding alone.

    Attributes:
        step: Step to which positions are rounded, mm; 0 where they are exact.
        gap: Largest error of a distance along the normal, mm: each of two positions is off by half a step.
    """

    step: float
    gap: float

    def of(self, distance: float) -> float:
        """Return how far a gap may be from the usual distance, mm."""
        return max(_UNEVEN_MM, _UNEVEN_SHARE * distance, self.gap)


def _rounding(places: Sequence[tuple[SliceHeader, ...]]) -> float:
    """Return the step that positions are rounded to if that is a tenth of a millimetre; 0 otherwise."""
    tenths = np.asarray([place[0].position for place in places]) / _COARSE
    whole = np.abs(tenths - np.rint(tenths)).max() < 1e-6
    return _COARSE if whole else 0.0


def _measured(
    places: tuple[tuple[SliceHeader, ...], ...],
    heights: Float64Array,
    shifts: Float64Array,
    tolerance: _Tolerance,
) -> Stack:
    """Return the stack with its distance, its lean, and the defects beyond a tolerance."""
    distance = _usual(np.diff(heights), tolerance)
    if tolerance.step:
        distance = float(np.polyfit(steps_of(heights, distance), heights, 1)[0])
    findings = _uneven(places, heights, distance, tolerance)
    lean = _lean(heights, shifts, tolerance.of(distance))
    findings += _tilted(lean, tolerance.gap / float(heights[-1]))
    findings += _shifted(places, shifts - heights[:, np.newaxis] * lean, tolerance.of(distance))
    return Stack(places, heights, shifts, distance, lean, findings, tolerance.step)


def steps_of(heights: Float64Array, distance: float) -> Float64Array:
    """Return the number of each slice on a grid of a distance by their heights; missing slices count."""
    return np.concatenate([[0.0], np.cumsum(np.rint(np.diff(heights) / distance))])


def _doubled(places: Sequence[tuple[SliceHeader, ...]]) -> tuple[Finding, ...]:
    """Look for places with several images; the mean of repeats alone is an image of the patient."""
    doubled = [place for place in places if len(place) > 1]
    if not doubled:
        return ()
    first, second = doubled[0][:2]
    same = ", with the same SOP Instance UID" if first.instance and first.instance == second.instance else ""
    text = (
        f"{sum(len(place) - 1 for place in doubled)} slices lie where another one does, such as {first.name} "
        f"and {second.name}{same}; expected one image per place, and nothing tells volumes apart (no echo, "
        "b-value, time or acquisition that splits them evenly)"
    )
    differ = {name for place in doubled for head in place[1:] for name in _unlike(place[0], head)}
    if differ:
        text += f"; the images differ in {', '.join(sorted(differ))}, so their mean would show nothing"
    elif 2 * len(doubled) > len(places) > 1:
        text += "; most places hold several, which looks like volumes, and their mean would be none of them"
        differ = {"volume"}
    return (Finding(GridDefect.DUPLICATE, len(doubled), text, mendable=not differ),)


def _unlike(first: SliceHeader, second: SliceHeader) -> list[str]:
    """Return what says that two images in one place are no repeats of each other."""
    moved = np.abs(np.subtract(first.position, second.position)).max() > SAME_PLACE_MM
    pairs = zip((*first.traits, *first.hints), (*second.traits, *second.hints), strict=True)
    differ = [name for (name, one), (_, other) in pairs if one != other and name != "file"]
    if first.image_type != second.image_type:
        differ.append("image type")
    return [*differ, *(["place in their plane"] if moved else [])]


def _usual(gaps: Float64Array, tolerance: _Tolerance) -> float:
    """Return the usual distance: the mean of similar gaps around the lower median."""
    middle = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    return float(gaps[np.abs(gaps - middle) <= tolerance.of(middle)].mean())


def _uneven(
    places: Sequence[tuple[SliceHeader, ...]], heights: Float64Array, distance: float, tolerance: _Tolerance
) -> tuple[Finding, ...]:
    """Look at the distances of neighbours along the normal, and at their sums."""
    gaps = np.diff(heights)
    times = gaps / distance
    uneven = np.flatnonzero(np.abs(gaps - distance) > tolerance.of(distance))
    if not uneven.size:
        index = np.arange(len(heights), dtype=np.float64)
        line = heights[-1] * index / index[-1]
        if tolerance.step:
            line = np.polyval(np.polyfit(index, heights, 1), index)
        apart = np.abs(heights - line)
        worst = int(apart.argmax())
        if apart[worst] <= tolerance.of(distance):
            return ()
        text = (
            f"slices are unevenly spaced: {places[worst][0].name} lies {apart[worst]:.3f} mm from its place "
            "on an even line of slices"
        )
        return (Finding(GridDefect.NONUNIFORM, 0, text),)
    worst = int(uneven[np.argmax(np.abs(gaps[uneven] - distance))])
    where = (
        f"{gaps[worst]:.3f} mm between {places[worst][0].name} and {places[worst + 1][0].name}, where "
        f"{distance:.3f} mm is usual ({uneven.size} such gaps)"
    )
    steps = np.rint(times[uneven])
    if np.all(steps > 1) and np.all(np.abs(times[uneven] - steps) < max(_MISSING, tolerance.gap / distance)):
        missing = int((steps - 1).sum())
        mendable = missing < len(places) and steps.max() - 1 <= _LONGEST_RUN
        return (Finding(GridDefect.GAP, missing, f"{missing} slice(s) missing: {where}", mendable),)
    return (Finding(GridDefect.NONUNIFORM, 0, f"slices are unevenly spaced: {where}"),)


def _lean(heights: Float64Array, shifts: Float64Array, tolerance: float) -> Float64Array:
    """Return the slope of the line that the slices lie on; one slice out of line does not count."""
    lean = np.asarray((heights @ shifts) / (heights @ heights))
    if np.abs(shifts - heights[:, np.newaxis] * lean).max() <= tolerance:
        return lean
    return np.asarray(np.median(np.diff(shifts, axis=0) / np.diff(heights)[:, np.newaxis], axis=0))


def _tilted(lean: Float64Array, error: float) -> tuple[Finding, ...]:
    degrees = float(np.rad2deg(np.arctan(np.linalg.norm(lean))))
    if degrees <= max(_TILT_DEGREES, float(np.rad2deg(np.arctan(error)))):
        return ()
    text = (
        f"slices are stacked {degrees:.2f} degrees off their normal (tilted gantry); the voxels are no "
        "rectangular grid"
    )
    return (Finding(GridDefect.TILT, round(degrees, 2), text),)


def _shifted(
    places: Sequence[tuple[SliceHeader, ...]], apart: Float64Array, tolerance: float
) -> tuple[Finding, ...]:
    """Look for slices that are shifted within their planes."""
    lengths = np.linalg.norm(apart - np.median(apart, axis=0), axis=1)
    worst = int(lengths.argmax())
    if lengths[worst] <= tolerance:
        return ()
    text = (
        f"slices do not lie one above the other: {places[worst][0].name} lies {lengths[worst]:.3f} mm from "
        "its place on a line of slices"
    )
    return (Finding(GridDefect.NONUNIFORM, 0, text),)
