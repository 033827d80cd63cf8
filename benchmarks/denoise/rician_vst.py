"""A variance-stabilising transform for Rician noise, with its exact unbiased inverse.

After Foi, "Noise estimation and removal in MR imaging: the variance-stabilization approach", ISBI 2011: a
filter made for Gaussian noise works on f(z / sigma), where the noise has about unit variance everywhere, and
its output, an estimate of E[f(z) | nu], is mapped to nu by inverting that expectation. Here f is the
first-order transform (the integral of one over the standard deviation as a function of the mean), tabulated:
the standard deviation after it is 0.89 at nu = 0, at most 1.06, and 1 from nu = 5 sigma on. Foi optimises f
further.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.special import ive

from medrestore.physics.mr_noise import rice_moments

TABLE = 1000
REACH = 7.0  # standard deviations of the noise that the table goes beyond the brightest voxel


class RicianVST:
    """The transform for one noise level, exact for magnitudes up to `brightest`.

    Args:
        sigma: Standard deviation of the noise in each channel, in the unit of the voxels.
        brightest: Largest magnitude to transform, same unit.
    """

    def __init__(self, sigma: float, brightest: float) -> None:
        self.sigma = sigma
        top = brightest / sigma + 1.0
        signal = np.linspace(0.0, top + REACH, TABLE)
        mean, deviation = rice_moments(signal)
        # below the mean of pure noise the deviation cannot be had as a function of the mean: go on straight
        self._at = np.concatenate([[0.0], mean])
        self._f = cumulative_trapezoid(
            1.0 / np.concatenate([deviation[:1], deviation]), self._at, initial=0.0
        )
        self._signal = np.linspace(0.0, top, TABLE)
        self._expected = self._expectation(self._signal)

    def forward(self, magnitude: np.ndarray) -> np.ndarray:
        """Map magnitudes to values whose noise has about unit standard deviation."""
        return np.interp(magnitude / self.sigma, self._at, self._f)

    def inverse(self, filtered: np.ndarray) -> np.ndarray:
        """Map an estimate of E[f(z)] to the magnitude without noise, in the unit of the voxels."""
        return self.sigma * np.interp(filtered, self._expected, self._signal)

    def _expectation(self, signal: np.ndarray) -> np.ndarray:
        z = np.linspace(0.0, signal[-1] + REACH, 4 * TABLE)
        f = np.interp(z, self._at, self._f)
        expected = np.empty_like(signal)
        for index, nu in enumerate(signal):
            density = z * np.exp(-((z - nu) ** 2) / 2) * ive(0, z * nu)
            expected[index] = np.trapezoid(f * density, z) / np.trapezoid(density, z)
        return expected
