"""Samplers: pure functions from a state and a callable to a clean volume.

A sampler knows `denoise(x, sigma)`, the expected clean volume, and nothing of networks, scans or tiles. The
probability-flow equation that they integrate is dx/dsigma = (x - denoise(x, sigma)) / sigma (Karras et al.
2022, eq. 1 and 3, for sigma(t) = t and s(t) = 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
DrawNoise = Callable[[int], Tensor]


@dataclass(frozen=True)
class SamplerStep:
    """What a callback sees after each step.

    Attributes:
        index: Number of the step, from 0.
        sigma: Level before the step, in model units.
        state: The state after the step, (B, C, ...) in model units.
        estimate: The clean volume as estimated from the state before the step; likewise.
    """

    index: int
    sigma: float
    state: Tensor
    estimate: Tensor


OnStep = Callable[[SamplerStep], None]


def one_step_mean(denoise: Denoise, x: Tensor) -> Tensor:
    """Return the posterior mean given the scan: one evaluation at an infinite level, which ignores `x`.

    Args:
        denoise: Expected clean volume given a state and its level.
        x: Any state, (B, C, ...) in model units.
    """
    return denoise(x, math.inf)


def euler(denoise: Denoise, x: Tensor, levels: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """Integrate the probability flow by Euler's method: one evaluation a step, the DDIM sampler.

    Args:
        denoise: Expected clean volume given a state and its level.
        x: State at the first level, (B, C, ...) in model units.
        levels: Falling standard deviations in model units; the last may be zero.
        on_step: Called after every step.
    """
    for index, (sigma, lower) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        estimate = denoise(x, sigma)
        x = estimate + (lower / sigma) * (x - estimate)
        _report(on_step, index, sigma, x, estimate)
    return x


def heun(denoise: Denoise, x: Tensor, levels: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """Integrate the probability flow by Heun's second-order method (Karras et al. 2022, algorithm 1).

    Two evaluations a step, one for the last step to zero. Arguments as for `euler`.
    """
    for index, (sigma, lower) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        estimate = denoise(x, sigma)
        slope = (x - estimate) / sigma
        x_next = x + (lower - sigma) * slope
        if lower > 0:
            slope_next = (x_next - denoise(x_next, lower)) / lower
            x_next = x + (lower - sigma) * (slope + slope_next) / 2
        x = x_next
        _report(on_step, index, sigma, x, estimate)
    return x


def stochastic(
    denoise: Denoise,
    x: Tensor,
    levels: Sequence[float],
    draw: DrawNoise,
    on_step: OnStep | None = None,
) -> Tensor:
    """Sample by ancestral steps: the exact conditional of the lower level given the estimate and the state.

    At each step x' ~ N(estimate + (l/s)^2 (x - estimate), l^2 (1 - (l/s)^2)), the posterior of the forward
    process of Ho et al., Denoising Diffusion Probabilistic Models (2020), eq. 6-7, for exploding variance.

    Args:
        denoise: Expected clean volume given a state and its level.
        x: State at the first level, (B, C, ...) in model units.
        levels: Falling standard deviations in model units; the last may be zero.
        draw: Unit noise of the shape of `x` for a step number.
        on_step: Called after every step.
    """
    for index, (sigma, lower) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        estimate = denoise(x, sigma)
        ratio = (lower / sigma) ** 2
        x = estimate + ratio * (x - estimate)
        if lower > 0:
            x = x + lower * math.sqrt(1 - ratio) * draw(index)
        _report(on_step, index, sigma, x, estimate)
    return x


def _report(on_step: OnStep | None, index: int, sigma: float, state: Tensor, estimate: Tensor) -> None:
    if on_step is not None:
        on_step(SamplerStep(index, sigma, state, estimate))
