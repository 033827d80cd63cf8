"""All metrics of one image by itself, each with its definition, or the reason why it is absent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError
from medrestore.metrics.evaluation import MetricValue, value_or_reason
from medrestore.metrics.regions import Regions
from medrestore.metrics.sharpness import edge_width
from medrestore.metrics.tissue import cjv, cnr, efc, fber, snr, snr_dietrich
from medrestore.types import BoolArray


def evaluate_without_reference(
    image: npt.ArrayLike,
    spacing: Sequence[float],
    regions: Regions,
    *,
    guide: npt.ArrayLike | None = None,
) -> dict[str, MetricValue]:
    """SNR, CNR, CJV, EFC, FBER as MRIQC defines them, and the width of edges, of one image.

    None of these knows the truth: an image that was smoothed too much has a high SNR and wide edges. To
    compare two images, take the same regions and the same guide for both.

    Args:
        image: (X, Y, Z), any real type.
        spacing: Sizes of its voxels along X, Y and Z, in mm.
        regions: Where to measure; see `find_regions`.
        guide: Image in which edges are looked for, on the same grid; None for `image`.

    Returns:
        Keys ``snr_1``, ``snr_2``, ``snrd_1``, ``snrd_2``, ``cnr``, ``cjv``, ``efc``, ``fber`` and
        ``edge_width`` (mm), in this order; what cannot be had is absent, with the reason.
    """

    def tissue(mask: BoolArray | None) -> BoolArray:
        return _needed(mask, regions.tissues)

    def air() -> BoolArray:
        return _needed(regions.air, "no voxel outside the head was measured")

    compute: dict[str, Callable[[], float]] = {
        "snr_1": lambda: snr(image, tissue=tissue(regions.first)),
        "snr_2": lambda: snr(image, tissue=tissue(regions.second)),
        "snrd_1": lambda: snr_dietrich(image, tissue=tissue(regions.first), air=air()),
        "snrd_2": lambda: snr_dietrich(image, tissue=tissue(regions.second), air=air()),
        "cnr": lambda: cnr(image, first=tissue(regions.first), second=tissue(regions.second), air=air()),
        "cjv": lambda: cjv(image, first=tissue(regions.first), second=tissue(regions.second)),
        "efc": lambda: efc(image, mask=None),
        "fber": lambda: fber(image, head=regions.head, air=air()),
        "edge_width": lambda: edge_width(image, spacing, mask=regions.head, guide=guide),
    }
    definitions = _definitions(regions, guide is not None)
    return {name: value_or_reason(function, definitions[name]) for name, function in compute.items()}


def _needed(mask: BoolArray | None, reason: str) -> BoolArray:
    if mask is None:
        raise InputError(reason)
    return mask


def _definitions(regions: Regions, guided: bool) -> dict[str, str]:
    first, second, air, head = (
        0 if mask is None else int(np.count_nonzero(mask))
        for mask in (regions.first, regions.second, regions.air, regions.head)
    )
    both = f"of {first} and {second} voxels: {regions.tissues}"
    outside = f"{air} voxels of air"
    signal = {
        number: f"tissue {number} of two, {count} voxels: {regions.tissues}"
        for number, count in ((1, first), (2, second))
    }
    return {
        **{f"snr_{n}": f"median / sample standard deviation, in {text}" for n, text in signal.items()},
        **{
            f"snrd_{n}": f"sqrt(2 - pi/2) median / (1.4826 MAD of {outside}), in {text}"
            for n, text in signal.items()
        },
        "cnr": f"|difference of medians| / sqrt(sum of variances, with that of {outside}), tissues {both}",
        "cjv": f"1.4826 sum of MADs / |difference of medians|, tissues {both}",
        "efc": "Shannon entropy of the intensities over its largest possible value, all voxels",
        "fber": f"median of x^2 over {head} voxels of the head / that over {outside}",
        "edge_width": "full width at half maximum in mm of the mean edge, across the steepest tenth of "
        f"{head} voxels of the head, {'edges of the guide' if guided else 'edges of the image itself'}",
    }
