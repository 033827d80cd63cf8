"""Whether a noise level that was told can be that of the scan: how far what is read of a scan may be off.

Every scan is measured, whatever is told. How far the true level may lie from what is read depends on how it
was read; the limits are those of scans whose level is known (`benchmarks/evidence/told.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medrestore.noise.model import Certainty, NoiseModel


class Kind(StrEnum):
    """How a level was read, as far as its error depends on it."""

    SURE = "sure"
    """MR, where air and tissue agree, or one of these and a series."""
    LIKELY = "likely"
    """MR, air or tissue alone, and its signal is mostly noise."""
    AIR = "unsure, with air"
    """MR, air and tissue differ."""
    TISSUE = "unsure, tissue alone"
    """MR, and fine anatomy may be part of it, or strong colour has hidden most of it."""
    SLICES = "slices"
    """The finest wavelet band of slices that are to be resolved, or of anything else."""
    CT = "CT"
    """Local deviation in soft tissue."""


TRUE_OVER_READ: dict[Kind, tuple[float, float]] = {
    Kind.SURE: (0.8, 1.25),
    Kind.LIKELY: (0.8, 1.39),
    Kind.AIR: (0.77, 1.49),
    Kind.TISSUE: (0.8, 4.55),
    Kind.SLICES: (0.76, 1.46),
    Kind.CT: (0.79, 1.25),
}
"""Between which multiples of what is read the true level lies."""

FAINT = 0.005
"""Levels that differ by less than this fraction of the bright level are the same: what is read there is fine
anatomy, and no noise."""


@dataclass(frozen=True)
class Reading:
    """What a scan itself shows of its noise, beside a level that was told.

    Attributes:
        sigma: Standard deviation in the units of the voxels.
        kind: How it was read.
        least: Least level that goes with it.
        most: Most level that goes with it.
    """

    sigma: float
    kind: Kind
    least: float
    most: float

    @classmethod
    def of(cls, sigma: float, kind: Kind, percentile: float) -> Reading:
        """Return the levels that go with one that was read.

        Args:
            sigma: What was read.
            kind: How.
            percentile: The 99th percentile of the scan; in CT, the attenuation of water.
        """
        (low, high), slack = TRUE_OVER_READ[kind], FAINT * percentile
        return cls(sigma, kind, max(min(low * sigma, sigma - slack), 0.0), max(high * sigma, sigma + slack))

    def goes_with(self, sigma: float) -> bool:
        """Whether a level may be that of the scan."""
        return self.least <= sigma <= self.most


def kind_of(measured: NoiseModel) -> Kind:
    """Return how the level of an MR scan was read."""
    if measured.certainty is Certainty.SURE:
        return Kind.SURE
    if measured.certainty is Certainty.LIKELY:
        return Kind.LIKELY
    return Kind.TISSUE if measured.source == "tissue" else Kind.AIR
