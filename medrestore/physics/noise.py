"""Noise models of magnitude MR images.

Arrays have any shape; `sigma` is the standard deviation of the noise in each receiver channel (the Gaussian
noise of the real and the imaginary part), in the units of the image, a number or an array that broadcasts.
"""

from __future__ import annotations

import numpy as np

from medrestore.types import FloatArray


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
