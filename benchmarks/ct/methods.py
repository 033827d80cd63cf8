"""The denoisers that `ct.py` compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from medrestore_classical import filters

import medrestore
from benchmarks.denoise.methods import load_bm4d
from medrestore.geometry import Geometry


@dataclass
class Scan:
    """What a filter is given: voxels in HU, the true level of the noise that was added, and draws of it."""

    voxels: np.ndarray
    spacing: tuple[float, ...]
    sigma: float
    spectrum: np.ndarray
    model: str


def ours(scan: Scan) -> np.ndarray:
    return restored(scan, "auto")


def ours_given(scan: Scan) -> np.ndarray:
    return restored(scan, scan.sigma)


def ours_1(scan: Scan) -> np.ndarray:
    return restored(scan, "auto", ensemble=1)


def ours_8(scan: Scan) -> np.ndarray:
    return restored(scan, "auto", ensemble=8)


def restored(scan: Scan, noise: float | str, ensemble: int | None = None) -> np.ndarray:
    affine = np.diag([*scan.spacing, 1.0])
    volume = medrestore.Volume(scan.voxels, Geometry(scan.voxels.shape, affine), medrestore.Modality.CT)
    options = medrestore.RestoreOptions(model=scan.model, noise=noise, ensemble=ensemble, force=True)
    return medrestore.restore(volume, options).volume.array


def nlm(scan: Scan) -> np.ndarray:
    return filters.nlm(scan.voxels, scan.sigma, rician=False)


def tv(scan: Scan) -> np.ndarray:
    return filters.tv(scan.voxels, scan.sigma, rician=False)


def bm4d(scan: Scan) -> np.ndarray:
    return load_bm4d()((scan.voxels + 1000) / 2000, scan.sigma / 2000) * 2000 - 1000


def bm4d_spectrum(scan: Scan) -> np.ndarray:
    return load_bm4d()((scan.voxels + 1000) / 2000, scan.spectrum / 2000**2) * 2000 - 1000


METHODS: dict[str, tuple[str, Callable[[Scan], np.ndarray]]] = {
    "noisy": ("low-dose scan", lambda scan: scan.voxels),
    "ours": ("medrestore, level estimated", ours),
    "ours-given": ("medrestore, level given", ours_given),
    "ours-1": ("medrestore, level estimated, 1 estimate", ours_1),
    "ours-8": ("medrestore, level estimated, 8 estimates", ours_8),
    "nlm": ("DIPY NLM, radii 2 and 2, level given", nlm),
    "tv": ("scikit-image TV, weight 0.5 sigma", tv),
    "bm4d": ("BM4D, white noise, level given", bm4d),
    "bm4d-psd": ("BM4D, true noise spectrum", bm4d_spectrum),
}
