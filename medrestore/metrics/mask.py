"""The head (or body) as a mask: everything that is not air around it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medrestore.errors import InputError
from medrestore.types import BoolArray, RealArray

SMOOTHING = 2.0  # voxels; enough to lift the mask clear of noise, little beside a scalp
SPECK = 0.01  # components smaller than this fraction of the largest are noise
CLOSING = 7  # voxels; half the width of the gap that a skull leaves between scalp and brain at 1 mm
_BINS = 256


def head_mask(reference: npt.ArrayLike) -> BoolArray:
    """The largest bright object of a volume, with its holes filled.

    Smooths with a Gaussian of two voxels, thresholds by Otsu's method (IEEE Trans. SMC 9(1), 1979), drops
    specks, closes gaps of up to 14 voxels (a dark skull can part scalp and brain, and in a cropped head it is
    open to the border, so not a hole), keeps the largest connected component and fills what is enclosed in
    a slice along any axis.

    Args:
        reference: (X, Y, Z), the clean volume, brighter inside than outside.

    Returns:
        Boolean array of the same shape.

    Raises:
        InputError: if the array is not a volume of finite real voxels, or is constant.
    """
    array = np.asarray(reference)
    if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InputError(
            "a head mask needs a volume (X, Y, Z) of finite real voxels, "
            f"got shape {array.shape}, type {array.dtype}"
        )
    smooth = ndimage.gaussian_filter(array.astype(np.float32), SMOOTHING)
    if float(smooth.min()) == float(smooth.max()):
        raise InputError(f"a constant volume (all voxels {float(smooth.flat[0]):g}) has no head to find")
    mask = _components(smooth > otsu_threshold(smooth), at_least=SPECK)
    mask = _components(_closed(mask), at_least=1.0)
    for axis in range(3):
        for index in range(mask.shape[axis]):
            plane = (slice(None),) * axis + (index,)
            mask[plane] = ndimage.binary_fill_holes(mask[plane])
    return mask


def _components(mask: BoolArray, *, at_least: float) -> BoolArray:
    # the connected components that have at least this fraction of the voxels of the largest one
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0  # the background
    kept: BoolArray = (sizes >= at_least * sizes.max())[labels]
    return kept & mask


def _closed(mask: BoolArray) -> BoolArray:
    # a closing with a ball, by distance maps; edges repeat, so that the border of the volume erodes nothing
    padded = np.pad(mask, CLOSING + 1, mode="edge")
    near = ndimage.distance_transform_edt(~padded) <= CLOSING
    closed: BoolArray = ndimage.distance_transform_edt(near) > CLOSING
    return closed[(slice(CLOSING + 1, -CLOSING - 1),) * 3] | mask


def otsu_threshold(values: RealArray) -> float:
    """The threshold of largest variance between classes, from a histogram of 256 bins (centre of a bin)."""
    low, high = float(values.min()), float(values.max())
    if high - low < _BINS * np.spacing(max(abs(low), abs(high))):  # float64 has no numbers for the bins
        return (low + high) / 2
    counts, edges = np.histogram(values.astype(np.float64), bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(centres[int(np.argmax(between))])
