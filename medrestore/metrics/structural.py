"""Structural similarity (SSIM) of two volumes.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Trans. Image Processing 13(4), 2004, eq. 13, with the Gaussian window of the paper made
three-dimensional.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from medrestore.errors import InputError
from medrestore.metrics.checks import check_mask, check_pair, check_range
from medrestore.types import BoolArray, RealArray

WINDOW = 11
SIGMA = 1.5
K1 = 0.01
K2 = 0.03
BORDER = WINDOW // 2
_SLAB = 16  # output planes computed at a time: about 70 MB of working memory on a 217 x 181 plane


def ssim(
    image: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    data_range: float,
    mask: npt.ArrayLike | None = None,
) -> float:
    """Mean of the SSIM map over the mask.

    The map is `ssim_map`: defined where the whole window lies inside the volume, so voxels of the mask nearer
    than five voxels to a face of the volume do not count. With ``mask=None`` the value is that of
    ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.

    Args:
        image: The volume to judge, (X, Y, Z), any real type, at least 11 voxels along each axis.
        reference: The truth, same shape and unit.
        data_range: L in the constants (0.01 L)^2 and (0.03 L)^2, in the unit of the voxels.
        mask: Voxels to average over, same shape; None averages over the whole map.

    Raises:
        InputError: if the shapes differ, an axis is shorter than the window, a voxel is not finite, the data
            range is not positive, or no voxel of the mask is five voxels inside the volume.
    """
    left, right = _checked(image, reference)
    selected = check_mask(mask, left.shape)
    if selected is None:
        return float(np.mean(ssim_map(left, right, data_range=data_range), dtype=np.float64))
    inner = selected[(slice(BORDER, -BORDER),) * 3]
    if not inner.any():
        raise InputError(f"no voxel of the mask is {BORDER} voxels inside the volume, where SSIM is defined")
    box = _bounding_box(inner)
    around = tuple(slice(part.start, part.stop + 2 * BORDER) for part in box)
    values = ssim_map(left[around], right[around], data_range=data_range)
    return float(np.mean(values[inner[box]], dtype=np.float64))


def ssim_map(image: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> npt.NDArray[np.float32]:
    """SSIM at each voxel whose window lies inside the volume.

    The window is 11 x 11 x 11 voxels, Gaussian, sigma 1.5 voxels; K1 = 0.01, K2 = 0.03; variances are
    divided by N, not N - 1. The contrast-structure term is MONAI's ``compute_ssim_and_cs``, computed slab by
    slab, so the working memory does not grow with the first axis.

    Args:
        image: (X, Y, Z), any real type, at least 11 voxels along each axis.
        reference: Same shape and unit.
        data_range: L in the constants, in the unit of the voxels.

    Returns:
        (X - 10, Y - 10, Z - 10), the map of the interior.

    Raises:
        InputError: as for `ssim`.
    """
    left, right = _checked(image, reference)
    scale = check_range(data_range)
    centre = float(np.mean(right, dtype=np.float64))
    out = np.empty(tuple(n - 2 * BORDER for n in left.shape), dtype=np.float32)
    for start in range(0, out.shape[0], _SLAB):
        part = slice(start, min(start + _SLAB, out.shape[0]) + 2 * BORDER)
        out[start : start + _SLAB] = _slab(left[part], right[part], scale, centre)
    return out


def _slab(image: RealArray, reference: RealArray, scale: float, centre: float) -> RealArray:
    # MONAI computes in float32, and E[x^2] - E[x]^2 loses its digits where the mean is large beside the data
    # range. A constant changes no variance, so MONAI gets centred voxels; luminance needs the true mean.
    import torch  # noqa: PLC0415  two seconds, which a caller without a reference need not pay
    from monai.metrics.regression import compute_ssim_and_cs  # noqa: PLC0415

    x, y = (np.subtract(array, centre, dtype=np.float64) / scale for array in (image, reference))
    pair = [torch.from_numpy(array.astype(np.float32))[None, None] for array in (x, y)]
    with torch.inference_mode():
        _, contrast = compute_ssim_and_cs(
            pair[0],
            pair[1],
            3,
            kernel_size=(WINDOW,) * 3,
            kernel_sigma=(SIGMA,) * 3,
            data_range=1.0,
            k1=K1,
            k2=K2,
        )
    mean_x, mean_y = (_local_mean(array) + centre / scale for array in (x, y))
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x**2 + mean_y**2 + K1**2)
    product: RealArray = luminance * contrast[0, 0].numpy()
    return product


def _local_mean(array: RealArray) -> RealArray:
    smooth: RealArray = gaussian_filter(array, SIGMA, radius=BORDER)
    return smooth[(slice(BORDER, -BORDER),) * 3]


def _checked(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[RealArray, RealArray]:
    left, right = check_pair(image, reference)
    if left.ndim != 3 or min(left.shape) < WINDOW:
        raise InputError(
            f"SSIM needs three axes of at least {WINDOW} voxels (its window), got shape {left.shape}; "
            "single slices and thin slabs have no 3-D SSIM"
        )
    return left, right


def _bounding_box(mask: BoolArray) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)
