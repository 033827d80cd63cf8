"""Pairs that were measured: a noisy scan, and a clean one of the same subject in the same place."""

from __future__ import annotations

import numpy as np

from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.tasks.series import EDGES
from medrestore.errors import ConfigError, GeometryError, InputError
from medrestore.noise.intensity import model_units
from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.training.simulate import Simulated
from medrestore.types import Task
from medrestore.volume import Volume

BRIGHT = 0.3
"""Voxels of the clean scan above this share of the bright level tell whether the units are the same: noise
hardly changes their mean."""

SAME = (0.95, 1.05)
"""Ratio of these means within which they are."""


def check_pairs(spec: ModelSpec) -> None:
    """Refuse pairs for a model whose result has another grid than its scan.

    Raises:
        ConfigError: It is such a model.
    """
    if spec.task is not Task.DENOISE:
        raise ConfigError(
            f"{spec.name} makes finer slices, and measured pairs are scans of one grid: give the clean scans "
            "alone, of which thick slices are made"
        )


def measured_pair(scan: Volume, truth: Volume, spec: ModelSpec) -> Simulated:
    """Return a scan with its truth, both as they were measured.

    Raises:
        GeometryError: They have not the same grid.
        InputError: Their units differ, or their difference is more than noise: something moved, say.
    """
    if not scan.geometry.allclose(truth.geometry):
        raise GeometryError(
            f"{scan.name}: has {_grid(scan)}, and the clean scan {_grid(truth)}, or another place in space; "
            "expected the same grid: resample the clean scan, or leave the pair out"
        )
    units = model_units(spec.intensity, truth.array)
    noisy, clean = (units.to_model(np.asarray(one.array, np.float32)) for one in (scan, truth))
    edges = residual_evidence(noisy, clean, 1.0)["edge_correlation"]
    if edges is None or edges > EDGES[1]:
        found = "cannot be measured" if edges is None else f"is {edges:.2f}"
        raise InputError(
            f"{scan.name}: the correlation of its difference to the clean scan with the edges of that "
            f"{found}; expected {EDGES[1]:g} at most, that of noise: register both, or leave the pair out"
        )
    bright = clean > BRIGHT
    ratio = float(noisy[bright].mean() / clean[bright].mean()) if bright.any() else 0.0
    if not SAME[0] < ratio < SAME[1]:
        raise InputError(
            f"{scan.name}: tissue is {ratio:.3g} times as bright as in the clean scan; expected "
            f"{SAME[0]:g} to {SAME[1]:g}: bring both to the same units, or leave the pair out"
        )
    return Simulated(scan, truth, RestoreOptions())


def _grid(volume: Volume) -> str:
    shape, spacing = (" x ".join(f"{one:.4g}" for one in values) for values in (volume.shape, volume.spacing))
    return f"{shape} voxels of {spacing} mm"
