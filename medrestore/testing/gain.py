"""Check of what a model is for: less noise, whatever its colour; more than interpolation, between slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medrestore.metrics import psnr
from medrestore.physics.ct_reconstruction import KERNELS
from medrestore.physics.mr_colour import COLOURS
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.scenes import IN_SLICES, Scene, computed, is_ct, slice_factor
from medrestore.testing.trial import Trial
from medrestore.types import FloatArray, Task

HALVED = 3.0
"""Decibels: half of the power of the noise."""

FILLED = "filled-2"
"""Colour of the noise of slices: what most scanners deliver."""

WINDOW_HU = 400.0
"""Data range of PSNR in CT: a window of soft tissue."""


def _gain(trial: Trial) -> Outcome:
    resolves = trial.spec.task is Task.SUPERRES
    return Outcome(tuple(_of_slices(trial) if resolves else _of_colours(trial)))


def _of_slices(trial: Trial) -> Iterator[Figure]:
    spec, options, factor = trial.spec, trial.options, slice_factor(trial.spec)
    scene = trial.computed
    yield _above_spline(f"slices {factor:g} voxels apart", trial.restored(scene), scene, trial)
    if not is_ct(spec):
        filled = computed(spec, options.side, options.seed, FILLED, strength=1 / IN_SLICES)
        title = f"the same in {1 / IN_SLICES:g} times the noise, {COLOURS[FILLED].title}"
        yield _above_spline(title, trial.restored(filled), filled, trial)
    clean = computed(spec, options.side, options.seed, strength=0.0)
    made = trial.restore(clean.scans(), 0.0).volume.array
    yield _above_spline("the same without noise", made, clean, trial)


def _above_spline(title: str, made: FloatArray, scene: Scene, trial: Trial) -> Figure:
    gained = _psnr(made, scene, trial) - _psnr(scene.shown(scene.scan), scene, trial)
    return Figure(f"{title}: PSNR above the spline's", gained, "dB", least=0.0, scale=HALVED)


def _of_colours(trial: Trial) -> Iterator[Figure]:
    """Yield what is gained and left; the level is told, its colour is measured."""
    spec, options = trial.spec, trial.options
    for number, colour in enumerate(KERNELS if is_ct(spec) else COLOURS):
        scene = computed(spec, options.side, options.seed, colour)
        scan = scene.scan
        made = trial.restore(scene.scans(), scene.sigma).volume.array
        gained = _psnr(made, scene, trial) - _psnr(scan.array, scene, trial)
        name, least = scene.name.removeprefix("computed head, "), 0.0 if number else HALVED
        yield Figure(f"{name}: PSNR gained", gained, "dB", least=least, scale=HALVED)
        left = _left(made - scene.truth, scene) / _left(scan.array - scene.truth, scene)
        yield Figure(f"{name}: deviation left in uniform tissue, over that of the scan", left)


def _psnr(image: FloatArray, scene: Scene, trial: Trial) -> float:
    extent = WINDOW_HU if is_ct(trial.spec) else scene.reference
    return psnr(image, scene.truth, data_range=extent, mask=scene.deep)


def _left(noise: FloatArray, scene: Scene) -> float:
    largest = max(scene.tissues.values(), key=np.count_nonzero)
    return float(noise[largest].std(dtype=np.float64))


GAIN: Sequence[Check] = (
    Check(
        "gain",
        "Is there less noise afterwards, whatever its colour, and more than interpolation between slices?",
        "3 dB in white noise or that of a soft kernel, half of the power of the noise; not below 0 in noise "
        "of any other colour, and not below the cubic spline for thick slices.",
        _gain,
    ),
)
