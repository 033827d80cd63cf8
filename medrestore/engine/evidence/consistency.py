"""How a residual differs from the noise that it should be: the statistics that a verdict rests on.

Each is an effect and not a significance: in units of the noise, a correlation, or a multiple of what the same
residual does elsewhere, so that a large scan is not judged harder than a small one. A residual far below the
noise, as where slices without noise are reproduced, is compared with a tenth of the noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.engine.evidence.moments import Moments
from medrestore.engine.evidence.residual import gradient_magnitude, neighbours
from medrestore.engine.evidence.slabs import Slab, slabs
from medrestore.types import Float64Array, FloatArray, RealArray

LEAST_TISSUE = 10_000
"""Voxels of tissue below which nothing but their number is said."""

SIZES = (3, 5, 9)
"""Sides in voxels of the boxes that something is looked for in."""

_FLOOR = 0.1  # of the noise
_SAMPLE = 1 << 20  # voxels that correlations are taken over, evenly spread
_STRIDE = 3  # of the voxels whose boxes tell the usual sum
_PLANE = 200  # voxels of tissue in a plane, or in a cell, that is looked at
_PLANES = 8  # planes without which none is compared
# Voxels of the largest scan and plane that set the limits: in larger ones an effect stands out more.
_USUAL_SCAN, _USUAL_PLANE = 72**3, 96**2
_CELLS = 4  # cells along each axis in which the level is compared
_NORMAL = 0.6745  # median magnitude of a standard normal variable
# What good results leave of what a Wiener filter would: fitted to those in MR that set the limits.
_STAYS = 0.73


@dataclass(frozen=True, eq=False)
class ExpectedNoise:
    """What a residual should be.

    Attributes:
        sigma: Level in the units of the voxels, above 0, or (X, Y, Z) one for each voxel.
        zero: The value of voxels without tissue.
        share: Part of it that was to be taken out, above 0.
        correlations: Correlation of neighbours along each axis; None where it was not measured.
    """

    sigma: float | RealArray
    zero: float = 0.0
    share: float = 1.0
    correlations: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Consistency:
    """How a residual compares with the noise.

    Attributes:
        voxels: Voxels of tissue.
        statistics: By name, None where there is nothing to measure; see `consistency`.
        place: Array index of the middle of the box of the largest excursion.
    """

    voxels: int
    statistics: Mapping[str, float | None]
    place: tuple[int, ...] | None = None


def consistency(scan: RealArray, restored: RealArray, expected: ExpectedNoise) -> Consistency:
    """Compare the residual of a result, scan minus result, with the noise.

    Args:
        scan: (X, Y, Z) voxels before.
        restored: (X, Y, Z) what would have been measured of the result.
        expected: The noise.

    Returns:
        Of the residual in tissue: ``deviation`` and ``mean`` over the noise; ``balance``, the variance
        and the share of the noise that may stay beside detail, together near 1; ``colour``, correlation of
        neighbours less that of the noise, of the three axes the one farthest from 0; ``edges``, correlation
        of the magnitude with the gradient of the result; correlations with the ``detail`` of the result
        (itself less its mean over 3 voxels cubed), with its ``intensity`` and, of the axes the largest, with
        its derivative (``displacement``); ``drift``, root mean square of means over 9 voxels cubed, over the
        noise; ``excursion``, the largest sum over a box of 3, 5 or 9 voxels cubed over the usual one;
        ``step``, the largest difference of the means of neighbouring planes over the usual one; ``stripes``,
        Student's t of alternating planes, both as in a scan no larger than those that set the limits;
        ``unevenness``, deviation of the logarithm of the local level.
    """
    whole, boxes = _Whole(expected, scan.size), [_Boxes(side) for side in SIZES]
    planes, cells = [_Planes(axis, size) for axis, size in enumerate(scan.shape)], _Cells(scan.shape)
    parts: tuple[_Part, ...] = (whole, *boxes, *planes, cells)
    sigma = np.asarray(expected.sigma * np.float32(expected.share), dtype=np.float32)
    for slab in slabs(scan, restored, sigma, expected.zero, SIZES[-1] // 2 + 1):
        for part in parts:
            part.add(slab)
    if whole.count < LEAST_TISSUE:
        return Consistency(whole.count, {})
    far = max(boxes, key=lambda box: box.excursion)
    found = {
        **whole.statistics(),
        "drift": boxes[-1].drift,
        "excursion": far.excursion,
        "step": _largest(plane.step for plane in planes),
        "stripes": _largest(plane.stripes for plane in planes),
        "unevenness": cells.unevenness,
    }
    return Consistency(whole.count, found, far.place)


def _largest(values: Iterable[float | None]) -> float | None:
    """Return the value that is farthest from 0; None where there is none."""
    return max((value for value in values if value is not None), key=abs, default=None)


class _Part(ABC):
    """A part of the statistics, which sees slab after slab."""

    @abstractmethod
    def add(self, slab: Slab) -> None: ...


class _Whole(_Part):
    """Moments over all of the tissue."""

    def __init__(self, expected: ExpectedNoise, size: int) -> None:
        self.count = 0
        self._expected, self._stride = expected, max(size // _SAMPLE, 1)
        self._signed, self._edges, self._lags = Moments(6), Moments(), [Moments() for _ in range(3)]
        self._stays = 0.0

    def add(self, slab: Slab) -> None:
        def seen(values: RealArray) -> RealArray:
            return values[slab.own][:: self._stride]

        self.count += int(np.count_nonzero(slab.own))
        residual, restored = seen(slab.residual[slab.new]), slab.restored
        detail = restored - ndimage.uniform_filter(restored, 3)
        self._stays += float(seen(_kept_by(detail / slab.sigma)[slab.new]).sum(dtype=np.float64))
        gradient = slab.gradient()
        self._signed.add(residual, seen(detail[slab.new]), seen(restored[slab.new]), *map(seen, gradient))
        self._edges.add(np.abs(residual), seen(gradient_magnitude(gradient)))
        for axis, lag in enumerate(self._lags):
            lag.add(*(values[:: self._stride] for values in neighbours(slab, axis)))

    def statistics(self) -> dict[str, float | None]:
        variance = max(float(self._signed.covariance[0, 0]), 0.0)
        weight = min(variance**0.5 / _FLOOR, 1.0)
        detail, intensity, *along = (None if c is None else c * weight for c in self._signed.correlations)
        edges = self._edges.correlation
        return {
            "deviation": variance**0.5,
            "balance": variance + _STAYS * self._stays / self._signed.count,
            "mean": float(self._signed.mean[0]),
            "colour": self._colour(weight),
            "edges": None if edges is None else edges * weight,
            "detail": detail,
            "intensity": intensity,
            "displacement": _largest(along),
        }

    def _colour(self, weight: float) -> float | None:
        told = self._expected.correlations
        if told is None:
            return None
        found = [lag.correlation for lag in self._lags]
        return _largest(weight * (c - own) for c, own in zip(found, told, strict=True) if c is not None)


def _kept_by(detail: FloatArray) -> FloatArray:
    """Return the share of white noise that a Wiener filter leaves beside (X, Y, Z) detail, relative to it."""
    power = np.maximum(ndimage.uniform_filter(np.square(detail), 5), 0)  # a running sum may end below 0
    return np.asarray(power / (power + np.float32(1)), dtype=np.float32)


class _Boxes(_Part):
    """Sums of the residual over boxes of one size, over the square root of their voxels."""

    def __init__(self, side: int) -> None:
        self.place: tuple[int, ...] | None = None
        self._side, self._most = side, 0.0
        self._sums: list[FloatArray] = []
        self._means: list[FloatArray] = []

    def add(self, slab: Slab) -> None:
        inside = ndimage.uniform_filter(slab.tissue.astype(np.float32), self._side, mode="constant")[slab.new]
        total = np.where(slab.tissue, slab.residual, np.float32(0))
        mean = ndimage.uniform_filter(total, self._side, mode="constant")[slab.new]
        enough = slab.own & (inside > 0.5)
        inside = np.where(enough, inside, np.float32(1))
        score = np.where(enough, mean / np.sqrt(inside), np.float32(0)) * np.float32(self._side**1.5)
        self._note(score, slab.start)
        first = -slab.start % _STRIDE  # the same voxels however thick the slabs are
        every = (slice(first, None, _STRIDE), slice(1, None, _STRIDE), slice(1, None, _STRIDE))
        self._sums.append(score[every][enough[every]])
        self._means.append((mean / inside)[every][enough[every]])

    def _note(self, score: FloatArray, start: int) -> None:
        at = int(np.argmax(np.abs(score)))
        most = float(np.abs(score.flat[at]))
        if most > self._most:
            x, *others = map(int, np.unravel_index(at, score.shape))
            self._most, self.place = most, (x + start, *others)

    @property
    def excursion(self) -> float:
        """The largest sum over the usual one."""
        sums = np.concatenate(self._sums)
        usual = float(np.median(np.abs(sums))) / _NORMAL if sums.size else 0.0
        return self._most / max(usual, _FLOOR)

    @property
    def drift(self) -> float:
        """Root mean square of the means."""
        means = np.concatenate(self._means)
        return float(np.sqrt(np.mean(np.square(means, dtype=np.float64)))) if means.size else 0.0


class _Planes(_Part):
    """Means of the residual over the planes across one axis."""

    def __init__(self, axis: int, size: int) -> None:
        self._axis = axis
        self._counts: Float64Array = np.zeros(size)
        self._sums: Float64Array = np.zeros(size)

    def add(self, slab: Slab) -> None:
        others = tuple(axis for axis in range(3) if axis != self._axis)
        tissue = slab.own
        rows = slice(slab.start, slab.start + len(tissue)) if self._axis == 0 else slice(None)
        self._counts[rows] += np.count_nonzero(tissue, axis=others)
        self._sums[rows] += np.sum(slab.residual[slab.new], axis=others, where=tissue, dtype=np.float64)

    @property
    def step(self) -> float | None:
        """The largest difference of neighbouring planes over the usual one, both over what chance gives."""
        found, chance = self._differences()
        if found.size < _PLANES:
            return None
        found = np.abs(found) / chance  # planes of few voxels differ more, by chance
        usual = max(float(np.median(found)) / _NORMAL, _FLOOR)
        larger = max(float(self._counts.max()) / _USUAL_PLANE, 1.0)
        return float(found.max() / usual / np.sqrt(larger))

    @property
    def stripes(self) -> float | None:
        """Student's t of the differences with every other one turned around."""
        found, chance = self._differences()
        if found.size < _PLANES:
            return None
        turned = found * (1 - 2 * (np.arange(found.size) % 2))
        spread = max(float(turned.std(ddof=1)), _FLOOR * float(np.median(chance)))
        larger = max(float(self._counts.sum()) / _USUAL_SCAN, 1.0)
        return float(abs(turned.mean()) / spread * np.sqrt(found.size / larger))

    def _differences(self) -> tuple[Float64Array, Float64Array]:
        """Return the differences of neighbouring planes, and the deviations that white noise has there."""
        counts = np.maximum(self._counts, 1)
        # Where padding or the field of view cuts tissue off, the last plane is no plane like the others.
        beside = np.pad(self._counts, 1)
        whole = (self._counts >= _PLANE) & (np.minimum(beside[:-2], beside[2:]) >= self._counts / 2)
        enough = whole[1:] & whole[:-1]
        chance = np.sqrt(1 / counts[1:] + 1 / counts[:-1])
        return np.asarray(np.diff(self._sums / counts)[enough]), np.asarray(chance[enough])


class _Cells(_Part):
    """The level of the residual in the cells of a coarse grid."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._index = [np.arange(size) * _CELLS // size for size in shape]
        self._moments: Float64Array = np.zeros((3, _CELLS**3))

    def add(self, slab: Slab) -> None:
        tissue, (x, y, z) = slab.own, self._index
        rows = x[slab.start : slab.start + len(tissue)]
        cells = (_CELLS**2 * rows[:, None, None] + _CELLS * y[:, None] + z)[tissue]
        values = slab.residual[slab.new][tissue].astype(np.float64)
        for order in range(3):
            self._moments[order] += np.bincount(cells, values**order, minlength=_CELLS**3)

    @property
    def unevenness(self) -> float | None:
        """Deviation of the logarithm of the cells' levels."""
        count, total, square = self._moments[:, self._moments[0] >= _PLANE]
        if count.size < _PLANES:
            return None
        variance = np.maximum(square / count - np.square(total / count), _FLOOR**2)
        return float(np.std(np.log(variance) / 2))
