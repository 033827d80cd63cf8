"""Noise schedules of the reverse process: falling levels that end at zero."""

from __future__ import annotations

import numpy as np


def karras_levels(steps: int, high: float, low: float, rho: float = 7.0) -> tuple[float, ...]:
    """Levels evenly spaced in sigma^(1/rho), and a last level of zero.

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), eq. 5.

    Args:
        steps: Steps of the sampler; the result has one level more.
        high: First level.
        low: Last level before zero.
        rho: How much the steps shorten towards low noise.

    Raises:
        ValueError: Fewer than one step, or levels that rise, or are not finite and positive.
    """
    _check(steps, high, low)
    if steps == 1:
        return (high, 0.0)
    roots = np.linspace(high ** (1 / rho), low ** (1 / rho), steps)
    return (*(float(level) for level in roots**rho), 0.0)


def geometric_levels(steps: int, high: float, low: float) -> tuple[float, ...]:
    """Levels in geometric progression, and a last level of zero: the variance-exploding schedule.

    Source: Song et al., Score-Based Generative Modeling through Stochastic Differential Equations (2021),
    appendix C.

    Raises:
        ValueError: Fewer than one step, or levels that rise, or are not finite and positive.
    """
    _check(steps, high, low)
    return (*(float(level) for level in np.geomspace(high, low, steps)), 0.0)


def _check(steps: int, high: float, low: float) -> None:
    if steps < 1:
        raise ValueError(f"a schedule needs one step or more, got {steps}")
    if not 0 < low <= high < np.inf:
        raise ValueError(f"levels must fall from a finite high to a positive low, got {high} and {low}")
