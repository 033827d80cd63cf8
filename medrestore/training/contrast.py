"""Random anatomy, contrast and geometry for training patches. Arrays are float32 of axis order (X, Y, Z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medrestore.types import FloatArray, RealArray

DARK = 0.12
"""Below it is background, in units in which 1 is the bright end of the tissue."""


@dataclass(frozen=True)
class Orientation:
    """A permutation of the axes, then flips.

    Attributes:
        order: Of the axes.
        signs: -1 for the axes that are flipped.
    """

    order: tuple[int, ...] = (0, 1, 2)
    signs: tuple[int, ...] = (1, 1, 1)

    def __call__(self, patch: FloatArray) -> FloatArray:
        """Turn an (X, Y, Z) patch."""
        return patch.transpose(self.order)[tuple(slice(None, None, sign) for sign in self.signs)]


def random_orientation(rng: np.random.Generator, in_plane: bool = False) -> Orientation:
    """Draw one of the 48 flips and axis permutations of the cube.

    Args:
        rng: Source of randomness.
        in_plane: Leave the last axis the last: the noise of CT differs along it.
    """
    order = (*rng.permutation(2), 2) if in_plane else rng.permutation(3)
    return Orientation(tuple(map(int, order)), tuple(int(rng.choice((-1, 1))) for _ in range(3)))


def random_tone_curve(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Map intensities through a random smooth curve through the origin.

    Half of the curves are monotone; the others reorder the tissues, as another sequence would. Voxels are in
    units in which 1 is the bright end of the tissue; background stays dark.
    """
    knots = np.linspace(0, 1.2, 6)
    if rng.random() < 0.5:
        values = np.cumsum(np.concatenate([[0.0], rng.uniform(0.1, 1.0, 5)]))
    else:
        values = np.concatenate([[0.0, rng.uniform(0.05, 0.6)], rng.uniform(0.1, 1.0, 4)])
    values /= values.max()
    fine = np.linspace(0, 1.2, 256)
    curve = ndimage.gaussian_filter1d(np.interp(fine, knots, values), 12, mode="nearest")
    curve -= curve[0]
    return np.asarray(np.interp(patch, fine, curve), dtype=np.float32)


def random_bias_field(shape: tuple[int, ...], rng: np.random.Generator, strength: float = 0.3) -> FloatArray:
    """Return a smooth positive field around 1, the exponential of a random quadratic of the position."""
    x, y, z = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True
    )
    a = rng.normal(0, strength / 2, 9).astype(np.float32)
    log = a[0] * x + a[1] * y + a[2] * z
    log = log + a[3] * x * y + a[4] * y * z + a[5] * x * z + (a[6] * x * x + a[7] * y * y + a[8] * z * z) / 2
    return np.asarray(np.exp(log), dtype=np.float32)


def random_blur(patch: FloatArray, widths: tuple[float, float], rng: np.random.Generator) -> FloatArray:
    """Lower the resolution by a Gaussian, the same along all axes or one for each.

    Args:
        patch: (X, Y, Z).
        widths: Smallest and largest standard deviation in voxels; drawn evenly in the logarithm.
        rng: Source of randomness.
    """
    low, high = np.log(widths)
    drawn = np.exp(rng.uniform(low, high, 1 if rng.random() < 0.5 else 3))
    return np.asarray(ndimage.gaussian_filter(patch, np.broadcast_to(drawn, 3), truncate=3))


def random_lesions(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put 5 to 40 small ellipsoids into tissue, brighter or darker than what is there.

    No atlas of anatomy has them, and a model that never saw a small isolated structure takes it for noise.
    Radii are 1 to 4 voxels, contrasts 0.03 to 0.5 of the bright end of tissue, edges as soft as a partial
    volume makes them.
    """
    patch = patch.copy()
    tissue = np.argwhere(patch > DARK)
    for centre in rng.choice(tissue, min(len(tissue), int(rng.integers(5, 41)))):
        radii = np.exp(rng.uniform(0, np.log(4))) * rng.uniform(0.7, 1.3, 3)
        contrast = np.exp(rng.uniform(np.log(0.03), np.log(0.5))) * rng.choice((-1, 1))
        low = np.maximum(centre - 7, 0)
        box = tuple(slice(a, b) for a, b in zip(low, centre + 8, strict=True))
        offsets = np.meshgrid(*(np.arange(n) for n in patch[box].shape), indexing="ij", sparse=True)
        parts = [np.square((o + a - c) / r) for o, a, c, r in zip(offsets, low, centre, radii, strict=True)]
        # Signed distance in voxels, about: a voxel across the edge is covered in part.
        depth = (1 - np.sqrt(parts[0] + parts[1] + parts[2])) * radii.min()
        patch[box] += np.float32(contrast) * np.clip(depth + 0.5, 0, 1).astype(np.float32)
    return np.maximum(patch, 0)


def synthesise(labels: RealArray, size: int, rng: np.random.Generator) -> FloatArray:
    """Make a scan of random contrast from a label map.

    Each label gets a random mean and texture, the map a random stretch, the result a random blur.
    Source: Iglesias et al., Joint super-resolution and synthesis of 1 mm isotropic MP-RAGE volumes from
    clinical MRI exams, NeuroImage 237 (2021), section 2.

    Args:
        labels: (X, Y, Z) small non-negative integers, 0 the background.
        size: Side of the cube to return.
        rng: Source of randomness.
    """
    index = []
    for extent in labels.shape:
        stretch = np.exp(rng.uniform(-0.5, 0.4))
        start = rng.uniform(0, max(extent - size * stretch, 1))
        index.append(np.clip((start + stretch * np.arange(size)).astype(int), 0, extent - 1))
    patch = labels[np.ix_(*index)]
    count = int(labels.max()) + 1
    means = rng.uniform(0, 1, count).astype(np.float32)
    spread = (rng.uniform(0, 0.08, count) * rng.integers(0, 2, count)).astype(np.float32)
    if rng.random() < 0.9:
        means[0] = spread[0] = 0
    texture = rng.standard_normal(patch.shape, dtype=np.float32)
    blur = rng.uniform(0.35, 0.8, 3)
    image = ndimage.gaussian_filter(means[patch] + spread[patch] * texture, blur)
    return np.asarray(np.maximum(image, 0), dtype=np.float32)
