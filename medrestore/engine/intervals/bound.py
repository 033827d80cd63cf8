"""The least PSNR and SSIM of a result, without a reference: foretold from the errors expected in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from medrestore.metrics import structural
from medrestore.types import Float64Array, FloatArray


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of the voxels of a result that lie in its head, in model units.

    Attributes:
        squares: (N,) squared errors.
        texture: (N,) local variances of the result.
        data_range: Maximum minus minimum of the result.
    """

    squares: FloatArray
    texture: FloatArray
    data_range: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio that the expected errors amount to, in dB."""
        mean = max(float(np.mean(self.squares, dtype=np.float64)), 1e-30)
        return 10 * math.log10(self.data_range**2 / mean)

    @property
    def ssim(self) -> float:
        """Structural similarity that they amount to.

        A result that is the expected scan has errors that know nothing of it: the covariance with the truth
        is its own variance t, and the variance of the truth t + e^2. With that, and equal means, SSIM is
        (2 t + C2) / (2 t + e^2 + C2).
        """
        known = 2 * self.texture + (structural.K2 * self.data_range) ** 2
        return float(np.mean(known / (known + self.squares), dtype=np.float64))


@dataclass(frozen=True)
class Deviations:
    """How the true value of a metric departed from the one foretold, over scans of several subjects.

    Attributes:
        mean: Mean over subjects; of PSNR in dB, of SSIM of the logarithm of (1 - true) / (1 - foretold).
        deviation: Standard deviation over all scans, each subject counting alike.
        subjects: How many there were.
    """

    mean: float
    deviation: float
    subjects: int

    def margin(self, level: float) -> float:
        """Return how far from the mean a further scan departs, to one side, with a probability of `level`.

        Student's prediction interval with as many degrees of freedom as subjects, less one: scans of one
        subject are no independent evidence.
        """
        wide = math.sqrt(1 + 1 / self.subjects)
        return float(special.stdtrit(self.subjects - 1, level)) * self.deviation * wide


@dataclass(frozen=True)
class Bound:
    """Departures of both metrics: what a bound is made of."""

    psnr: Deviations
    ssim: Deviations

    def least_psnr(self, expected: Expected, level: float) -> float:
        """Return the PSNR in dB that is reached or exceeded with a probability of `level`."""
        return expected.psnr + self.psnr.mean - self.psnr.margin(level)

    def least_ssim(self, expected: Expected, level: float) -> float:
        """Return the SSIM that is reached or exceeded with a probability of `level`."""
        return 1 - (1 - expected.ssim) * math.exp(self.ssim.mean + self.ssim.margin(level))


def psnr_departure(true: float, expected: Expected) -> float:
    """Return what `Deviations` are taken of, for PSNR."""
    return true - expected.psnr


def ssim_departure(true: float, expected: Expected) -> float:
    """Return what `Deviations` are taken of, for SSIM."""
    return math.log(max(1 - true, 1e-9) / max(1 - expected.ssim, 1e-9))


def deviations(by_subject: Sequence[Sequence[float]]) -> Deviations:
    """Summarise the departures of scans.

    Args:
        by_subject: Those of each subject's scans.
    """
    means = [float(np.mean(found)) for found in by_subject]
    mean = float(np.mean(means))
    squares: Float64Array = np.array([np.mean(np.square(np.array(found) - mean)) for found in by_subject])
    count = len(by_subject)
    return Deviations(mean, math.sqrt(float(squares.sum()) / (count - 1)), count)
