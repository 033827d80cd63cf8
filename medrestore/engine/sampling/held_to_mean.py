"""A denoiser of single volumes, applied to a series whose mean was measured better than any volume."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.physics.mr_noise import rician_expectation


class HeldToMean:
    """A denoiser of whole series: each volume by itself, then all moved so that their mean is right.

    What a denoiser takes for noise in every volume of a series, a faint edge say, stands out in the mean of
    T volumes, whose noise is the square root of T times weaker. So the mean is restored too, from what was
    measured of it, and every volume is moved by the difference between that and the mean of the estimates.
    What changes from volume to volume is left as the denoiser found it.

    The mean of magnitudes is no magnitude of the mean. What was measured is therefore compared with what the
    estimates would have given, whatever the contrasts of the volumes are.

    Args:
        denoiser: Of whole volumes.
        rician: Whether the noise is that of magnitudes; otherwise it is Gaussian.
    """

    def __init__(self, denoiser: Denoiser, *, rician: bool) -> None:
        self.denoiser = denoiser
        self.rician = rician

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`; the batch is the series."""
        result = torch.empty_like(x)
        for t in range(len(x)):
            result[t : t + 1] = self.denoiser(x[t : t + 1], sigma, _one(condition, slice(t, t + 1)))
        found = result.mean(dim=0, keepdim=True)
        first = _one(condition, slice(0, 1))
        mean = found + self._lacking(result, condition)
        if self.rician:
            mean = mean.clamp(min=0)
        level = condition.sigma / math.sqrt(len(x))
        result += self.denoiser(mean, math.inf, replace(first, image=mean, sigma=level)) - found
        return result

    def _lacking(self, result: Tensor, condition: Condition) -> Tensor:
        """Return by how much the mean of what was measured exceeds that of what the estimates would give."""
        total = torch.zeros_like(result[:1])
        for t in range(len(result)):
            one = _one(condition, slice(t, t + 1))
            total += one.image - self._expected(result[t : t + 1], one)
        return total / len(result)

    def _expected(self, clean: Tensor, condition: Condition) -> Tensor:
        if not self.rician or condition.sigma <= 0:
            return clean
        sigma = condition.sigma * (1.0 if condition.gain is None else np.asarray(condition.gain))
        return torch.from_numpy(rician_expectation(np.maximum(clean.numpy(), 0), sigma))


def _one(condition: Condition, part: slice) -> Condition:
    gain = None if condition.gain is None else condition.gain[part].contiguous()
    return replace(condition, image=condition.image[part], gain=gain)
