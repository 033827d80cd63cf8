"""Noise-power spectrum of a homogeneous region, or of what was removed from a scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medrestore.errors import InputError
from medrestore.metrics.checks import check_image, check_mask, check_spacing
from medrestore.types import BoolArray, Float64Array, RealArray

SIDE = 16  # voxels; eight frequencies up to the highest, and many cubes in a head


@dataclass(frozen=True, eq=False)
class NoisePower:
    """A radially averaged noise-power spectrum.

    Attributes:
        frequency: (F,), mean frequency of each ring, in 1/mm, rising.
        power: (F,), noise power there, in the squared unit of the voxels times mm^3.
        cubes: How many cubes it is the mean of.
    """

    frequency: Float64Array
    power: Float64Array
    cubes: int

    @property
    def mean_frequency(self) -> float:
        """Mean frequency weighted with the power, in 1/mm (f_av of AAPM report 233); lower is coarser grain.

        Raises:
            InputError: There is no power at all.
        """
        total = float(self.power.sum())
        if total == 0:
            raise InputError("the region has no noise at all; its power has no frequency")
        return float(self.frequency @ self.power) / total


def noise_power_spectrum(
    image: npt.ArrayLike, spacing: Sequence[float], *, mask: npt.ArrayLike, side: int = SIDE
) -> NoisePower:
    """Noise power by frequency: the mean of |DFT|^2 dV / N over cubes inside a mask, in rings of frequency.

    dV is the volume of a voxel and N the number of voxels of a cube. Each cube has its mean and linear trends
    taken off, which takes up to a tenth from the lowest ring; what else is no noise (edges, texture) counts
    as noise. Cubes mostly overlap by half. White noise of standard deviation s has the power s^2 dV all over.
    Rings are as wide as one frequency of the shortest side of a cube, and end at the Nyquist frequency of the
    smallest size of a voxel; beyond that of the largest size they hold the directions that have such
    frequencies. Samei et al., AAPM report 233 (2019), and ICRU report 87 (2012), in three dimensions.

    Args:
        image: (X, Y, Z), any unit: a scan with a homogeneous region, or scan minus result.
        spacing: Sizes of its voxels along X, Y and Z, in mm.
        mask: The region, same shape.
        side: Voxels along each side of a cube; along an axis that is shorter, all of it.

    Raises:
        InputError: No cube lies in the mask, or an argument is none of these.
    """
    array, sizes = check_image(image), check_spacing(spacing)
    inside = check_mask(mask, array.shape)
    if inside is None or side < 4:
        raise InputError(f"a noise-power spectrum needs a mask and cubes of 4 voxels or more, got {side}")
    shape = tuple(min(side, length) for length in array.shape)
    total, cubes = np.zeros(shape), 0
    for box in _boxes(inside, shape):
        total += np.square(np.abs(np.fft.fftn(_detrended(array[box]))))
        cubes += 1
    if not cubes:
        raise InputError(
            f"no cube of {' x '.join(map(str, shape))} voxels lies in the region; take a larger one"
        )
    frequency, power = _rings(total * (float(np.prod(sizes)) / (total.size * cubes)), sizes)
    return NoisePower(frequency, power, cubes)


def _boxes(inside: BoolArray, shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield cubes that lie in a mask, at most one that begins in each block of half their sides."""
    # where all voxels of the window around a voxel are inside, a cube begins half a window before it
    whole = ndimage.minimum_filter(inside, shape, mode="constant", cval=False)
    corners = np.argwhere(whole) - [side // 2 for side in shape]
    blocks = corners // [max(side // 2, 1) for side in shape]
    _, first = np.unique(np.ravel_multi_index(tuple(blocks.T), inside.shape), return_index=True)
    for corner in corners[first]:
        yield tuple(slice(int(at), int(at) + side) for at, side in zip(corner, shape, strict=True))


def _detrended(cube: RealArray) -> Float64Array:
    """Return a cube less its mean and its linear trend along each axis, by least squares."""
    values: Float64Array = np.asarray(cube, dtype=np.float64)
    values = values - values.mean()
    for axis, length in enumerate(values.shape):
        if length > 1:
            ramp = (np.arange(length) - (length - 1) / 2).reshape(
                [-1 if one == axis else 1 for one in range(3)]
            )
            values = values - ramp * (np.sum(values * ramp) / (np.sum(ramp**2) * values.size / length))
    return values


def _rings(power: Float64Array, sizes: tuple[float, ...]) -> tuple[Float64Array, Float64Array]:
    """Return mean frequency and mean power of rings; frequency 0, which was taken off, is in none."""
    axes = [np.fft.fftfreq(length, size) for length, size in zip(power.shape, sizes, strict=True)]
    radius = np.sqrt(sum(np.square(one) for one in np.meshgrid(*axes, indexing="ij")))
    wide = [(length, size) for length, size in zip(power.shape, sizes, strict=True) if length > 1]
    if not wide:
        raise InputError("one voxel has no frequencies; expected a volume")
    width = max(1 / (length * size) for length, size in wide)
    ring = np.rint(radius / width).astype(int).ravel()
    highest = max(1 / (2 * size) for _, size in wide)
    used = (ring > 0) & (radius.ravel() <= highest * (1 + 1e-9))
    count = np.bincount(ring[used])
    filled = count > 0
    means = [np.bincount(ring[used], one.ravel()[used])[filled] / count[filled] for one in (radius, power)]
    return means[0], means[1]
