"""Filters as denoisers of medrestore: tensors in, tensors out, noise that varies divided out first."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from medrestore.diffusion import Condition, Denoiser
from medrestore.errors import ModelError
from medrestore.physics.mr_noise import signal_of_expectation

LEAST_SIDE = 8
"""Voxels along each axis that a filter is given at least: a thin volume goes on as its mirror image."""

Filter = Callable[..., np.ndarray]


def denoiser_of(filtering: Filter, *, rician: bool) -> Denoiser:
    """Return a denoiser that filters each scan of a batch by itself.

    Args:
        filtering: Of `filters`.
        rician: Whether the noise is that of magnitudes.
    """

    def denoise(x: torch.Tensor, sigma: float, condition: Condition) -> torch.Tensor:
        check_level(sigma)
        gain = gain_of(condition)
        image = np.asarray(condition.image[:, 0].cpu(), dtype=np.float64) / gain
        voxels = [filtered(scan, condition.sigma, filtering, rician) for scan in image]
        return as_estimate(np.stack(voxels) * gain, x)

    return denoise


def filtered(scan: np.ndarray, sigma: float, filtering: Filter, rician: bool) -> np.ndarray:
    """Return what a filter makes of (X, Y, Z) voxels, however thin; the voxels themselves without noise."""
    if sigma <= 0:
        return scan
    short = [(0, max(LEAST_SIDE - size, 0)) for size in scan.shape]
    whole = np.pad(scan, short, mode="symmetric") if any(end for _, end in short) else scan
    kept = tuple(slice(0, size) for size in scan.shape)
    return filtering(whole, float(sigma), rician=rician)[kept]


def denoiser_of_series(low_rank: Callable[[np.ndarray, float], np.ndarray]) -> Denoiser:
    """Return a denoiser that takes a series of magnitudes as its batch.

    Args:
        low_rank: From (X, Y, Z, T) voxels and the level of their noise to their expectations.
    """

    def denoise(x: torch.Tensor, sigma: float, condition: Condition) -> torch.Tensor:
        check_level(sigma)
        gain, level = gain_of(condition), condition.sigma
        series = np.asarray(condition.image[:, 0].cpu()) / gain
        if level > 0:
            expected = low_rank(np.ascontiguousarray(np.moveaxis(series, 0, -1), dtype=np.float32), level)
            series = signal_of_expectation(np.moveaxis(expected, -1, 0), level)
        return as_estimate(series * gain, x)

    return denoise


def check_level(sigma: float) -> None:
    """Refuse a state that is to be looked at: a filter knows the scan alone, and there are no samples.

    Raises:
        ModelError: The level of the state is finite.
    """
    if not math.isinf(sigma):
        raise ModelError(f"a filter has no samples; it was asked for a state of noise {sigma:.3g}")


def gain_of(condition: Condition) -> np.ndarray | float:
    """Return the map of the noise relative to its level, (B, X, Y, Z), or 1."""
    return 1.0 if condition.gain is None else np.asarray(condition.gain[:, 0].cpu(), dtype=np.float64)


def as_estimate(voxels: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return (B, X, Y, Z) voxels as the estimate for a state."""
    return torch.from_numpy(np.ascontiguousarray(voxels[:, None], dtype=np.float32)).to(like.device)
