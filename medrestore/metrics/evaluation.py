"""All metrics of one pair of volumes, each with its definition, or the reason why it is absent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError, ModelError, PluginError
from medrestore.metrics import structural
from medrestore.metrics.structural import ssim
from medrestore.metrics.voxelwise import mae, psnr, rmse
from medrestore.types import BoolArray, RealArray


@dataclass(frozen=True)
class MetricValue:
    """One metric: a finite value, or None and the reason why there is none.

    Attributes:
        value: The value, or None.
        reason: Why the value is absent; None when it is present.
        definition: What the value is, with the data range and the voxels counted: enough to repeat it.
    """

    value: float | None
    reason: str | None
    definition: str


@dataclass(frozen=True)
class Metric:
    """A metric beside the four that are here.

    Attributes:
        definition: What it is, in words.
        compute: Takes image, reference, data range and mask, which are not to be written to; returns a finite
            number, or raises an error whose message is the reason why there is none.
    """

    definition: str
    compute: Callable[[RealArray, RealArray, float, BoolArray | None], float]


def evaluate(
    image: npt.ArrayLike,
    reference: npt.ArrayLike | None,
    *,
    data_range: float,
    mask: npt.ArrayLike | None = None,
    further: Mapping[str, Metric] | None = None,
) -> dict[str, MetricValue]:
    """PSNR (dB), SSIM, MAE and RMSE of an image against a reference, and whatever else is given.

    A metric that cannot be had (no reference, other shape, too thin for SSIM, identical volumes) is absent
    with the reason; nothing here is ever NaN, infinite or zero by default.

    Args:
        image: The volume to judge, (X, Y, Z), any real type.
        reference: The truth, same grid and unit, or None.
        data_range: For PSNR and SSIM, in the unit of the voxels; unused when the reference is None.
        mask: Voxels to count, same shape; None counts all.
        further: Metrics beside these, by name.

    Returns:
        Keys ``psnr``, ``ssim``, ``mae`` and ``rmse``, in this order, then those of `further`.
    """
    further = further or {}
    if reference is None:
        return {
            name: MetricValue(None, "no reference", text)
            for name, text in _definitions(data_range, "the voxels compared", further).items()
        }
    truth = reference
    compute: dict[str, Callable[[], float]] = {
        "psnr": lambda: psnr(image, truth, data_range=data_range, mask=mask),
        "ssim": lambda: ssim(image, truth, data_range=data_range, mask=mask),
        "mae": lambda: mae(image, truth, mask=mask),
        "rmse": lambda: rmse(image, truth, mask=mask),
    }
    given, compared = _read_only(image), _read_only(truth)
    counted = None if mask is None else _read_only(np.asarray(mask, dtype=np.bool_))
    for name, metric in further.items():
        compute[name] = partial(metric.compute, given, compared, data_range, counted)
    definitions = _definitions(data_range, _voxels(truth, mask), further)
    return {name: value_or_reason(function, definitions[name]) for name, function in compute.items()}


def value_or_reason(function: Callable[[], float], definition: str) -> MetricValue:
    """Return what a metric computes, or what it raises as the reason why there is no value."""
    try:
        value = function()
    except (InputError, ModelError, PluginError) as error:
        return MetricValue(None, str(error), definition)
    if math.isinf(value):
        return MetricValue(None, "identical", definition)
    return MetricValue(value, None, definition)


def _read_only(array: npt.ArrayLike) -> Any:
    """Return a view that is not to be written to."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _voxels(reference: npt.ArrayLike, mask: npt.ArrayLike | None) -> str:
    total = int(np.size(np.asarray(reference)))
    if mask is None:
        return f"all {total} voxels"
    return f"the {int(np.count_nonzero(np.asarray(mask)))} of {total} voxels in the mask"


def _definitions(data_range: float, voxels: str, further: Mapping[str, Metric]) -> dict[str, str]:
    window = (
        f"3-D, Gaussian window {structural.WINDOW} voxels wide with sigma {structural.SIGMA} voxels, "
        f"K1 {structural.K1}, K2 {structural.K2}, population covariance"
    )
    return {
        "psnr": f"20 log10(data range / RMSE) in dB, data range {data_range:g}, over {voxels}",
        "ssim": f"mean structural similarity ({window}), data range {data_range:g}, over {voxels}, "
        f"less those within {structural.BORDER} voxels of the border of the volume",
        "mae": f"mean absolute error in the unit of the voxels, over {voxels}",
        "rmse": f"root mean squared error in the unit of the voxels, over {voxels}",
        **{
            name: f"{metric.definition}; data range {data_range:g}, over {voxels}"
            for name, metric in further.items()
        },
    }
