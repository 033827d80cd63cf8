"""A volume made small enough to look at: block means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrestore.geometry import Geometry, Shape
from medrestore.types import FloatArray
from medrestore.volume import Volume


@dataclass(frozen=True)
class Reduced:
    """A volume of block means.

    Attributes:
        array: (X, Y, Z) means.
        geometry: Their grid.
        factors: Voxels of the scan along each axis that became one.
    """

    array: FloatArray
    geometry: Geometry
    factors: Shape


def factors_for(geometry: Geometry, voxels: int) -> Shape:
    """Return how many voxels along each axis to average, so that at most about `voxels` are left.

    The axis of the smallest voxels is thinned first, which makes them as cubic as whole factors can.
    """
    factors = [1, 1, 1]
    while np.prod([-(-n // f) for n, f in zip(geometry.shape, factors, strict=True)]) > voxels:
        sizes = [
            s * f if n > f else np.inf
            for s, f, n in zip(geometry.spacing, factors, geometry.shape, strict=True)
        ]
        factors[int(np.argmin(sizes))] += 1
    first, second, third = factors
    return first, second, third


def reduced(volume: Volume, factors: Shape) -> Reduced:
    """Return means over blocks of `factors` voxels; at the far end a block holds what there is.

    A slab at a time along the slowest axis in memory: neither a copy nor a memory-mapped whole is made.
    """
    array = volume.array
    slow = int(np.argmax(np.abs(array.strides)))
    slabs = []
    for start in range(0, array.shape[slow], factors[slow]):
        index = tuple(slice(start, start + factors[slow]) if n == slow else slice(None) for n in range(3))
        slabs.append(_means(np.asarray(array[index], np.float32), factors))
    return Reduced(np.concatenate(slabs, axis=slow), _coarser(volume.geometry, factors), factors)


def _means(block: FloatArray, factors: Shape) -> FloatArray:
    for axis, factor in enumerate(factors):
        if factor > 1:
            size = block.shape[axis]
            starts = np.arange(0, size, factor)
            counts = (np.minimum(starts + factor, size) - starts).astype(np.float32)
            shape = [-1 if n == axis else 1 for n in range(3)]
            sums = np.add.reduceat(block, starts, axis)
            block = np.divide(sums, counts.reshape(shape), dtype=np.float32)
    return block


def _coarser(geometry: Geometry, factors: Shape) -> Geometry:
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.world([(factor - 1) / 2 for factor in factors])
    affine[:3, :3] *= factors
    x, y, z = (-(-n // f) for n, f in zip(geometry.shape, factors, strict=True))
    return Geometry((x, y, z), affine)
