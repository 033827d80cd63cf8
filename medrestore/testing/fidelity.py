"""Checks of what a model leaves as it was: place, brightness, clean scans, scans of nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
from scipy import ndimage, signal, stats

from medrestore.metrics.lesions import sphere
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.scenes import computed, is_ct, nothing
from medrestore.testing.trial import Trial
from medrestore.types import Float64Array, FloatArray, Task

SHIFT = 0.1
"""Voxels that a result may lie off. The estimate of a shift is good to a hundredth."""

MEAN_MR, MEAN_HU = 0.01, 2.0
"""How much the mean of a tissue, or of air in CT, may change: a hundredth of the bright level, and 2 HU, half
of what IEC 61223-3-5 allows a scanner for water."""

REPRODUCED = 0.001
"""Of the bright level: what slices without noise may differ by from those of the result."""

LEAST_NOISE = 1e-3
"""Of the bright level: stands for the least noise of a model that declares none at all."""

FEW = 500
"""Voxels of a tissue with which its mean is known to a hundredth of the bright level at any noise."""

DETECTED = 1.0
"""Contrast of a sphere, in units of the noise, from which it counts as seen: the least that is put in."""

DIAMETERS = (3, 5, 9)
"""Of spheres that are looked for, in voxels."""

CHANCE = 0.05
"""How often noise alone shows more spheres than pass: places are counted, and counts follow Poisson."""


def _geometry(trial: Trial) -> Outcome:
    figures, problems = [], []
    for scene in trial.scenes:
        result = trial.restored(scene)
        if result.shape != scene.truth.shape:
            problems.append(f"{scene.name}: {result.shape} voxels; expected {scene.truth.shape}")
            continue
        for axis, shift in zip("ijk", displacement(result, scene.truth), strict=True):
            name = f"{scene.name}: shift along {axis}"
            figures.append(Figure(name, abs(float(shift)), "voxels", most=SHIFT))
    return Outcome(tuple(figures), tuple(problems))


def displacement(moved: FloatArray, fixed: FloatArray) -> Float64Array:
    """Return by how many voxels one image lies off another, along each axis.

    One step of Lucas and Kanade (1981) over the whole image, in copies that are smooth enough for it.

    Args:
        moved: (X, Y, Z).
        fixed: (X, Y, Z), the same content.
    """
    smooth, target = (ndimage.gaussian_filter(image, 1.5) for image in (moved, fixed))
    slopes = np.stack([slope.ravel() for slope in np.gradient(target)]).astype(np.float64)
    difference = (smooth - target).ravel().astype(np.float64)
    return np.asarray(-np.linalg.lstsq(slopes @ slopes.T, slopes @ difference, rcond=None)[0])


def _mean(trial: Trial) -> Outcome:
    ct = is_ct(trial.spec)
    unit, most = ("HU", MEAN_HU) if ct else ("% of the bright level", 100 * MEAN_MR)
    figures = []
    for scene in trial.scenes:
        restored = trial.restored(scene)
        kept = [(name, where, scene.truth) for name, where in scene.tissues.items()]
        if scene.air is not None:
            # A file cuts a scan at its least value: that brightens air, not the model. Slices are not cut.
            before = scene.truth if trial.spec.task is Task.SUPERRES else np.asarray(scene.scan.array)
            kept.append(("air", scene.air, before))
        for name, where, before in kept:
            if np.count_nonzero(where) >= FEW:
                change = float((restored - before)[where].mean(dtype=np.float64))
                value = change * (1 if ct else 100 / scene.reference)
                figures.append(Figure(f"{scene.name}: change of {name}", abs(value), unit, most=most))
    none = f"no tissue of {FEW} voxels in {trial.options.side} voxels along each axis"
    return Outcome(tuple(figures), skipped=None if figures else none)


def _clean(trial: Trial) -> Outcome:
    """Give a scan without noise to a model that is told of the least that it was made for."""
    spec, options = trial.spec, trial.options
    scene = computed(spec, options.side, options.seed, strength=0.0)
    if spec.task is Task.SUPERRES:
        told = trial.restore(scene.scans(), 0.0).record.slices["residual_rms_of_p99"]
        name = "slices without noise: difference from those of the result"
        return Outcome((Figure(name, float(str(told)), "of the bright level", most=REPRODUCED),))
    least = max(spec.noise[0], LEAST_NOISE) * scene.reference
    body = reduce(np.logical_or, scene.tissues.values())
    figures = []
    for name, noise in (("noise measured", None), ("the least noise told", least)):
        seen = scene.before_noise(trial.restore(scene.scans(), noise).volume.array)
        change = (seen - scene.scan.array)[body]
        rms = math.sqrt(float(np.mean(np.square(change, dtype=np.float64))))
        figures.append(Figure(f"clean scan, {name}: change over that noise", rms / least, most=1.0))
    return Outcome(tuple(figures))


def _nothing(trial: Trial) -> Outcome:
    figures: list[Figure] = []
    for content in ("tissue", "air"):
        scene = nothing(trial.spec, trial.options.side, trial.options.seed, content)
        scan, sigma = scene.scan, trial.sigma(scene)
        result = trial.restore(scene.scans(), sigma).volume.array
        for diameter in DIAMETERS:
            seen, known = (places(image, sigma, diameter) for image in (result, scene.shown(scan)))
            title = f"{content} and noise: spheres of {diameter} voxels that are not there"
            figures += [
                Figure(title, seen, most=float(stats.poisson.ppf(1 - CHANCE, known))),
                Figure("the same in the scan", known),
            ]
    return Outcome(tuple(figures))


def places(image: FloatArray, sigma: float, diameter: int) -> int:
    """Return at how many places a sphere is seen: connected centres of a mean beyond `DETECTED`.

    Args:
        image: (X, Y, Z), all of it much the same.
        sigma: The noise, in the same units.
        diameter: Of the sphere, in voxels.
    """
    core = (sphere(diameter) > 0.5).astype(np.float32)
    padded = np.pad(image - np.median(image), core.shape[0] // 2, mode="symmetric")
    mean = signal.fftconvolve(padded, core / core.sum(), mode="valid")
    return int(ndimage.label(np.abs(mean) > DETECTED * sigma, np.ones((3, 3, 3)))[1])


FIDELITY: Sequence[Check] = (
    Check(
        "geometry",
        "Is everything where it was?",
        "A tenth of a voxel along each axis, ten times the error of the estimate.",
        _geometry,
    ),
    Check(
        "mean",
        "Does the mean of a tissue stay, in MR relative to the bright level, in CT in HU?",
        "1 % of the bright level; 2 HU, half of what IEC 61223-3-5 allows a scanner for water.",
        _mean,
    ),
    Check(
        "clean",
        "Does a scan without noise stay as it is?",
        "A change (root mean square) of the least noise that the model was made for: more cannot be noise. "
        "Slices without noise are reproduced to a thousandth of the bright level.",
        _clean,
    ),
    Check(
        "nothing",
        "Does it see anything where nothing is?",
        "No more spheres of a contrast of one standard deviation than the noise itself shows, but for what "
        "chance exceeds once in twenty times.",
        _nothing,
    ),
)
