"""A metric: how well an image follows the reference, whatever their units."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrestore.types import BoolArray, RealArray


def correlation(image: RealArray, reference: RealArray, data_range: float, mask: BoolArray | None) -> float:
    """Return Pearson's correlation of two volumes over the voxels of the mask."""
    import numpy as np

    del data_range  # a correlation has no unit
    inside = np.ones(image.shape, dtype=bool) if mask is None else mask
    return float(np.corrcoef(image[inside], reference[inside])[0, 1])
