"""What a scan holds where air, soft tissue, bone and metal lie in HU: the only features that know a unit.

Magnitudes, which have nothing below 0, may lie there by chance, and so most of this is not known of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from medrestore.types import AIR_HU, UNMEASURED_HU, FloatArray, RealArray

SIGNED = -50.0
"""HU: a scan whose least voxel is above is one of magnitudes, and holds no air."""

METAL = 2500.0
"""HU above which hardly any bone or tooth lies."""

BIN, FARTHEST = 20, 400
"""HU of the bins of the histogram whose peak is that of soft tissue, and where it ends on both sides."""

PERCENTILES = (1, 25, 50, 75, 99)

Named = Iterator[tuple[str, float]]


def of_hounsfield(array: RealArray, voxels: FloatArray) -> Named:
    """Yield shares of voxels, and where their histogram lies.

    Args:
        array: (X, Y, Z), in the units of the scan.
        voxels: The same, evenly spread.
    """
    measured = voxels[voxels >= UNMEASURED_HU]
    air = float(np.mean(measured < -700)) if measured.size else 0.0
    yield "air in HU", math.log10(1e-4 + air)
    if not measured.size or float(measured.min()) > SIGNED:
        return
    body = measured[measured > AIR_HU / 2]
    if body.size:
        yield "soft in HU", float(np.mean((body > -150) & (body < 120)))
        yield "dense in HU", float(np.mean(body > 300))
        counts, edges = np.histogram(body, np.arange(-FARTHEST, FARTHEST + BIN, BIN))
        peak = int(counts.argmax())
        yield "peak in HU", float(edges[peak]) / 100
        yield "peak height in HU", float(counts[max(peak - 1, 0) : peak + 2].sum() / body.size)
    for percent, value in zip(PERCENTILES, np.percentile(measured, PERCENTILES), strict=True):
        yield f"p{percent} in HU", float(np.clip(value, -2000, 4000)) / 1000
    # Rods of metal are thin: every voxel is looked at.
    yield "metal in HU", math.log10(1e-6 + float(np.mean(array > METAL)))
    yield "streaks in HU", math.log10(1e-5 + float(np.mean(measured < -1150)))
