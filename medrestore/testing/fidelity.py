"""Checks of what a model leaves as it was: place, brightness, clean scans, scans of nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
from scipy import ndimage, signal, stats

from medrestore.metrics.lesions import sphere
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.scenes import CLEAR, LEAST_NOISE, Scene, computed, is_ct, nothing
from medrestore.testing.trial import Trial
from medrestore.types import BoolArray, Float64Array, FloatArray, Task

SHIFT = 0.1
"""Voxels that a result may lie off. The estimate of a shift is good to two hundredths."""

REACH = 4
"""Voxels around it that the estimate of a shift rests on."""

MEAN_MR, MEAN_HU = 0.01, 2.0
"""How much the mean of a tissue, or of air in CT, may change: a hundredth of the bright level, and 2 HU, half
of what IEC 61223-3-5 allows a scanner for water."""

LAYER = 0.2
"""Of the contrast of bone and marrow: how much the mean of either may change. Both are layers of two voxels,
half of them edge, so that a mean shows how sharp a result is; four fifths of lesions are asked for, too."""

CLEAN, CLEAN_TISSUE = 1.0, 2.0
"""Of the least noise: how much all of a head without noise may change, and any one tissue, which is all edge
where it is thin."""

REPRODUCED = 0.001
"""Of the bright level: what slices without noise may differ by from those of the result."""

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
        # Below, noise makes a magnitude brighter, which at the border of tissue looks like a shift.
        clear = scene.truth > scene.floor + CLEAR * trial.sigma(scene)
        where = ndimage.binary_erosion(clear, iterations=REACH)
        for axis, shift in zip("ijk", displacement(result, scene.truth, where), strict=True):
            name = f"{scene.name}: shift along {axis}"
            figures.append(Figure(name, abs(float(shift)), "voxels", most=SHIFT))
    return Outcome(tuple(figures), tuple(problems))


def displacement(moved: FloatArray, fixed: FloatArray, where: BoolArray) -> Float64Array:
    """Return by how many voxels one image lies off another, along each axis.

    One step of Lucas and Kanade (1981), in copies that are smooth enough for it; a change of brightness or of
    contrast is fitted beside it.

    Args:
        moved: (X, Y, Z).
        fixed: (X, Y, Z), the same content.
        where: (X, Y, Z) voxels to look at.
    """
    smooth, target = (ndimage.gaussian_filter(image, 1.5) for image in (moved, fixed))
    terms = (*np.gradient(target), target, np.ones_like(target))
    basis = np.stack([term[where] for term in terms]).astype(np.float64)
    difference = (smooth - target)[where].astype(np.float64)
    return np.asarray(-np.linalg.lstsq(basis @ basis.T, basis @ difference, rcond=None)[0][:3])


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
        if trial.spec.task is not Task.SUPERRES:  # whose slices are thicker than layers
            figures += _layers(scene, restored)
    none = f"no tissue of {FEW} voxels in {trial.options.side} voxels along each axis"
    return Outcome(tuple(figures), skipped=None if figures else none)


def _layers(scene: Scene, restored: FloatArray) -> Iterator[Figure]:
    """Yield how much the means of bone and marrow change, where it is known where they are."""
    layers = [(name, scene.regions[name]) for name in ("bone", "marrow") if name in scene.regions]
    means = [float(scene.truth[where].mean(dtype=np.float64)) for _, where in layers]
    for (name, where), mean in zip(layers, means, strict=True):
        change = float(restored[where].mean(dtype=np.float64)) - mean
        title = f"{scene.name}: change of {name}, over the contrast of bone and marrow"
        yield Figure(title, abs(change) / (max(means) - min(means)), most=LAYER)


def _clean(trial: Trial) -> Outcome:
    """Give a scan without noise to a model that is told of the least that it was made for."""
    spec, options = trial.spec, trial.options
    scene = computed(spec, options.side, options.seed, strength=0.0)
    if spec.task is Task.SUPERRES:
        told = trial.restore(scene.scans(), 0.0).record.slices["residual_rms_of_p99"]
        name = "slices without noise: difference from those of the result"
        return Outcome((Figure(name, float(str(told)), "of the bright level", most=REPRODUCED),))
    least = max(spec.noise[0], LEAST_NOISE) * scene.reference
    regions = {"all but air": reduce(np.logical_or, scene.regions.values()), **scene.regions}
    figures = []
    for name, noise in (("noise measured", None), ("the least noise told", least)):
        seen = scene.before_noise(trial.restore(scene.scans(), noise).volume.array)
        squares = np.square((seen - scene.scan.array) / least, dtype=np.float64)
        changes = {region: math.sqrt(squares[where].mean()) for region, where in regions.items()}
        # Borders and thin layers too, and each for itself: what is lost of bone is little beside a brain.
        most = max(scene.regions, key=lambda region: changes[region])
        for region, limit in (("all but air", CLEAN), (most, CLEAN_TISSUE)):
            title = f"clean scan, {name}: change of {region} over the least noise"
            figures.append(Figure(title, changes[region], most=limit))
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
        "A tenth of a voxel along each axis, five times the error of the estimate.",
        _geometry,
    ),
    Check(
        "mean",
        "Does the mean of a tissue stay, in MR relative to the bright level, in CT in HU?",
        "1 % of the bright level; 2 HU, half of what IEC 61223-3-5 allows a scanner for water. Of bone and "
        "marrow, thin layers, a fifth of the contrast between them.",
        _mean,
    ),
    Check(
        "clean",
        "Does a scan without noise stay as it is?",
        "A change (root mean square) of the least noise that the model was made for, over all but air: more "
        "cannot be noise. Twice that over any one tissue, up to its border, as a thin one is all edge. "
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
