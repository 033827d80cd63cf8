"""Noise models of magnitude MR images.

Arrays have any shape; `sigma` is the standard deviation of the noise in each receiver channel (the Gaussian
noise of the real and the imaginary part), in the units of the image, a number or an array that broadcasts.
"""

from __future__ import annotations

import numpy as np

from medrestore.types import FloatArray, RealArray


def add_gaussian(image: FloatArray, sigma: float | FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return `image` with independent Gaussian noise added.

    Args:
        image: Voxels of any shape and unit.
        sigma: Standard deviation in that unit, one or one for each voxel.
        rng: Source of randomness.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image + np.float32(sigma) * noise, dtype=np.float32)


def add_rician(image: FloatArray, sigma: float | FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the magnitude of `image` with complex Gaussian noise: a Rician variable at every voxel.

    Source: Gudbjartsson and Patz, The Rician distribution of noisy MRI data, Magn Reson Med 34 (1995), eq. 1.

    Args:
        image: Non-negative voxels of any shape and unit.
        sigma: Standard deviation of either channel in that unit, one or one for each voxel.
        rng: Source of randomness.
    """
    level = np.float32(sigma)
    real = image + level * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = level * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


def sum_of_squares_as_rician(magnitude: RealArray, sigma: float | FloatArray, coils: int) -> FloatArray:
    """Take the noise floor of further coils out of a sum of squares: its second moment becomes a Rician one.

    The square of a sum of squares over `coils` is on average A^2 + 2 coils sigma^2, the square of a Rician
    variable A^2 + 2 sigma^2. Source: Constantinides, Atalar and McVeigh, Magn Reson Med 38 (1997), eq. 3.

    Args:
        magnitude: Voxels of any shape.
        sigma: Deviation of the noise in each channel, one or one for each voxel.
        coils: How many were combined; 1 leaves the voxels as they are.
    """
    voxels = np.asarray(magnitude, dtype=np.float32)
    if coils == 1:
        return voxels
    excess = np.float32(2 * (coils - 1)) * np.square(np.asarray(sigma, dtype=np.float32))
    return np.asarray(np.sqrt(np.maximum(np.square(voxels) - excess, 0)), dtype=np.float32)
