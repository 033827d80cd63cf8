"""Check of intervals: do they hold the truth as often as they say?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medrestore.engine.intervals.calibration import FILE
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.trial import Trial
from medrestore.types import BoolArray, FloatArray

LEVEL = 0.9
"""Share of the voxels whose truth is to lie in the intervals that are asked for."""

COVERED, WORST = 0.88, 0.8
"""Least share that does, of all voxels and of any tenth of them."""


def _intervals(trial: Trial) -> Outcome:
    weights = trial.spec.weights
    if weights is None or not weights.with_name(FILE).is_file():
        return Outcome(skipped=f"no {FILE} beside weights: it has no calibrated intervals")
    scene = trial.computed
    maps = trial.restore(scene.scans(), scene.sigma, interval=LEVEL).maps
    lower, upper = (maps[name].array for name in ("lower", "upper"))
    inside = ((lower <= scene.truth) & (scene.truth <= upper))[scene.deep]
    slope = ndimage.gaussian_gradient_magnitude(scene.truth, 1.0)
    figures = [Figure(f"{scene.name}: intervals of {LEVEL:.0%} hold the truth", inside.mean(), least=COVERED)]
    for name, by in {"expected error": upper - lower, "intensity": scene.truth, "gradient": slope}.items():
        worst = min(_shares(inside, by[scene.deep]))
        figures.append(Figure(f"{scene.name}: the worst tenth by {name}", worst, least=WORST))
    width = float(np.median((upper - lower)[scene.deep])) / trial.contrast_unit(scene)
    figures.append(Figure(f"{scene.name}: median width over the noise", width))
    return Outcome(tuple(figures))


def _shares(inside: BoolArray, by: FloatArray) -> list[float]:
    """Return the share of voxels inside their interval for every tenth, in the order of something."""
    return [float(tenth.mean()) for tenth in np.array_split(inside[np.argsort(by, kind="stable")], 10)]


INTERVALS: Sequence[Check] = (
    Check(
        "intervals",
        "Do its calibrated intervals hold the truth as often as they say?",
        "Of intervals for 90 % of the voxels at least 88 % do, and 80 % in any tenth by expected error, "
        "intensity or gradient. Wider ones are no fault: the head is none of those of the calibration.",
        _intervals,
    ),
)
