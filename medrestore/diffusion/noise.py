"""The forward process: Gaussian noise that belongs to a volume, a seed and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def volume_noise(shape: Sequence[int], key: Sequence[int]) -> Tensor:
    """Draw unit Gaussian noise for a whole volume.

    The draw is made on the CPU for all voxels at once, so that tiles, batches, workers and devices see the
    same number at the same voxel.

    Args:
        shape: Shape of the volume.
        key: Non-negative integers that name the draw: the seed, the sample, the step.

    Returns:
        float32 tensor of `shape` on the CPU.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(tuple(key))))
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))


def add_noise(clean: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """Forward process of the variance-exploding diffusion: x + sigma n, at once from the clean volume.

    Args:
        clean: (B, C, ...) in model units.
        sigma: Level in model units.
        noise: Unit noise of the same shape.
    """
    return clean + sigma * noise
