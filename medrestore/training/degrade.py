"""From a clean patch to the scan that the model is to undo: noise, or thick slices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medrestore.physics.mr_noise import add_gaussian, add_rician
from medrestore.physics.slices import SliceStack, upsample
from medrestore.training.contrast import random_bias_field
from medrestore.training.place import Place
from medrestore.training.recipe import DegradationOptions, SliceOptions
from medrestore.training.scanner import measure_patch
from medrestore.types import FloatArray


@dataclass(frozen=True)
class Degraded:
    """A scan, and what the model is told of it.

    Attributes:
        scan: (X, Y, Z) on the grid of the clean patch.
        gain: (X, Y, Z) map of its noise relative to `sigma`.
        sigma: Level of its noise, or of its error.
        details: See `Condition.details`.
        clean: What the model is to return, where it is another than the clean patch; else None.
    """

    scan: FloatArray
    gain: FloatArray
    sigma: float
    details: tuple[float, ...] = ()
    clean: FloatArray | None = None


Degrade = Callable[[FloatArray, Place, np.random.Generator], Degraded]
"""From a clean patch (X, Y, Z), and where it is from, to the scan."""


def make_degrade(noise: DegradationOptions, slices: SliceOptions | None = None) -> Degrade:
    """Return what makes a scan of an (X, Y, Z) patch: thick slices where there are options for them."""

    def degrade(clean: FloatArray, place: Place, rng: np.random.Generator) -> Degraded:
        return with_mr_noise(clean, noise, rng) if slices is None else as_slices(clean, slices, rng)

    return degrade


def with_mr_noise(clean: FloatArray, options: DegradationOptions, rng: np.random.Generator) -> Degraded:
    """Add Rician or Gaussian noise, white or coloured, constant or varying over the patch."""
    low, high = np.log(options.noise)
    sigma = float(np.exp(rng.uniform(low, high)))
    gain = np.ones_like(clean)
    if rng.random() < options.varying:
        gain = random_bias_field(clean.shape, rng, strength=0.8).clip(0.3, 3)
    target: FloatArray | None = None
    details: tuple[float, ...] = ()
    if options.coloured:
        made = measure_patch(clean, sigma, gain, options, rng)
        scan, target, details = made.scan, made.clean, made.details
    else:
        add = add_rician if rng.random() < options.rician else add_gaussian
        scan = add(clean, sigma * gain, rng)
    # The map and the level that the model is told are estimates.
    if rng.random() < options.unmapped:
        gain = np.ones_like(clean)
    elif gain.min() < gain.max():
        gain = gain * random_bias_field(clean.shape, rng, strength=4 * options.estimate_error)
    given_to_model = sigma * math.exp(rng.normal(0, options.estimate_error))
    return Degraded(scan, gain, given_to_model, details, target)


def as_slices(clean: FloatArray, options: SliceOptions, rng: np.random.Generator) -> Degraded:
    """Measure thick slices along the last axis, with noise or without, and put them back on the grid."""
    planes = clean.shape[2]
    factor = rng.uniform(*options.factor)
    if rng.random() < 0.5 and round(factor) > 1:
        factor = round(factor)
    stack = SliceStack(
        planes,
        slices=int(planes // factor),
        spacing=float(factor),
        width=float(factor * (1 if rng.random() < 0.4 else rng.uniform(*options.width))),
        softness=float(rng.choice(options.softness)),
        first=float((factor - 1) / 2 + (0 if rng.random() < 0.5 else rng.uniform(-0.5, 0.5))),
    )
    sigma = 0.0
    slices = stack.forward(clean)
    if rng.random() < options.noisy:
        sigma = float(np.exp(rng.uniform(*np.log(options.noise))))
        slices = (add_rician if rng.random() < options.rician else add_gaussian)(slices, sigma, rng)
        sigma *= math.exp(rng.normal(0, options.estimate_error))
    return on_fine_grid(slices, stack, sigma)


def on_fine_grid(slices: FloatArray, stack: SliceStack, noise: float) -> Degraded:
    """Put measured slices (X, Y, slices) on the fine grid, as a model is given them.

    Args:
        slices: In units of the model.
        stack: How they were measured.
        noise: Standard deviation of their noise, in the same units.
    """
    made = upsample(slices, stack, noise)
    return Degraded(made.image, np.broadcast_to(made.gain, made.image.shape), made.sigma, made.details)
