"""Which of the values that a header calls padding are believed to be: by what they mean, and where they lie.

A header that calls 0 padding, where 0 is water, would turn tissue into air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.types import AIR_HU, BoolArray, Modality, RealArray

# CT within the noise of air, or less, is air whatever it is called.
_AIR_NOISE = 24.0
# A part of a picture that is its outside holds a corner, and at least this share of it.
_LEAST_OUTSIDE = 0.005
# Beyond any value that a scan may have.
_NEVER = 1e9


@dataclass(frozen=True)
class Belief:
    """The values that are believed to be padding wherever they lie; others are where they lie outside.

    Attributes:
        low: Values up to here.
        high: Values from here on.
    """

    low: float
    high: float

    def of(self, values: RealArray, padded: BoolArray) -> BoolArray:
        """Return which pixels of a picture are believed to be padding.

        Args:
            values: (row, column), rescaled.
            padded: Which of them the header calls padding.
        """
        believed = padded & ((values <= self.low) | (values >= self.high))
        return believed if np.array_equal(believed, padded) else believed | _outside(padded)

    def holds(self, low: float, high: float) -> bool:
        """Whether all values from `low` to `high` are believed to be padding."""
        return high <= self.low or low >= self.high


def believed(modality: Modality, least: float, most: float) -> Belief:
    """Return which values can be padding, as they are none that were measured.

    Args:
        modality: Of the scan.
        least: Smallest value of the voxels that are not called padding; infinite where there are none.
        most: Largest of them.
    """
    if least > most:
        return Belief(_NEVER, _NEVER)
    # Where white was clipped, a padding value just above the others would be the brightest tissue.
    return Belief(AIR_HU + _AIR_NOISE if modality is Modality.CT else least, most + max(most - least, 1.0))


def _outside(padded: BoolArray) -> BoolArray:
    """Return the parts of the padding of a picture that hold a corner of it, as outside a round field."""
    labels, _ = ndimage.label(padded)
    sizes = np.bincount(labels.ravel())
    corners = {int(labels[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    large = [label for label in corners if sizes[label] >= _LEAST_OUTSIDE * padded.size]
    return np.isin(labels, large)
