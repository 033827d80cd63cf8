"""Signal, noise and contrast of one image by itself, as MRIQC defines them.

Esteban et al., "MRIQC: advancing the automatic prediction of image quality in MRI from unseen sites",
PLoS ONE 12(9), 2017, and the documentation of MRIQC 24.0 (mriqc.readthedocs.io, "Image quality metrics for
structural images"). MRIQC computes them on an image that it has corrected for inhomogeneity and scaled, in
masks of its own segmentation; here the image is taken as it is, and every mask is an argument. On the same
voxels and the same masks the values are the same, where they exist: MRIQC rounds some of them, and has -1 for
what cannot be had.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

from medrestore.errors import InputError
from medrestore.metrics.checks import check_image, check_mask
from medrestore.types import Float64Array, RealArray

_RAYLEIGH = math.sqrt(2 - math.pi / 2)
"""Standard deviation of the magnitude of air over that of the noise in either channel."""

_MAD = 1.482602218505602
"""Standard deviation of Gaussian numbers over their median absolute deviation."""


def snr(image: npt.ArrayLike, *, tissue: npt.ArrayLike) -> float:
    """Signal-to-noise ratio within one tissue: the median over the sample standard deviation.

    It takes all variation inside the tissue for noise, anatomy and inhomogeneity too. No unit;
    higher is better.

    Args:
        image: (X, Y, Z), intensities that are 0 where there is no signal.
        tissue: Its voxels, same shape.

    Raises:
        InputError: A voxel of the image is negative, or the tissue has no deviation.
    """
    values = _inside(_intensities(image), tissue, "tissue")
    if np.ptp(values) == 0:
        raise InputError(f"all {values.size} voxels of the tissue have one value; SNR needs a deviation")
    return float(np.median(values)) / float(values.std(ddof=1))


def snr_dietrich(image: npt.ArrayLike, *, tissue: npt.ArrayLike, air: npt.ArrayLike) -> float:
    """Signal-to-noise ratio by the noise in air: sqrt(2 - pi/2) median(tissue) / MAD(air).

    Dietrich et al., J. Magn. Reson. Imaging 26(2), 2007, eq. A12, with the median absolute deviation of air
    (times 1.4826) for its standard deviation, as MRIQC has it. The factor is for air whose noise is
    Rayleigh distributed: of one coil, and not filtered. No unit; higher is better.

    Args:
        image: (X, Y, Z), magnitudes.
        tissue: Voxels of the signal, same shape.
        air: Voxels outside the body, without padding, same shape.

    Raises:
        InputError: A voxel of the image is negative, or more than half of the air has one value.
    """
    array = _intensities(image)
    signal, outside = _inside(array, tissue, "tissue"), _inside(array, air, "air")
    if (deviation := _mad(outside)) == 0:
        raise InputError(
            "more than half of the voxels of air have one value; its noise was removed or cut off"
        )
    return _RAYLEIGH * float(np.median(signal)) / deviation


def cnr(image: npt.ArrayLike, *, first: npt.ArrayLike, second: npt.ArrayLike, air: npt.ArrayLike) -> float:
    """Contrast-to-noise ratio: |median1 - median2| / sqrt(var1 + var2 + var(air)).

    Magnotta and Friedman, J. Digital Imaging 19(2), 2006; MRIQC takes grey and white matter. Shift and scale
    of the intensities do not change it. No unit; higher is better.

    Args:
        image: (X, Y, Z), any unit.
        first: Voxels of one tissue, same shape.
        second: Voxels of the other tissue, same shape.
        air: Voxels outside the body, without padding, same shape.

    Raises:
        InputError: None of the three regions has any deviation.
    """
    array = check_image(image)
    one, two = _inside(array, first, "first tissue"), _inside(array, second, "second tissue")
    regions = (one, two, _inside(array, air, "air"))
    if all(np.ptp(values) == 0 for values in regions):
        raise InputError("neither the tissues nor the air have any deviation; CNR needs some")
    spread = math.sqrt(sum(float(values.var()) for values in regions))
    return abs(float(np.median(one)) - float(np.median(two))) / spread


def cjv(image: npt.ArrayLike, *, first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Coefficient of joint variation of two tissues: (MAD1 + MAD2) / |median1 - median2|.

    Ganzetti et al., Front. Neuroinform. 10:10, 2016, with medians and median absolute deviations (times
    1.4826) as MRIQC has them. Noise and inhomogeneity raise it; shift and scale of the intensities do not
    change it. No unit; lower is better.

    Args:
        image: (X, Y, Z), any unit.
        first: Voxels of one tissue, same shape; MRIQC takes grey matter.
        second: Voxels of the other, same shape; white matter.

    Raises:
        InputError: The tissues have the same median.
    """
    array = check_image(image)
    one, two = _inside(array, first, "first tissue"), _inside(array, second, "second tissue")
    contrast = abs(float(np.median(one)) - float(np.median(two)))
    if contrast == 0:
        raise InputError("both tissues have the same median; CJV needs a contrast")
    return (_mad(one) + _mad(two)) / contrast


