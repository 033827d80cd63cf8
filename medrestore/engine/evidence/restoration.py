"""What comes back from a restoration: the volume and the evidence that goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from medrestore.errors import GeometryError, InputError
from medrestore.geometry import Geometry
from medrestore.metrics import (
    MetricValue,
    evaluate,
    evaluate_without_reference,
    find_regions,
    head_mask,
    measured,
    reference_range,
)
from medrestore.plugin.extensions.metrics import declared_metrics
from medrestore.provenance import JSON, RunRecord
from medrestore.types import Modality, RealArray
from medrestore.volume import Volume

Metrics = Mapping[str, Mapping[str, MetricValue]]
"""Metric by name, by where: ``input`` and ``result``, against a reference both inside its head."""


@dataclass(frozen=True)
class Restoration:
    """The outcome of `restore`.

    Attributes:
        volume: The restored scan, in the units of the input and on its grid; across the slices finer than
            that after super-resolution.
        maps: Volumes on the same grid that go with it, by name: ``"std"``, the standard deviation of the
            posterior samples, where there are two or more; ``"lower"`` and ``"upper"``, the ends of the
            interval of each voxel; ``"null"``, the part of the result that no slice shows.
        metrics: Quality of the input and of the result against the reference, and without one where that was
            asked for; absent values say why. The input of super-resolution is the cubic spline through the
            slices.
        record: How the result was made.
    """

    volume: Volume
    maps: Mapping[str, Volume]
    metrics: Metrics
    record: RunRecord

    @property
    def std(self) -> Volume | None:
        """Standard deviation of the posterior samples, in the units of the scan; None with fewer than two."""
        return self.maps.get("std")


def measure(
    baseline: Volume, result: Volume, reference: Volume | None, modality: Modality, *, quality: bool = False
) -> Metrics:
    """Judge the result, and what there was without it.

    Both are compared with a reference on their grid, inside its head. Metrics of plugins are among the
    values; one that fails is absent, with the reason.

    Args:
        baseline: What there was without the result.
        result: The result.
        reference: The truth; None for none.
        modality: Of all three.
        quality: Whether they are also judged by themselves, in the same regions.
    """
    found = _compared(baseline, result, reference, modality)
    if not quality:
        return found
    alone = _alone(measured(baseline.array, modality), measured(result.array, modality), result.spacing)
    return {where: {**values, **alone[where]} for where, values in found.items()}


def _compared(baseline: Volume, result: Volume, reference: Volume | None, modality: Modality) -> Metrics:
    further = declared_metrics()
    if reference is None:
        absent = evaluate(baseline.array, None, data_range=1.0, further=further)
        return dict.fromkeys(("input", "result"), absent)
    truth = measured(reference.array, modality)
    data_range, mask = reference_range(truth), head_mask(truth)
    return {
        name: evaluate(volume.array, reference.array, data_range=data_range, mask=mask, further=further)
        for name, volume in (("input", baseline), ("result", result))
    }


def _alone(before: RealArray, after: RealArray, spacing: Sequence[float]) -> Metrics:
    try:
        head = head_mask(after)
    except InputError:  # a constant volume
        head = np.ones(after.shape, dtype=np.bool_)
    regions = find_regions(after, acquired=before, head=head)
    return {
        where: evaluate_without_reference(array, spacing, regions, guide=after)
        for where, array in (("input", before), ("result", after))
    }


def check_reference(grid: Geometry, reference: Geometry) -> None:
    """Refuse a reference that is not on the grid of the result; its header tells.

    Raises:
        GeometryError: Shape or place differ.
    """
    if not grid.allclose(reference, tol_mm=1e-2):
        raise GeometryError(
            f"the reference is on another grid: shape {reference.shape}, voxels of {reference.spacing} mm; "
            f"the result has {grid.shape} and {grid.spacing} mm, or another place; resample one to the other"
        )


def as_json(metrics: Metrics) -> dict[str, JSON]:
    """Return metrics as a record keeps them."""
    return {where: {name: asdict(value) for name, value in found.items()} for where, found in metrics.items()}
