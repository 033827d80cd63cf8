"""Restorations that a verdict is tried on; kept in a folder, other statistics of them take no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from benchmarks.evidence.cases import Case
from medrestore.engine import RestoreOptions
from medrestore.engine.cleaning import measured
from medrestore.engine.evidence.consistency import ExpectedNoise
from medrestore.engine.models.load import LoadedModel
from medrestore.engine.run import ModelRun, Observers
from medrestore.engine.tasks.measurement import Measurement
from medrestore.engine.tasks.superres import ThickSlices
from medrestore.physics.slices import SliceStack

Change = Callable[[Measurement], Measurement]


@dataclass(frozen=True)
class Outcome:
    """A restoration as a verdict sees it.

    Attributes:
        case: What was restored.
        scan: (X, Y, Z) voxels before.
        result: Voxels after; finer along Z where slices were resolved.
        expected: The noise.
        stack: How slices were taken; None where none were.
    """

    case: str
    subject: str
    task: str
    scan: np.ndarray
    result: np.ndarray
    expected: ExpectedNoise
    stack: SliceStack | None = None

    def remeasured(self, result: np.ndarray) -> np.ndarray:
        """Return what would have been measured of a result."""
        return result if self.stack is None else self.stack.forward(result)


def outcome(
    case: Case, model: LoadedModel, options: RestoreOptions, change: Change | None = None
) -> Outcome | None:
    """Restore a case as `medrestore.restore` does; None where there is no noise to take out.

    Args:
        case: The scan.
        model: The model.
        options: How it is restored.
        change: What is done to the measurement before the model is given it.
    """
    run = ModelRun(model, options, None, Observers())
    measurement = measured(case.scan, run, ())
    measurement = (change or (lambda same: same))(run.settled(measurement)[0])
    if measurement.skip_reason is not None:
        return None
    result = run.result(measurement).volume
    expected = ExpectedNoise(
        measurement.expected_sigma(),
        measurement.units.zero,
        measurement.share,
        measurement.noise.neighbour_correlations,
    )
    stack = measurement.plan.stack if isinstance(measurement, ThickSlices) else None
    return Outcome(case.name, case.subject, case.task, measurement.scan.array, result.array, expected, stack)


def kept(path: Path, make: Callable[[], Outcome | None]) -> Outcome | None:
    """Return an outcome that an earlier run has kept, or make and keep it."""
    if not path.exists():
        one = make()
        parts = {} if one is None else _parts(one)
        np.savez(path, **parts)
        return one
    with np.load(path) as data:
        return _whole(dict(data)) if data.files else None


def _parts(one: Outcome) -> dict[str, np.ndarray]:
    expected, stack = one.expected, one.stack
    told = () if expected.correlations is None else expected.correlations
    return {
        "names": np.array([one.case, one.subject, one.task]),
        "scan": one.scan,
        "result": one.result,
        "sigma": np.asarray(expected.sigma, np.float32),
        "numbers": np.array([expected.zero, expected.share, *told]),
        "stack": np.array(() if stack is None else astuple(stack)),
    }


def _whole(parts: dict[str, np.ndarray]) -> Outcome:
    zero, share, *told = map(float, parts["numbers"])
    sigma = parts["sigma"] if parts["sigma"].ndim else float(parts["sigma"])
    stack = None
    if parts["stack"].size:
        planes, slices, *others = parts["stack"]
        stack = SliceStack(int(planes), int(slices), *map(float, others))
    expected = ExpectedNoise(sigma, zero, share, tuple(told) or None)
    return Outcome(*map(str, parts["names"]), parts["scan"], parts["result"], expected, stack)
