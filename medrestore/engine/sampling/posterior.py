"""Posterior mean and samples of a scan, in model units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medrestore.diffusion import (
    Condition,
    Denoiser,
    SamplerStep,
    euler,
    heun,
    karras_levels,
    stochastic,
    volume_noise,
)
from medrestore.engine.models.find import declared_sampler
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.options import GenerateOptions, RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.plugin.extensions.samplers import DeclaredSampler

START = 2.0
"""First level of a sampler, in units of the scan's noise.

The scan pins the clean volume down to a fraction of its noise, so the posterior mean plus noise of this level
is already the right state to a few per cent, and nothing is gained by starting from pure noise.
"""

STEEPEST = 2.2
"""Relative noise up to which a sampler's start rises with it: training goes up to 4.4 times the level."""

END = 0.05
"""Last level before zero, in units of the scan's noise."""


def evaluations(options: RestoreOptions, spec: ModelSpec) -> int:
    """Return how often the network runs over the whole volume."""
    count = sample_count(options)
    return ensemble_size(options, spec) + (count * evaluations_of_sample(options) if count else 0)


def evaluations_of_sample(options: RestoreOptions | GenerateOptions) -> int:
    """Return how often the network runs over a grid for one sample."""
    declared = plugin_sampler(options.sampler)
    if declared is not None:
        return declared.evaluations(options.steps)
    return 2 * options.steps - 1 if options.sampler == "heun" else options.steps


def plugin_sampler(name: str) -> DeclaredSampler | None:
    """Return a sampler of a plugin; None where the name is one of medrestore's own.

    Raises:
        ConfigError: No plugin has it.
    """
    declared = declared_sampler(name)
    return None if declared is None else DeclaredSampler(declared)


def sample_count(options: RestoreOptions) -> int:
    """Return how many samples are drawn: a sample as output needs one."""
    return max(options.samples, 1) if options.output == "sample" else options.samples


def posterior_mean(denoiser: Denoiser, condition: Condition) -> Tensor:
    """Evaluate at an infinite level, where the state is not looked at."""
    return denoiser(condition.image, math.inf, condition)


def sampling_levels(sigma: float, steps: int, start: float = START) -> tuple[float, ...]:
    """Return the levels of a sampler for a scan of noise or error `sigma`; `start` is in units of `sigma`."""
    return karras_levels(steps, start * sigma, END * sigma)


def posterior_sample(
    denoise: Callable[[Tensor, float], Tensor],
    mean: Tensor,
    levels: Sequence[float],
    sampler: str,
    key: tuple[int, ...],
    on_step: Callable[[SamplerStep], None] | None = None,
) -> Tensor:
    """Draw one sample.

    Args:
        denoise: Expected clean volume given a state, its level and the scan.
        mean: Expected clean volume given the scan alone.
        levels: See `sampling_levels`.
        sampler: How to draw; see `RestoreOptions.sampler`.
        key: Names the draw: the seed, then the sample.
        on_step: Called after every step.
    """

    def draw(step: int) -> Tensor:
        return volume_noise(mean.shape, (*key, 1 + step)).to(mean.device)

    x = mean + levels[0] * volume_noise(mean.shape, (*key, 0)).to(mean.device)
    declared = plugin_sampler(sampler)
    if declared is not None:
        return declared(denoise, x, levels, draw, on_step)
    if sampler == "stochastic":
        return stochastic(denoise, x, levels, draw, on_step)
    return (heun if sampler == "heun" else euler)(denoise, x, levels, on_step)


def sample_statistics(draw: Callable[[int], Tensor], count: int) -> tuple[Tensor | None, Tensor | None]:
    """Draw samples one at a time, keeping two volumes only.

    Args:
        draw: Makes sample number i.
        count: Number of samples.

    Returns:
        The first sample, and the standard deviation over all (n - 1 in the denominator); each None where
        there are too few samples for it.
    """
    first, average, squares = None, None, None
    for index in range(count):
        sample = draw(index)
        if first is None or average is None or squares is None:
            first, average, squares = sample, sample.clone(), torch.zeros_like(sample)
            continue
        departure = sample - average
        average += departure / (index + 1)
        squares += departure * (sample - average)  # Welford's update
    if squares is None or count < 2:
        return first, None
    return first, (squares / (count - 1)).sqrt()
