"""Quantiles of errors over their expected size, by groups of voxels: split conformal prediction by subjects.

A new scan is of a new subject, so subjects count alike, however many voxels or scans each gives, and a
quantile is taken at the level that covers as much as is asked for on subjects left out in turn: few subjects
make it wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrestore.types import Float64Array, FloatArray

Groups = npt.NDArray[np.intp]
"""(N,) which group each voxel is of."""

FEWEST = 3
"""Subjects without which nothing is calibrated."""

_HALVINGS = 12


@dataclass(frozen=True)
class Partition:
    """Groups of voxels by two clues: a grid of cells.

    Attributes:
        size: Edges between groups of the logarithm of the expected error over the noise.
        brightness: Edges of the logarithm of the brightness, a clue of `features`.
    """

    size: tuple[float, ...]
    brightness: tuple[float, ...]

    @property
    def count(self) -> int:
        """Number of groups."""
        return (len(self.size) + 1) * (len(self.brightness) + 1)

    def __call__(self, size: FloatArray, brightness: FloatArray) -> Groups:
        """Return the group of each voxel, of arrays of one shape."""
        across = np.searchsorted(self.brightness, brightness)
        return np.asarray(np.searchsorted(self.size, size) * (len(self.brightness) + 1) + across, np.intp)


@dataclass(frozen=True, eq=False)
class Scores:
    """Errors of one subject, over their expected size.

    Attributes:
        values: (N,) errors, truth minus result, over the expected size.
        groups: (N,) of the same voxels.
        weights: (N,) how much each counts; they sum to 1.
    """

    values: FloatArray
    groups: Groups
    weights: Float64Array


@dataclass(frozen=True, eq=False)
class _Distribution:
    """Weighted values in order, each with the share of the weight up to it."""

    values: FloatArray
    below: Float64Array

    @classmethod
    def of(cls, values: FloatArray, weights: Float64Array) -> _Distribution:
        order = np.argsort(values)
        return cls(values[order], np.cumsum(weights[order]) / weights.sum())

    def between(self, level: float) -> tuple[float, float]:
        """Return the quantiles that leave as much on either side."""
        shares = ((1 - level) / 2, (1 + level) / 2)
        low, high = np.minimum(np.searchsorted(self.below, shares), len(self.values) - 1)
        return float(self.values[low]), float(self.values[high])


def two_sided(subjects: Sequence[Scores], levels: Sequence[float], count: int) -> list[Float64Array]:
    """Return the quantiles between which errors lie, for each group.

    Args:
        subjects: The errors, by subject; `FEWEST` or more.
        levels: Shares of the voxels of a new scan that are to be covered.
        count: Number of groups.

    Returns:
        For each level the (2, count) lower and upper quantiles.
    """
    others = [
        _distributions([one for one in subjects if one is not left_out], count) for left_out in subjects
    ]
    every = _distributions(subjects, count)
    return [_bounds(every, _widened(subjects, others, level)) for level in levels]


def coverage(scores: Scores, bounds: Float64Array) -> float:
    """Return the share of the voxels of a subject whose errors lie between bounds of (2, groups)."""
    lower, upper = bounds[:, scores.groups]
    inside = (scores.values >= lower) & (scores.values <= upper)
    return float(np.sum(scores.weights[inside]))


def _widened(subjects: Sequence[Scores], others: Sequence[Sequence[_Distribution]], level: float) -> float:
    """Return the level at which subjects left out are covered to `level`, on average."""
    low, high = level, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        pairs = zip(subjects, others, strict=True)
        found = np.mean([coverage(left_out, _bounds(known, middle)) for left_out, known in pairs])
        low, high = (middle, high) if found < level else (low, middle)
    return high


def _bounds(distributions: Sequence[_Distribution], level: float) -> Float64Array:
    return np.array([one.between(level) for one in distributions]).T


def _distributions(subjects: Sequence[Scores], count: int) -> list[_Distribution]:
    """Return the errors in each group; those in all where a group has voxels of fewer than two subjects."""
    values, groups, weights = (
        np.concatenate([getattr(one, name) for one in subjects]) for name in ("values", "groups", "weights")
    )
    everywhere = _Distribution.of(values, weights)
    have = np.sum([np.bincount(one.groups, minlength=count) > 0 for one in subjects], axis=0)
    found = []
    for group in range(count):
        here = groups == group
        found.append(_Distribution.of(values[here], weights[here]) if have[group] >= 2 else everywhere)
    return found
