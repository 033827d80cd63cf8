"""A channelized Hotelling observer: how well faint spheres are told from tissue without them.

Channels are differences of Gaussians of the radial frequency, which a flat background does not excite.
Sources: Abbey and Barrett, Human- and model-observer performance in ramp-spectrum noise, JOSA A 18 (2001),
for the channels; Barrett, Yao, Rolland and Myers, Model observers for assessment of image quality, PNAS 90
(1993), for the observer.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from medrestore.types import Float64Array, FloatArray, RealArray

SIDE = 17
"""Side in voxels of the cube around a place that the observer sees."""

LOWEST, RATIO, WIDTH, CHANNELS = 0.03, 2.0, 2.0, 4
"""Cycles per voxel of the first channel, ratios of neighbours and of the Gaussians of each, their number."""

RIDGE = 1e-3
"""Part of the mean variance of the channels that is added to each, so that the covariance can be inverted."""


@lru_cache(maxsize=1)
def channels() -> Float64Array:
    """Return the channels in space, (CHANNELS, SIDE ** 3), each of norm 1."""
    frequency = np.fft.fftfreq(SIDE)
    squares = sum(
        np.square(f) for f in np.meshgrid(frequency, frequency, frequency, indexing="ij", sparse=True)
    )
    found = []
    for number in range(CHANNELS):
        edge = LOWEST * RATIO**number
        inner, outer = (np.exp(-0.5 * np.asarray(squares) / at**2) for at in (edge, WIDTH * edge))
        template = np.fft.fftshift(np.fft.ifftn(outer - inner).real).ravel()
        found.append(template / np.linalg.norm(template))
    return np.stack(found)


def seen(image: RealArray, places: list[tuple[int, int, int]]) -> Float64Array:
    """Return what the channels see around places of an image.

    Args:
        image: (X, Y, Z).
        places: Voxels at least SIDE // 2 from every border.

    Returns:
        (places, CHANNELS).
    """
    reach = SIDE // 2
    cubes = [image[tuple(slice(at - reach, at + reach + 1) for at in place)].ravel() for place in places]
    return np.asarray(np.stack(cubes).astype(np.float64) @ channels().T)


def template(signal: Float64Array, background: Float64Array) -> Float64Array:
    """Return the weights of the channels by which a signal stands out most.

    Args:
        signal: (CHANNELS,) what the signal adds.
        background: (N, CHANNELS) what is seen without it.
    """
    covariance = np.cov(background, rowvar=False)
    covariance += RIDGE * np.trace(covariance) / CHANNELS * np.eye(CHANNELS)
    return np.asarray(np.linalg.solve(covariance, signal))


def area_under_curve(present: Float64Array, absent: Float64Array) -> float:
    """Return the probability that a score with the signal is above one without it; ties count half."""
    order = np.sort(absent)
    below = np.searchsorted(order, present, "left") + np.searchsorted(order, present, "right")
    return float(np.mean(below) / (2 * len(order)))


def detectability_index(present: Float64Array, absent: Float64Array) -> float:
    """Return d', the distance of the mean scores over their root mean variance."""
    spread = float(np.sqrt((present.var() + absent.var()) / 2))
    return float(present.mean() - absent.mean()) / spread if spread > 0 else 0.0


def flat_deviation(image: FloatArray, inside: RealArray) -> float:
    """Return the deviation within the smoothest tenth of the blocks of 5 voxels cubed that are tissue."""
    side = 5
    counts = [size // side for size in image.shape]
    x, y, z = counts
    whole = tuple(slice(count * side) for count in counts)
    blocks, masks = (
        array[whole].reshape(x, side, y, side, z, side).transpose(0, 2, 4, 1, 3, 5).reshape(x * y * z, -1)
        for array in (np.asarray(image, dtype=np.float64), np.asarray(inside))
    )
    spread = np.sort(blocks[masks.all(axis=1)].std(axis=1))
    return float(np.sqrt(np.mean(np.square(spread[: max(len(spread) // 10, 1)])))) if spread.size else 0.0
