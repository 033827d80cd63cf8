"""From a clean patch to the scan that the model is to undo: the noise of an MR image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from medrestore.physics.noise import add_gaussian, add_rician
from medrestore.training.config import DegradationOptions
from medrestore.training.contrast import random_bias_field
from medrestore.types import FloatArray

Degraded = tuple[FloatArray, FloatArray, float]
"""The scan, and what the model is told of it: the map of its noise relative to the level, and the level."""

Degrade = Callable[[FloatArray, np.random.Generator], Degraded]


def make_degrade(options: DegradationOptions) -> Degrade:
    """Return the degradation that the options describe, of (X, Y, Z) patches."""

    def degrade(clean: FloatArray, rng: np.random.Generator) -> Degraded:
        return with_mr_noise(clean, options, rng)

    return degrade


def with_mr_noise(clean: FloatArray, options: DegradationOptions, rng: np.random.Generator) -> Degraded:
    """Add Rician or Gaussian noise, constant or varying over the patch."""
    low, high = np.log(options.noise)
    sigma = float(np.exp(rng.uniform(low, high)))
    gain = np.ones_like(clean)
    if rng.random() < options.varying:
        gain = random_bias_field(clean.shape, rng, strength=0.8).clip(0.3, 3)
    add = add_rician if rng.random() < options.rician else add_gaussian
    scan = add(clean, sigma * gain, rng)
    # The map and the level that the model is told are estimates.
    if rng.random() < options.unmapped:
        gain = np.ones_like(clean)
    elif gain.min() < gain.max():
        gain = gain * random_bias_field(clean.shape, rng, strength=4 * options.estimate_error)
    return scan, gain, sigma * math.exp(rng.normal(0, options.estimate_error))
