"""Image quality: PSNR, SSIM, MAE, RMSE against a reference; SNR, contrast, noise, sharpness without one.

The data range and the masks are always explicit, because one pair of volumes has as many PSNR and SSIM values
as there are conventions for these two. Arrays are (X, Y, Z), real, in any unit, on the same grid: whether two
volumes share a geometry is the caller's question. Importing this package imports no torch; ``ssim`` does when
it is called.
"""

from __future__ import annotations

from medrestore.metrics.evaluation import Metric, MetricValue, evaluate
from medrestore.metrics.mask import head_mask
from medrestore.metrics.regions import Regions, air_mask, find_regions, two_classes
from medrestore.metrics.sharpness import edge_width
from medrestore.metrics.spectrum import NoisePower, noise_power_spectrum
from medrestore.metrics.structural import ssim, ssim_map
from medrestore.metrics.tissue import cjv, cnr, efc, fber, snr, snr_dietrich
from medrestore.metrics.voxelwise import mae, measured, psnr, reference_range, rmse
from medrestore.metrics.without_reference import evaluate_without_reference

__all__ = [
    "Metric",
    "MetricValue",
    "NoisePower",
    "Regions",
    "air_mask",
    "cjv",
    "cnr",
    "edge_width",
    "efc",
    "evaluate",
    "evaluate_without_reference",
    "fber",
    "find_regions",
    "head_mask",
    "mae",
    "measured",
    "noise_power_spectrum",
    "psnr",
    "reference_range",
    "rmse",
    "snr",
    "snr_dietrich",
    "ssim",
    "ssim_map",
    "two_classes",
]
