"""What is known of the error of each voxel of a result: the clues that its size is predicted from.

All are taken after one evaluation, relative to the noise (of slices: to the error that interpolation is
expected to have), so that they mean the same at any level of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medrestore.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from medrestore.diffusion import Condition

LOCAL = ("level", "edge", "across", "curvature", "brightness", "texture", "taken_out")
"""The clues of every voxel; what the model is told of the scan as a whole (`Condition.details`) follows."""

FLOOR = 0.05
"""What stands for nothing before a logarithm is taken, in units of the noise."""

DARK = 0.5
"""The same for the brightness: magnitudes of air are about as large as their noise."""

WINDOW = 1.5
"""Standard deviation of the window of the texture, in voxels: that of SSIM."""

SIDE = 5
"""Side of the cube that what was taken out is averaged over, in voxels."""

MARGIN = 6
"""Voxels around a slab that its clues depend on."""

VOXEL_BYTES = 160
"""Memory that a voxel of a slab takes while its clues and what follows from them are computed."""

_SLAB = 1 << 19
"""Voxels of a slab, without its margins."""


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut (X, Y, Z) along X.

    Yields:
        The rows with what is around them, and the rows themselves among these.
    """
    thickness = _thickness(shape)
    for start in range(0, shape[0], thickness):
        stop = min(start + thickness, shape[0])
        rows = slice(max(start - MARGIN, 0), min(stop + MARGIN, shape[0]))
        yield rows, slice(start - rows.start, stop - rows.start)


def _thickness(shape: tuple[int, ...]) -> int:
    return max(_SLAB // max(shape[1] * shape[2], 1), 1)


def slab_bytes(shape: tuple[int, ...]) -> int:
    """Return the memory that a slab of a volume takes."""
    rows = min(_thickness(shape) + 2 * MARGIN, shape[0])
    return VOXEL_BYTES * rows * shape[1] * shape[2]


def noise_of(condition: Condition, rows: slice) -> FloatArray:
    """Return the noise in some rows of the scan, (X, Y, Z) in model units, or what broadcasts to it."""
    gain = np.ones((1, 1, 1), np.float32) if condition.gain is None else condition.gain[0, 0, rows].numpy()
    return np.asarray(np.maximum(condition.sigma * gain, 1e-6), dtype=np.float32)


def error_features(condition: Condition, estimate: Tensor, rows: slice) -> FloatArray:
    """Return the clues in some rows of a result.

    Args:
        condition: What the model was given.
        estimate: (1, 1, X, Y, Z) what it made of that, in model units.
        rows: Along X.

    Returns:
        (features, X, Y, Z): `LOCAL`, then one for each of the details.
    """
    noise = noise_of(condition, rows)
    result: FloatArray = np.asarray(estimate[0, 0, rows].numpy() / noise, np.float32)
    taken = condition.image[0, 0, rows].numpy() / noise - result
    slopes = [np.gradient(result, axis=axis) if result.shape[axis] > 1 else 0 * result for axis in range(3)]
    bend = ndimage.correlate1d(result, [1, -2, 1], axis=2, mode="nearest")
    local = [
        np.broadcast_to(np.log(noise), result.shape),
        _log(np.sqrt(sum(np.square(slope) for slope in slopes))),
        _log(np.abs(slopes[2])),
        _log(np.abs(bend)),
        np.log(np.maximum(result, 0) + np.float32(DARK)),
        _log(np.sqrt(texture(result))),
        _log(np.sqrt(ndimage.uniform_filter(np.square(taken), SIDE, mode="nearest"))),
    ]
    told = [np.full(result.shape, value, np.float32) for value in condition.details]
    return np.stack([*local, *told]).astype(np.float32)


def texture(image: FloatArray) -> FloatArray:
    """Return the local variance of an image, under a Gaussian window."""
    centred = image - np.float32(image.mean())
    mean = ndimage.gaussian_filter(centred, WINDOW, radius=5, mode="nearest")
    square = ndimage.gaussian_filter(np.square(centred), WINDOW, radius=5, mode="nearest")
    return np.asarray(np.maximum(square - np.square(mean), 0), dtype=np.float32)


def _log(values: FloatArray) -> FloatArray:
    return np.asarray(np.log(values + np.float32(FLOOR)), dtype=np.float32)