def efc(image: npt.ArrayLike, *, mask: npt.ArrayLike | None) -> float:
    """Entropy focus criterion: the entropy of the intensities over its largest possible value.

    With b = sqrt(sum x^2) over N voxels, sum((x / b) ln(x / b)) / (sqrt(N) ln(1 / sqrt(N))): 1 where all
    voxels are equal, 0 where one voxel has all the energy. Atkinson et al., IEEE Trans. Med. Imaging 16(6),
    1997. Ghosts and blur raise it, noise too; the scale of the intensities does not change it. No unit;
    lower is better.

    Args:
        image: (X, Y, Z), intensities that are 0 where there is no signal.
        mask: Voxels to count, same shape, those that are no padding; None counts all.

    Raises:
        InputError: A voxel of the image is negative, there is but one voxel, or all are 0.
    """
    array = _intensities(image)
    values = _inside(array, np.ones(array.shape, dtype=bool) if mask is None else mask, "image")
    energy = float(np.sqrt(np.sum(np.square(values))))
    if values.size < 2 or energy == 0:
        raise InputError("EFC needs two voxels or more, and one that is not 0")
    share = values / energy
    root = math.sqrt(values.size)
    return float(np.sum(xlogy(share, share))) / (root * math.log(1 / root))


def fber(image: npt.ArrayLike, *, head: npt.ArrayLike, air: npt.ArrayLike) -> float:
    """Foreground-background energy ratio: median of x^2 in the head over median of x^2 in air.

    Shehzad et al., "The Preprocessed Connectomes Project Quality Assessment Protocol", Neuroinformatics 2015;
    MRIQC takes medians for the means, and everything outside the head that is no padding for air. The scale
    of the intensities does not change it. No unit; higher is better.

    Args:
        image: (X, Y, Z), intensities that are 0 where there is no signal.
        head: Voxels of the foreground, same shape.
        air: Voxels of the background, same shape.

    Raises:
        InputError: A voxel of the image is negative, or the background has no energy (a stripped skull).
    """
    array = _intensities(image)
    background = float(np.median(np.square(_inside(array, air, "air"))))
    if background == 0:
        raise InputError("at least half of the air is 0; it has no energy to compare the head with")
    return float(np.median(np.square(_inside(array, head, "head")))) / background


def _intensities(image: npt.ArrayLike) -> RealArray:
    """Return an image of intensities; one with negative voxels, such as CT in HU, has no zero of signal."""
    array = check_image(image)
    below = int(np.count_nonzero(array < 0))
    if below:
        raise InputError(f"{below} voxels are negative; this needs intensities that are 0 where no signal is")
    return array


def _inside(array: RealArray, mask: npt.ArrayLike, name: str) -> Float64Array:
    # float64: the squares of integers would wrap around
    try:
        selected = check_mask(mask, array.shape)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return np.asarray(array[selected], dtype=np.float64)


def _mad(values: Float64Array) -> float:
    return _MAD * float(np.median(np.abs(values - np.median(values))))
