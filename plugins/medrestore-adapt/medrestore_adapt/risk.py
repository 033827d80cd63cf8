"""Stein's unbiased estimate of the error of a denoiser: how far it is from a truth that nobody has.

For y = x + n with n ~ N(0, S), and a denoiser f, E|f(y) - x|^2 = E[|f(y) - y|^2 + 2 tr(S J)] - tr S with J
the Jacobian of f (Stein, Ann Stat 9, 1981), and tr(S J) is the expectation of b.J b over b ~ N(0, S) (Ramani
et al., IEEE Trans Image Process 17, 2008). Noise that varies over the scan, or has a colour, only changes b.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medrestore.diffusion import Condition

Estimate = Callable[[Condition], Tensor]
"""The posterior mean of a scan, (B, 1, X, Y, Z)."""

STEP = 0.1
"""Of the difference that stands for a derivative, in standard deviations of the noise."""


def risk(estimate: Estimate, condition: Condition, probe: Tensor, unbiased: Tensor | None = None) -> Tensor:
    """Return the estimate of the squared error at each voxel, over the variance of the noise there.

    Only its mean over many voxels means something.

    Args:
        estimate: The denoiser.
        condition: A scan, or a part of one.
        probe: Noise of unit deviation and of the colour of the scan's, of the shape of its image.
        unbiased: The scan less what its noise adds to it on average; None where that is nothing.

    Returns:
        (B, 1, X, Y, Z), of mean 1 for a denoiser that does nothing.
    """
    sigma = condition.sigma if condition.gain is None else condition.sigma * condition.gain
    noise = sigma * probe
    plain = estimate(condition)
    moved = estimate(Condition(condition.image + STEP * noise, *_rest(condition)))
    divergence = noise * (moved - plain) / STEP
    measured = condition.image if unbiased is None else unbiased
    return ((plain - measured) ** 2 + 2 * divergence) / sigma**2 - 1


def _rest(condition: Condition) -> tuple[float, Tensor | None, tuple[float, ...]]:
    return condition.sigma, condition.gain, condition.details


def probes(shape: tuple[int, ...], correlations: tuple[float, ...], generator: torch.Generator) -> Tensor:
    """Draw noise of unit deviation whose neighbours along each axis have such correlations.

    Args:
        shape: (B, 1, X, Y, Z).
        correlations: Along X, Y and Z, of at most 0.5 to either side of 0.
        generator: Of the draw.
    """
    noise = torch.randn(shape, generator=generator)
    for axis, correlation in enumerate(correlations, start=2):
        if correlation:
            # Of neighbours a, 1, a the correlation is 2 a / (1 + 2 a^2).
            a = (1 - math.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
            noise = noise + a * (noise.roll(1, axis) + noise.roll(-1, axis))
            noise = noise / math.sqrt(1 + 2 * a**2)
    return noise
