"""Small volumes that the contract of a model is tried on: a soft ball in noise, or thick slices of one."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion.denoiser import Condition
from medrestore.physics.kspace import colour_details
from medrestore.physics.slices import SliceStack, upsample
from medrestore.plugin.spec import Intensity, ModelSpec
from medrestore.types import Task

SIDE = 24
"""Voxels along each axis of the volume that is tried, rounded up to the model's `multiple`."""


def up(size: int, multiple: int) -> int:
    """Return a size in voxels, rounded up to a multiple."""
    return -(-size // multiple) * multiple


def unit(spec: ModelSpec) -> float:
    """Return what the 99th percentile of the tried scan is in the model's units."""
    return 1000.0 if spec.intensity is Intensity.RAW else 1.0


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return white noise of unit deviation, drawn anew from a seed."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def clean_scan(spec: ModelSpec, shape: tuple[int, ...]) -> Tensor:
    """Return (1, 1, X, Y, Z): a soft bright ball with a darker core, air around it."""
    grid = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float32) for n in shape), indexing="ij")
    radius = torch.stack(grid).square().sum(dim=0).sqrt()
    ball = torch.sigmoid((0.8 - radius) * 20) - 0.4 * torch.sigmoid((0.3 - radius) * 20)
    return (unit(spec) * ball)[None, None]


def small_scan(spec: ModelSpec, shape: tuple[int, int, int] | None = None, seed: int = 1) -> Condition:
    """Return what a model is given of the ball, in the middle of the noise that it was made for.

    Args:
        spec: The model.
        shape: X, Y and Z in voxels; None for `SIDE` along each.
        seed: Of the noise.
    """
    side = up(SIDE, spec.multiple)
    shape = (side, side, side) if shape is None else shape
    sigma = unit(spec) * max(sum(spec.noise) / 2, 1e-3)
    if spec.task is Task.SUPERRES:
        return _sliced(spec, shape, sigma, seed)
    details = colour_details((0.0, 0.0, 0.0)) if spec.colour else ()
    given = clean_scan(spec, shape) + sigma * gaussian((spec.series or 1, 1, *shape), seed)
    return Condition(given, sigma, details=details)


def _sliced(spec: ModelSpec, shape: tuple[int, int, int], sigma: float, seed: int) -> Condition:
    """Return thick slices along the last axis, put on the grid as the engine does it."""
    low, high = spec.factor or (2.0, 2.0)
    factor = min(max(2.0, low), high)
    # A volume of less than two slices is part of one that has them.
    planes = max(shape[2], math.ceil(2 * factor))
    stack = SliceStack(planes, int(planes / factor), factor, factor, first=(factor - 1) / 2)
    measured = stack.forward(clean_scan(spec, (*shape[:2], planes)).numpy())
    measured += np.float32(sigma) * gaussian(measured.shape, seed).numpy()
    told = upsample(measured, stack, sigma)
    image = torch.from_numpy(told.image)[..., : shape[2]].contiguous()
    gain = torch.from_numpy(told.gain)[..., : shape[2]].expand(image.shape).contiguous()
    return Condition(image, told.sigma, gain, told.details)


def noisy_state(condition: Condition) -> Tensor:
    """Return a state of (B, 1, X, Y, Z), that of the scan with as much noise again."""
    return condition.image + condition.sigma * gaussian(tuple(condition.image.shape), seed=2)
