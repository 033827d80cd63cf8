"""Intervals for the voxels of a result, and what they let expect of it as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition
from medrestore.engine.intervals.bound import Expected
from medrestore.engine.intervals.calibration import IntervalCalibration
from medrestore.engine.intervals.features import LOCAL, error_features, noise_of, slabs, texture
from medrestore.errors import InputError
from medrestore.metrics import head_mask
from medrestore.types import BoolArray, FloatArray

LATTICE = 96
"""Most voxels along an axis that the result is looked at as a whole with: enough for means over a head."""

_BRIGHTNESS = LOCAL.index("brightness")


@dataclass(frozen=True, eq=False)
class Widths:
    """How far the truth may lie from a result, in model units.

    Attributes:
        below: (1, 1, X, Y, Z) distance of the lower end, which may be negative where errors have a bias.
        above: The same of the upper end.
        squares: Squared errors expected of the voxels of a lattice in the head.
        texture: Local variance of the result at the same.
    """

    below: Tensor
    above: Tensor
    squares: FloatArray
    texture: FloatArray

    def expected(self, data_range: float) -> Expected:
        """Return what is expected of the result as a whole; `data_range` is its own, in model units."""
        return Expected(self.squares, self.texture, data_range)


def interval_widths(
    calibration: IntervalCalibration,
    level: float,
    condition: Condition,
    estimate: Tensor,
    *,
    in_doubt: bool = False,
) -> Widths:
    """Return the intervals of every voxel.

    Args:
        calibration: Of the model.
        level: Share of the voxels of a scan whose truth lies inside.
        condition: What the model was given.
        estimate: (1, 1, X, Y, Z) its mean, in model units.
        in_doubt: Whether the level of the noise is.
    """
    below, above = torch.empty_like(estimate), torch.empty_like(estimate)
    lower, upper = calibration.ends(level, in_doubt=in_doubt)
    spread = np.float32(calibration.quantiles.rms)
    image = estimate[0, 0].numpy()
    every, inside = head_lattice(image)
    squares, textures = np.empty(inside.shape, np.float32), np.empty(inside.shape, np.float32)
    for rows, new in slabs(image.shape):
        features = error_features(condition, estimate, rows)[:, new]
        noise = np.broadcast_to(noise_of(condition, rows), image[rows].shape)[new]
        size = calibration.scale(features)
        group = calibration.quantiles.groups(size, features[_BRIGHTNESS])
        scale = np.exp(size) * noise
        here = slice(rows.start + new.start, rows.start + new.stop)
        below[0, 0, here] = torch.from_numpy((-lower[group] * scale).astype(np.float32))
        above[0, 0, here] = torch.from_numpy((upper[group] * scale).astype(np.float32))
        some, at = _lattice_rows(here, every)
        squares[at] = np.square(spread * scale[some])
        textures[at] = texture(image[rows])[new][some]
    return Widths(below, above, squares[inside], textures[inside])


def head_lattice(image: FloatArray) -> tuple[tuple[slice, slice, slice], BoolArray]:
    """Return a lattice of at most `LATTICE` voxels along each axis, and which of its voxels are of the head.

    Everything is, in a volume that has no head to find.
    """
    steps = [max(math.ceil(side / LATTICE), 1) for side in image.shape]
    every = (slice(None, None, steps[0]), slice(None, None, steps[1]), slice(None, None, steps[2]))
    seen = np.ascontiguousarray(image[every])
    try:
        return every, head_mask(seen)
    except InputError:  # a constant volume
        return every, np.ones(seen.shape, dtype=np.bool_)


def _lattice_rows(here: slice, every: tuple[slice, slice, slice]) -> tuple[tuple[slice, slice, slice], slice]:
    """Return which voxels of some rows are of the lattice, and which rows of the lattice these are."""
    step = every[0].step
    first = -here.start % step
    begin = (here.start + first) // step
    count = len(range(first, here.stop - here.start, step))
    return (slice(first, None, step), every[1], every[2]), slice(begin, begin + count)
