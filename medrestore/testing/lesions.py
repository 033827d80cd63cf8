"""Checks of what a model leaves of lesions: spheres and textured patches that are put into scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from medrestore.metrics.lesions import Lesion, contrast_kept, scattered, with_lesions
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.phantoms import smooth_field
from medrestore.testing.scenes import CLEAR, Scene, slice_factor
from medrestore.testing.trial import Trial, mean_interval
from medrestore.types import Float64Array, FloatArray, Task

DIAMETERS = (3, 5, 9)
"""Of the spheres, in voxels."""

KINDS = {
    f"{tone} spheres of {diameter} voxels": (diameter, sign)
    for diameter in DIAMETERS
    for tone, sign in (("bright", 1), ("dark", -1))
}
"""Diameter and sign of the contrast of each kind."""

CONTRASTS = (1.0, 2.0, 3.0, 5.0)
"""Of the spheres, in units of the noise: contrast-to-noise ratios."""

JUDGED = 3.0
"""Contrast from which a sphere must be kept: every voxel of it stands out as far as noise alone does in one
voxel of 370, so that a reader sees it in one slice."""

KEPT = 0.8
"""Part of the contrast that must be left. A Wiener filter that knows of a lesion that its contrast is twice
the noise, and nothing else, leaves as much: 4 / (1 + 4)."""

TEXTURED = (1.0, 2.0, 3.0)
"""Deviations of textured patches, in units of the noise."""

TEXTURE_JUDGED = 2.0
"""Deviation from which texture must be kept: that of which the Wiener filter leaves `KEPT`."""

GRAIN = 1.0
"""Correlation width of the texture, in voxels."""

PATCH = 11
"""Side of a textured patch, in voxels."""

APART = 11
"""Least distance of lesions, in voxels: the boxes of the largest do not overlap."""

FEWEST = 5
"""With fewer lesions of a kind there is no interval to speak of."""

MOST = 90
"""Lesions in one scan."""


def _spheres(trial: Trial) -> Outcome:
    found = [pair for scene in trial.scenes for pair in _spheres_in(trial, scene)]
    if not found:
        return Outcome(skipped=_no_room(trial))
    judged = {kind for kind, figure in found if figure.limits}
    lacking = [
        kind
        for kind, (diameter, _) in KINDS.items()
        if judged and kind not in judged and diameter >= _thinnest(trial)
    ]
    # What was not looked at has not passed.
    skipped = _no_room(trial, ", or ".join(lacking)) if lacking else None
    return Outcome(tuple(figure for _, figure in found), skipped=skipped)


def _thinnest(trial: Trial) -> float:
    """Return the least diameter, in voxels, of spheres that slices show."""
    return slice_factor(trial.spec) if trial.spec.task is Task.SUPERRES else 0.0


def _no_room(trial: Trial, lesions: str = "lesions of each kind") -> str:
    return f"no room for {FEWEST} {lesions} in {trial.options.side} voxels"


def _spheres_in(trial: Trial, scene: Scene) -> Iterator[tuple[str, Figure]]:
    sigma, without = trial.contrast_unit(scene), trial.restored(scene)
    places = _places(scene, max(DIAMETERS) // 2 + 1, trial.rng(1))
    for contrast in CONTRASTS:
        lesions = _planned(places, contrast * sigma, scene, sigma)
        made = trial.restored_with(scene, with_lesions(scene.truth, lesions))
        kept = np.array(contrast_kept(made, without, lesions))
        for kind, (diameter, sign) in KINDS.items():
            here = [one.diameter == diameter and one.contrast * sign > 0 for one in lesions]
            if sum(here) >= FEWEST:
                judged = contrast >= JUDGED and diameter >= _thinnest(trial)
                name = f"{scene.name}: {kind}, CNR {contrast:g}"
                yield kind, _figure(name, kept[here], trial, judged=judged)


def _places(scene: Scene, margin: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    inside = scene.deep.copy()
    for axis in range(3):
        ends = np.moveaxis(inside, axis, 0)
        ends[:margin] = ends[-margin:] = False
    return scattered(inside, MOST, APART, rng)


def _planned(
    places: Sequence[tuple[int, int, int]], contrast: float, scene: Scene, sigma: float
) -> list[Lesion]:
    """Return lesions of every diameter in turn, every other one dark where that is clear of the floor.

    Below it a dark lesion would have another contrast than the one that is put in.
    """
    lesions = []
    for n, place in enumerate(places):
        one = Lesion(place, DIAMETERS[n // 2 % len(DIAMETERS)], contrast)
        if n % 2 and scene.truth[one.box].min() - contrast > scene.floor + CLEAR * sigma:
            one = replace(one, contrast=-contrast)
        lesions.append(one)
    return lesions


def _figure(name: str, kept: Float64Array, trial: Trial, *, judged: bool) -> Figure:
    interval = mean_interval(kept, trial.rng(2))
    return Figure(f"{name}: contrast kept", float(kept.mean()), "", interval, KEPT if judged else None)


def _texture(trial: Trial) -> Outcome:
    if trial.spec.task is Task.SUPERRES:
        return Outcome(skipped="texture finer than a slice is not measured by slices")
    figures: list[Figure] = []
    for scene in trial.scenes:
        figures += _texture_in(trial, scene)
    return Outcome(tuple(figures)) if figures else Outcome(skipped=_no_room(trial))


def _texture_in(trial: Trial, scene: Scene) -> Iterator[Figure]:
    sigma, without = trial.contrast_unit(scene), trial.restored(scene)
    reach = PATCH // 2
    places = _places(scene, reach + 1, trial.rng(3))
    if len(places) < FEWEST:
        return
    texture = smooth_field(scene.truth.shape, GRAIN, trial.rng(4))
    boxes = [tuple(slice(at - reach, at + reach + 1) for at in place) for place in places]
    window = np.zeros_like(scene.truth)
    for box in boxes:
        window[box] = 1
    pattern = texture * ndimage.gaussian_filter(window, 1.0)
    for deviation in TEXTURED:
        made = trial.restored_with(scene, scene.truth + np.float32(deviation * sigma) * pattern)
        kept = np.array([_share(made[box] - without[box], pattern[box]) for box in boxes])
        name = f"{scene.name}: texture of {deviation:g} times the noise"
        yield _figure(name, kept / (deviation * sigma), trial, judged=deviation >= TEXTURE_JUDGED)


def _share(difference: FloatArray, pattern: FloatArray) -> float:
    """Return the factor by which a pattern is in a difference, by least squares."""
    product = np.sum(difference * pattern, dtype=np.float64)
    return float(product / np.sum(np.square(pattern), dtype=np.float64))


LESIONS: Sequence[Check] = (
    Check(
        "lesions",
        "Do small bright and dark spheres keep their contrast?",
        "From three times the noise on, the 90 % interval of what is kept lies above four fifths, whatever "
        "the size: such a sphere is plain to see in one slice of the scan. Between thick slices, those no "
        "thinner than a slice.",
        _spheres,
    ),
    Check(
        "texture",
        "Do textured patches keep their texture?",
        "From twice the noise on, the 90 % interval lies above four fifths, which is what the Wiener filter "
        "leaves of texture without any structure.",
        _texture,
    ),
)
