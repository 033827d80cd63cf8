"""How wide the edges of an image are, measured in the image itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medrestore.errors import InputError
from medrestore.metrics.checks import check_image, check_mask, check_spacing
from medrestore.types import Float64Array, FloatArray, RealArray

STRONG = 0.1  # of the voxels in the mask, those with the steepest gradient are looked at
FEWEST = 100  # edges; fewer do not average the noise out
MOST = 5000  # edges; more do not change the mean
REACH = 4.0  # coarsest voxels on each side of an edge
_SMOOTHING = 1.0  # voxels; to find edges in noise, not to measure them
_ROUNDING = 1e-6  # voxels
_STEPS = 5  # samples in the length of the finest voxel


@dataclass(frozen=True, eq=False)
class _Edges:
    """Points on edges, (N, 3) in mm from the first voxel, and the directions in which they rise, (N, 3)."""

    points: Float64Array
    normals: Float64Array


def edge_width(
    image: npt.ArrayLike,
    spacing: Sequence[float],
    *,
    mask: npt.ArrayLike,
    guide: npt.ArrayLike | None = None,
) -> float:
    """Full width at half maximum of the mean edge, in mm; lower is sharper.

    Edges are the places in the mask where the gradient is largest along its own direction and among the
    steepest tenth, after a Gaussian of one voxel. Across each the image itself is sampled (cubic splines)
    along the gradient; the mean of these profiles is the edge-spread function, its derivative the line-spread
    function, and the value the full width of that at half of its maximum. In the mean each edge weighs as
    much as its contrast, and noise averages out. So is the resolution of CT measured in patients: Sanders,
    Hurwitz and Samei, Med. Phys. 43(10), 2016.

    A step that was blurred by a Gaussian of standard deviation s has the width 2.355 s, within a twentieth
    from s = 0.8 voxels on; narrower ones are not resolved. Where edges are looked for in noise, the noise
    shifts them and makes them seem narrower. Anatomy that is a gradual transition counts as blur, so compare
    images of one body.

    Args:
        image: (X, Y, Z), any unit.
        spacing: Sizes of its voxels along X, Y and Z, in mm.
        mask: Where edges are looked for, same shape.
        guide: Image in which they are looked for, on the same grid; None for `image`. To compare images,
            measure each across the same edges: pass one guide, the one with the least noise.

    Raises:
        InputError: There are fewer than 100 edges, or the mean one is wider than the profiles.
    """
    array, sizes = check_image(image), check_spacing(spacing)
    inside = check_mask(mask, array.shape)
    found = array if guide is None else check_image(guide)
    if inside is None or found.shape != array.shape:
        raise InputError(
            f"a width of edges needs a mask and, where there is a guide, one of shape {array.shape}"
        )
    edges = _find(found, inside, np.asarray(sizes))
    wide = [size for size, length in zip(sizes, array.shape, strict=True) if length > 1] or sizes
    reach, step = REACH * max(wide), min(wide) / _STEPS
    along = np.arange(-reach, reach + step / 2, step)
    across = edges.points[:, None] + along[:, None] * edges.normals[:, None]
    places = across / np.asarray(sizes)
    last = np.asarray(array.shape) - 1
    whole = ((places >= -_ROUNDING) & (places <= last + _ROUNDING)).all(axis=(1, 2))
    _enough(int(whole.sum()))
    splines = ndimage.spline_filter(np.asarray(array, dtype=np.float32), order=3, output=np.float32)
    profiles = ndimage.map_coordinates(splines, places[whole].transpose(2, 0, 1), order=3, prefilter=False)
    return _half_width(along, np.gradient(profiles.mean(axis=0, dtype=np.float64), step))


def _find(guide: RealArray, inside: npt.NDArray[np.bool_], sizes: Float64Array) -> _Edges:
    smooth = np.asarray(guide, dtype=np.float32)
    gradient = np.stack([_slope(smooth, axis) / np.float32(size) for axis, size in enumerate(sizes)])
    steepness = np.sqrt(np.sum(np.square(gradient), axis=0))
    steep = inside & (steepness > 0) & (steepness >= np.quantile(steepness[inside], 1 - STRONG))
    places = np.argwhere(steep)
    normals = gradient[:, steep].T.astype(np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    one = normals / sizes
    one /= np.linalg.norm(one, axis=1, keepdims=True)  # a step of one voxel along the gradient
    before, at, after = (
        ndimage.map_coordinates(steepness, (places + move * one).T, order=1, mode="nearest")
        for move in (-1, 0, 1)
    )
    crest = (at >= before) & (at > after)
    _enough(int(crest.sum()))
    chosen = np.flatnonzero(crest)[:: -(-int(crest.sum()) // MOST)]
    before, at, after = (values[chosen].astype(np.float64) for values in (before, at, after))
    move = 0.5 * (before - after) / (before - 2 * at + after)  # the top of the parabola through the three
    return _Edges((places[chosen] + move[:, None] * one[chosen]) * sizes, normals[chosen])


def _slope(array: FloatArray, axis: int) -> FloatArray:
    """Return the derivative along an axis of the image after a Gaussian, for each voxel."""
    order = [int(one == axis) for one in range(3)]
    slope: FloatArray = ndimage.gaussian_filter(array, _SMOOTHING, order=order, mode="nearest")
    return slope


def _enough(count: int) -> None:
    if count < FEWEST:
        raise InputError(f"{count} edges in the mask have room for a profile; expected {FEWEST} or more")


def _half_width(along: Float64Array, spread: Float64Array) -> float:
    """Return the distance between the two places where a line-spread function is half of its maximum."""
    top = int(np.argmax(spread))
    half, ends = spread[top] / 2, []
    for direction in (-1, 1):
        here = top
        while 0 <= here < len(spread) and spread[here] > half:
            here += direction
        if not 0 <= here < len(spread):
            raise InputError("the mean edge is wider than the profiles across it")
        last = here - direction
        share = (spread[last] - half) / (spread[last] - spread[here])
        ends.append(along[last] + share * (along[here] - along[last]))
    return float(ends[1] - ends[0])
