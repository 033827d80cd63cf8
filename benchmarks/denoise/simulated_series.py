"""A series that is computed: a head at low resolution, tasks in known regions, drift, Rician noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.metrics import head_mask
from medrestore.physics.mr_noise import add_rician

RADII = (1.0, 2.0, 4.0)
"""Of the regions, in voxels: 7, 33 and 257 voxels."""
EACH = 4
"""Regions of each size."""
BLOCK = 10
"""Volumes of rest, and of task, in turn."""
RESPONSE = (0.2, 0.5, 0.3)
"""How the signal follows the task, volume by volume."""


@dataclass(frozen=True)
class Simulated:
    """What is true.

    Attributes:
        clean: (T, X, Y, Z) volumes without noise.
        regions: (X, Y, Z) the number of the region from 1, or 0.
        sizes: Of each region, the index of its radius in `RADII`.
        task: (T,) course of the task, 0 to 1.
        head: (X, Y, Z) where there is tissue.
        p99: The 99th percentile of the head at rest.
    """

    clean: np.ndarray
    regions: np.ndarray
    sizes: tuple[int, ...]
    task: np.ndarray
    head: np.ndarray
    p99: float

    def noisy(self, level: float, seed: int) -> np.ndarray:
        """Return the series in Rician noise of `level` times the 99th percentile."""
        rng = np.random.default_rng([seed, 2])
        return np.stack([add_rician(volume, level * self.p99, rng) for volume in self.clean])


def averaged(voxels: np.ndarray, factor: int, slices: int) -> np.ndarray:
    """Return means over cubes of `factor` voxels, of the middle slices alone."""
    sizes = [size // factor for size in voxels.shape]
    x, y, z = (size * factor for size in sizes)
    cubes = voxels[:x, :y, :z].reshape(sizes[0], factor, sizes[1], factor, sizes[2], factor)
    low = cubes.mean(axis=(1, 3, 5), dtype=np.float32)
    first = (sizes[2] - slices) // 2
    return np.ascontiguousarray(low[..., first : first + slices])


def simulate(rest: np.ndarray, count: int, effect: float, seed: int) -> Simulated:
    """Return a series of `count` volumes of a head whose tasks raise the signal by `effect`."""
    rng, p99 = np.random.default_rng([seed, 1]), float(np.percentile(rest, 99))
    regions, sizes = _regions(rest > 0.4 * p99, rng)
    times = np.arange(count)
    task = np.convolve((times // BLOCK % 2).astype(np.float64), RESPONSE)[:count]
    smooth = ndimage.gaussian_filter(rng.standard_normal(rest.shape), 4)
    drift = 0.005 * smooth / smooth.std()
    active = effect * (regions > 0)
    courses = zip(task, times / (count - 1) - 0.5, strict=True)
    clean = np.stack([rest * (1 + active * on + drift * at) for on, at in courses])
    return Simulated(clean.astype(np.float32), regions, sizes, task, head_mask(rest), p99)


def _regions(tissue: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, ...]]:
    """Lay balls into tissue, apart from each other."""
    regions, sizes = np.zeros(tissue.shape, dtype=int), []
    grid = np.stack(np.indices(tissue.shape), axis=-1)
    depth = ndimage.distance_transform_edt(tissue)
    for size in sorted(range(len(RADII)), reverse=True):
        for _ in range(EACH):
            free = ndimage.distance_transform_edt(regions == 0) if sizes else np.inf
            # The largest may reach a little into what is not tissue: the head is thin.
            deep, apart = 0.75 * RADII[size] + 0.5, RADII[size] + 3
            places = np.argwhere((depth > deep) & (free > apart))
            if not len(places):
                raise ValueError("no place is left for a region")
            centre = places[rng.integers(len(places))]
            sizes.append(size)
            ball = np.square(grid - centre).sum(-1) <= RADII[size] ** 2
            regions[ball & tissue] = len(sizes)
    return regions, tuple(sizes)


def fitted(series: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Return (4, X, Y, Z): mean, drift and response to the task of every voxel, and what else fluctuates.

    The last is the standard deviation of the residual of the least-squares fit.
    """
    count = len(task)
    design = np.stack([np.ones(count), np.linspace(-0.5, 0.5, count), task - task.mean()], axis=1)
    flat = series.reshape(count, -1).astype(np.float64)
    weights = np.linalg.pinv(design) @ flat
    left = np.sqrt(np.square(flat - design @ weights).sum(axis=0) / (count - 3))
    return np.concatenate([weights, left[None]]).reshape(4, *series.shape[1:])


def judged(found: np.ndarray, truth: Simulated, data_range: float) -> dict[str, object]:
    """Return how good a series is.

    PSNR inside the head over all volumes; tSNR, the median over the head of mean over other fluctuation; of
    each size of region, the response to the task as a share of the true one; and the root mean square of
    false responses elsewhere in the head, as a share of the true response's.
    """
    error = np.square(found - truth.clean)[:, truth.head].mean(dtype=np.float64)
    mean, _, response, other = fitted(found, truth.task)
    true = fitted(truth.clean, truth.task)[2]
    kept = []
    for size in range(len(RADII)):
        numbers = [n for n, one in enumerate(truth.sizes, start=1) if one == size]
        shares = [response[truth.regions == n].mean() / true[truth.regions == n].mean() for n in numbers]
        kept.append(
            {"mean": float(np.mean(shares)), "error": float(np.std(shares, ddof=1) / len(shares) ** 0.5)}
        )
    away = truth.head & (ndimage.distance_transform_edt(truth.regions == 0) > 4)
    active = truth.regions > 0
    false = np.sqrt(np.mean(np.square(response - true)[away])) / np.sqrt(np.mean(np.square(true)[active]))
    return {
        "psnr": float(10 * np.log10(data_range**2 / error)),
        "tsnr": float(np.median((mean / np.maximum(other, 1e-6 * truth.p99))[truth.head])),
        "kept": kept,
        "false": float(false),
    }
