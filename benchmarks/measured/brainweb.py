"""BrainWeb's T2 volume as bm4d's source distribution carries it, with white noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import io

from benchmarks.denoise.methods import METHODS
from benchmarks.harness.common import middle_box, run_method
from medrestore.metrics import head_mask, psnr, ssim
from medrestore.physics.mr_noise import add_rician

CHOSEN = ("noisy", "ours-auto", "nlm", "bm4d")
SHAPE = (140, 200, 50)
LEVEL = 0.09  # of the maximum


def measure(path: Path, model: str, seed: int) -> list[dict[str, Any]]:
    """Denoise the middle of the volume by every filter."""
    whole = io.loadmat(path)["brain_slices"].astype(np.float32)
    clean = np.ascontiguousarray(whole[middle_box(whole.shape, SHAPE)])
    data_range, head = float(np.ptp(clean)), head_mask(clean)
    sigma = LEVEL * float(clean.max())
    noisy = add_rician(clean, sigma, np.random.default_rng(seed))
    scan = {"voxels": noisy, "affine": np.eye(4), "sigma": sigma, "rician": True, "model": model}
    runs = []
    for method in CHOSEN:
        image, _ = run_method("denoise", method, scan)
        where = {"data_range": data_range, "mask": head}
        found = {"psnr_head": psnr(image, clean, **where), "ssim_head": ssim(image, clean, **where)}
        runs.append(
            {"title": METHODS[method].title} | found | {"psnr_all": psnr(image, clean, data_range=data_range)}
        )
    return runs
