"""Volumes of a series that differ by noise alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrestore.engine.evidence.residual import residual_evidence
from medrestore.noise.measure import Pair
from medrestore.types import RealArray
from medrestore.volume import Volume

MOST_PAIRS = 4
"""Number of pairs that are compared, evenly spread over the series."""

EDGES = (-0.3, 0.08)
"""Correlation of the difference's magnitude with the edges of the mean, up to which the difference is noise.
Above, something moved; below, the contrast changed, and flat tissue differs (-0.5). Noise alone has 0, and
-0.16 where a mask ends in tissue, or where the signal fluctuates by 6 % from voxel to voxel."""

PEAKED = 4.2
"""Kurtosis of the difference above which few voxels hold much of it; the kurtosis of noise is 3."""


def noise_pairs(volumes: Sequence[Volume]) -> tuple[Pair, ...]:
    """Return neighbours in a series whose difference holds noise and no anatomy.

    Args:
        volumes: Volumes of the series, in order; or some consecutive ones.

    Returns:
        Pairs of (X, Y, Z) voxels; empty where the volumes differ in contrast, or the patient moved.
    """
    count = max(len(volumes) - 1, 0)
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_PAIRS)).round().astype(int))
    neighbours = [(volumes[place], volumes[place + 1]) for place in places]
    return tuple(
        (first.array, second.array)
        for first, second in neighbours
        if first.geometry.allclose(second.geometry) and _is_noise(first.array, second.array)
    )


def _is_noise(first: RealArray, second: RealArray) -> bool:
    """Tell whether two volumes differ by noise alone."""
    half = (np.asarray(second, dtype=np.float32) - first) / 2
    mean = first + half
    # The noise of the mean is independent of the noise of the difference.
    found = residual_evidence(mean + half, mean, 1.0)
    edges, kurtosis = found["edge_correlation"], found["kurtosis"]
    return edges is not None and kurtosis is not None and EDGES[0] < edges < EDGES[1] and kurtosis < PEAKED
