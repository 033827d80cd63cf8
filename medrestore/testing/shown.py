"""What a model is shown of a scene: a scan, or a series of them around the one that it is judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from medrestore.engine import LoadedModel, Restoration, RestoreOptions, restore, restore_series
from medrestore.engine.models.find import declared_operator
from medrestore.plugin import ModelSpec
from medrestore.plugin.extensions.operators import DeclaredOperator
from medrestore.testing.phantoms import smooth_field
from medrestore.types import AIR_HU, FloatArray, Modality
from medrestore.volume import Volume

VOLUMES = 21
"""Of a series; an odd number, so that one is the middle one."""

BLOCK = 5
"""Volumes in turn that have what was changed in an image, and that have it not."""

DRIFT = 0.02
"""How much the signal drifts from the first volume to the last, typically, as a scanner that warms up."""

DRIFT_WIDTH = 8.0
"""Of the regions that drift alike, in voxels."""


def volumes(spec: ModelSpec) -> int:
    """Return how many volumes a model is shown at once: one, unless it takes series."""
    return 1 if spec.series is None else max(VOLUMES, spec.series | 1)


def course(truth: FloatArray, image: FloatArray, count: int) -> Iterator[FloatArray]:
    """Yield what there is in each volume of a series, the image itself in the middle.

    What an image has beyond the truth comes and goes in blocks, as a response to a task does: what lies in
    all volumes the mean over them keeps, and no method of series would be tried by it.

    Args:
        truth: (X, Y, Z).
        image: The truth, or what was changed in it.
        count: Of volumes; 1 for a scan that is no series.
    """
    if count == 1:
        yield image
        return
    drift = np.float32(DRIFT) * smooth_field(truth.shape, DRIFT_WIDTH, np.random.default_rng(0))
    for time in range(-(count // 2), count - count // 2):
        there = (time + BLOCK // 2) // BLOCK % 2 == 0
        yield (image if there else truth) * (1 + np.float32(time / count) * drift)


def restored(scans: Sequence[Volume], options: RestoreOptions, model: LoadedModel) -> Restoration:
    """Restore what a model is shown, and return what it made of the scan that it is judged by."""
    if model.spec.series is None:
        return restore(scans[len(scans) // 2], options, model=model)
    return restore_series(scans, replace(options, volumes="joint"), model=model)[len(scans) // 2]


def before_noise(spec: ModelSpec, spacing: tuple[float, ...]) -> Callable[[FloatArray], FloatArray]:
    """Return what turns an image into the scan that it gives without noise: the operator that a model undoes.

    Args:
        spec: The model.
        spacing: Sizes of the voxels in mm.
    """
    if spec.operator is None:
        return lambda image: image
    operator = DeclaredOperator(declared_operator(spec.operator))
    nothing = np.float32(AIR_HU if spec.modalities[0] is Modality.CT else 0)
    return lambda image: operator.forward(image - nothing, spacing) + nothing
