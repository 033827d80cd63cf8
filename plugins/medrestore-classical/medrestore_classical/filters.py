"""The filters, on numpy arrays: also what the benchmarks of medrestore compare with.

Each takes (X, Y, Z) voxels, the standard deviation of their noise in the same unit, and whether that noise is
Rician; and returns an array of the same shape. Each imports its own library, and only when it is called.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np

NLM_PATCH, NLM_BLOCK = 2, 2
"""On Colin27 better than 1/2 at 3, 5 and 10 % (by 0.4, 0.5, 1.0 dB) and than 1/5 at 3 %; of 1/2, 2/1, 2/2,
2/3, 2/5 and 3/2 on a small crop, the best at 10 % and, after 2/1 (0.3 to 0.4 dB more), at 3 and 5 %."""

LIFT = 400.0
"""Deviations of the noise that the least voxel lies above 0 where it is not Rician; 0 leave air a tenth
of one too bright, 40 a hundredth."""

TV_WEIGHT, TV_EPS = 0.5, 1e-6
"""Best of 0.5 to 1.6 times sigma at 3, 5 and 10 %; the default eps stops too early and loses up to 1 dB."""

WAVELET, LEVELS = "sym4", 3
"""On a crop level with bior4.4 and better than db1 and db2 by 0.7 to 2 dB; more levels change nothing."""

AXES = (0, 1, 2)
SHIFTS = tuple(itertools.product((0, 1), repeat=3))
"""Voxels that the volume is moved by along each axis, to average over: 1.0 dB more; up to 3 give no more."""


def nlm(
    voxels: np.ndarray, sigma: float, *, rician: bool, patch: int = NLM_PATCH, block: int = NLM_BLOCK
) -> np.ndarray:
    """Non-local means, blockwise (Coupe et al., IEEE Trans Med Imaging 27, 2008); the Rician bias undone.

    Args:
        voxels: See the module.
        sigma: See the module.
        rician: See the module.
        patch: Radius of what is compared, in voxels.
        block: Radius of the search, in voxels.
    """
    from dipy.denoise.nlmeans import nlmeans

    settings = {"patch_radius": patch, "block_radius": block, "method": "blockwise"}
    # It returns nothing below 0, and takes brightness there for magnitude: noise that is not is lifted clear.
    lift = 0.0 if rician else LIFT * sigma - float(voxels.min())
    # On one thread: several write to the same voxels at once (DIPY 1.12.1), and now and then lose a block.
    return nlmeans(voxels + lift, sigma, rician=rician, num_threads=1, **settings) - lift


def tv(voxels: np.ndarray, sigma: float, *, rician: bool) -> np.ndarray:
    """Total variation (Chambolle, J Math Imaging Vis 20, 2004)."""
    from skimage.restoration import denoise_tv_chambolle

    filtered = denoise_tv_chambolle(voxels, weight=TV_WEIGHT * sigma, eps=TV_EPS)
    return high_signal_corrected(filtered, sigma) if rician else filtered


def wavelet(voxels: np.ndarray, sigma: float, *, rician: bool) -> np.ndarray:
    """Soft thresholds by BayesShrink (Chang, Yu and Vetterli, IEEE Trans Image Process 9, 2000).

    The mean over the volume moved by up to a voxel along each axis is taken (Coifman and Donoho, 1995).
    """
    import pywt
    from skimage.restoration import denoise_wavelet

    levels = max(min(pywt.dwtn_max_level(voxels.shape, WAVELET), LEVELS), 1)
    settings = {"sigma": sigma, "wavelet": WAVELET, "method": "BayesShrink", "wavelet_levels": levels}
    total = np.zeros(voxels.shape)
    with warnings.catch_warnings():  # where a volume is thinner than the wavelet is long
        warnings.simplefilter("ignore", UserWarning)
        for shift in SHIFTS:
            moved = denoise_wavelet(np.roll(voxels, shift, AXES), rescale_sigma=False, **settings)
            total += np.roll(moved, [-step for step in shift], AXES)
    filtered = total / len(SHIFTS)
    return high_signal_corrected(filtered, sigma) if rician else filtered


def high_signal_corrected(filtered: np.ndarray, sigma: float) -> np.ndarray:
    """Undo the bias of a filter that averages a few magnitudes: sqrt(max(a^2 - sigma^2, 0)).

    E[z^2] = nu^2 + 2 sigma^2 and, at high signal, Var[z] = sigma^2, so E[z]^2 = nu^2 + sigma^2.

    Args:
        filtered: Voxels of any shape, an estimate of E[z].
        sigma: Deviation of the noise in each channel, in their unit.
    """
    return np.sqrt(np.maximum(np.square(filtered, dtype=np.float64) - sigma**2, 0.0))
