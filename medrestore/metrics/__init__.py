"""Image quality against a reference: PSNR, SSIM, MAE, RMSE, and the mask of the head.

The data range and the mask are always explicit, because one pair of volumes has as many PSNR and SSIM values
as there are conventions for these two. Arrays are (X, Y, Z), real, in any unit, on the same grid: whether two
volumes share a geometry is the caller's question. Importing this package imports no torch; ``ssim`` does when
it is called.
"""

from __future__ import annotations

from medrestore.metrics.evaluation import Metric, MetricValue, evaluate
from medrestore.metrics.mask import head_mask
from medrestore.metrics.structural import ssim, ssim_map
from medrestore.metrics.voxelwise import mae, measured, psnr, reference_range, rmse

__all__ = [
    "Metric",
    "MetricValue",
    "evaluate",
    "head_mask",
    "mae",
    "measured",
    "psnr",
    "reference_range",
    "rmse",
    "ssim",
    "ssim_map",
]
