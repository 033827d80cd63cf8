"""Checks of how a model behaves as a program: its contract, its memory, what it reaches for, its licence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from medrestore.engine.cost.budget import least_tile
from medrestore.testing.checks import Check
from medrestore.testing.contract import (
    LARGEST_HALO,
    Rule,
    check_batch,
    check_gain,
    check_halo,
    check_mean,
    check_repeatable,
    check_sample,
    check_sizes,
    check_stream,
    model_problems,
)
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.processes import NoNetworkError, peak_alone
from medrestore.testing.trial import Trial
from medrestore.types import Task
from medrestore.volume import Volume

NOT_TOLD = (
    "another process cannot be told of this model: its `load` is no function of a module; give its name or "
    "its folder"
)

CORE, COLUMN = 32, 24
"""Voxels between the halos of the tiles that are tried, and across the column that they are cut from."""

ROUNDING = 1e-4
"""Of the bright level."""

SPREAD = 0.05
"""Part of the forecast of memory by which it differs when it is made again."""

CARDS = ("readme*", "license*", "licence*", "copying*")
"""Files beside the weights, in any case, in which a licence is said."""


def _contract(*rules: Rule) -> Callable[[Trial], Outcome]:
    def run(trial: Trial) -> Outcome:
        return Outcome(problems=tuple(model_problems(trial.spec, rules)))

    return run


def _tiles(trial: Trial) -> Outcome:
    """Compare a column restored as a whole with the same in tiles, and try the declared halo and a stream."""
    spec = trial.spec
    if problems := tuple(model_problems(spec, (check_halo, check_stream))):
        return Outcome(problems=problems)
    if spec.halo > LARGEST_HALO:
        return Outcome(skipped=f"a halo of {spec.halo} voxels takes too long; {LARGEST_HALO} are tried")
    scene, tile = trial.computed, least_tile(spec) + CORE
    columns = [_column(scan, 2 * tile - 2 * spec.halo + CORE, spec.task) for scan in scene.scans()]
    whole, parts = (trial.restore(columns, scene.sigma, tile=size).volume.array for size in (None, tile))
    off = float(np.abs(whole - parts).max()) / scene.reference
    name = f"largest difference of tiles of {tile} voxels from the whole"
    return Outcome((Figure(name, off, "of the bright level", most=ROUNDING),))


def _column(scan: Volume, length: int, task: Task) -> Volume:
    """Return a column along X out of the middle of a scan, or all of the way along thick slices."""
    middle = slice(scan.shape[1] // 2 - COLUMN // 2, scan.shape[1] // 2 + COLUMN // 2)
    column = scan.array[:, middle, : scan.shape[2] if task is Task.SUPERRES else COLUMN]
    array = np.pad(column, [(0, max(length - len(column), 0)), (0, 0), (0, 0)], mode="symmetric")
    return replace(scan, array=array, geometry=replace(scan.geometry, shape=array.shape))


def _batch(trial: Trial) -> Outcome:
    if trial.spec.series is not None:
        return Outcome(skipped="a batch of it is one series")
    return _contract(check_batch)(trial)


def _determinism(trial: Trial) -> Outcome:
    problems = list(model_problems(trial.spec, (check_repeatable,)))
    if not trial.can_be_told:
        return Outcome(problems=tuple(problems), skipped=NOT_TOLD)
    first, second = trial.lone
    problems += [
        f"two processes have two results for one scan and one seed (output {output!r}); expected the same "
        "bytes"
        for output, digest in first.digests.items()
        if second.digests[output] != digest
    ]
    return Outcome(problems=tuple(problems))


def _memory(trial: Trial) -> Outcome:
    if not trial.can_be_told:
        return Outcome(skipped=NOT_TOLD)
    seen = peak_alone(trial.source, trial.options.seed)
    if not seen.peak_bytes:
        return Outcome(skipped="this system does not tell the memory of a process")
    share = seen.peak_bytes / seen.predicted_bytes
    peak = Figure("peak memory", seen.peak_bytes / 1e6, "MB")
    return Outcome((Figure("peak memory over its forecast", share, most=1 + SPREAD), peak))


def _offline(trial: Trial) -> Outcome:
    if not trial.can_be_told:
        return Outcome(skipped=NOT_TOLD)
    try:
        asked = dict.fromkeys(one for seen in trial.lone for one in seen.asked)
    except NoNetworkError as error:
        asked = dict.fromkeys(error.asked)
    return Outcome(problems=tuple(asked))


def _licence(trial: Trial) -> Outcome:
    spec, problems = trial.spec, []
    try:
        canonicalize_license_expression(spec.licence)
    except InvalidLicenseExpression:
        problems.append(
            f"the licence is {spec.licence[:80]!r}; expected an SPDX expression, such as Apache-2.0"
        )
    if spec.weights is not None and not _beside(spec.weights.parent.iterdir()):
        problems.append(
            "nothing beside the weights says their licence; expected README.md or LICENSE in their folder"
        )
    return Outcome(problems=tuple(problems))


def _beside(files: Iterable[Path]) -> bool:
    return any(fnmatch(path.name.lower(), pattern) for path in files for pattern in CARDS)


CONDUCT: Sequence[Check] = (
    Check(
        "contract",
        "Does it return an estimate whatever the size and type, and leave alone what it is given?",
        "All of what `ModelSpec` and `Denoiser` say: no exceptions.",
        _contract(check_sizes, check_gain, check_mean, check_sample),
    ),
    Check(
        "determinism",
        "Do the same scan and seed give the same result?",
        "The same bytes, in one process and in two: a result must be made again to be believed.",
        _determinism,
    ),
    Check(
        "batch",
        "Does a scan's result depend on the other scans of a batch?",
        "A ten-thousandth of the bright level, which is rounding: patients must not mix.",
        _batch,
    ),
    Check(
        "tiles",
        "Does the result depend on where a tile begins or ends?",
        "A ten-thousandth of the bright level, which is rounding: a seam is no anatomy.",
        _tiles,
    ),
    Check(
        "memory",
        "Does it keep to its forecast of memory on a scan larger than what the forecast was made on?",
        "The forecast, as scans are admitted by it, and the 5 % that it spreads by itself: what takes more "
        "ends its neighbours.",
        _memory,
    ),
    Check(
        "offline",
        "Does it load and run without asking the network for anything?",
        "Not one request, and no other program, which may make one: scans and weights stay where they are.",
        _offline,
    ),
    Check(
        "licence",
        "Does it say under which licence it may be used?",
        "An SPDX expression in its declaration and, where it has weights, a file beside them that says so.",
        _licence,
    ),
)
