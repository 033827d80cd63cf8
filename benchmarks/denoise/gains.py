"""Maps of relative noise: how the noise of a scan varies over it."""

from __future__ import annotations

import numpy as np

from benchmarks.harness.common import Truth
from medrestore.training.contrast import random_bias_field

GAINS = {
    "middle": "1 + 1.5 exp(-r^2 / 0.25), r from 0 in the middle to 1 in the middle of a face: a g-factor",
    "ramp": "from 0.5 to 2, linear along the first axis",
    "field": "a random field as in training (seed 1), 0.3 to 3",
}


def make_gain(kind: str, truth: Truth) -> np.ndarray:
    """A map of relative noise on the grid of a volume, 1 in the median over the head."""
    shape = truth.voxels.shape
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    if kind == "middle":
        gain = 1 + 1.5 * np.exp(-sum(axis**2 for axis in axes) / 0.25)
    elif kind == "ramp":
        gain = np.broadcast_to(1.25 + 0.75 * axes[0], shape)
    else:
        gain = random_bias_field(shape, np.random.default_rng(1), strength=0.8).clip(0.3, 3)
    return np.asarray(gain / np.median(gain[truth.head]), dtype=np.float32)
