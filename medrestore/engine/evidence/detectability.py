"""Virtual lesions in this very scan: spheres put into a part of it, which is restored with them and without.

They are added to the scan as the model is given it, with the noise that is there, so nothing is simulated but
the spheres. What a model observer makes of it is in `observed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.evidence.observed import Observed, Sphere
from medrestore.engine.sampling.posterior import posterior_mean
from medrestore.engine.tasks.trial import SIDE as PART
from medrestore.engine.tasks.trial import middle_of_tissue
from medrestore.metrics.lesions import Lesion, contrast_kept, scattered, with_lesions
from medrestore.metrics.observer import SIDE, seen
from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import BoolArray, FloatArray, IntArray

DIAMETERS, CONTRASTS = (3, 5, 9), (1.0, 2.0, 3.0)
"""Of the spheres: voxels, and contrast over the noise of the scan where they lie."""

ARRANGEMENTS = 4
"""How often the part is restored with spheres; each time other spheres lie in each place."""

EVALUATIONS = ARRANGEMENTS + 1
"""How often the model restores the part."""

PLACES, FEWEST = 120, 18
"""Most places, and the fewest of which something is said: every kind of sphere lies in four."""

BACKGROUND = 300
"""Cubes without a sphere from which the observer learns what is no lesion; they may overlap."""

SOFT_TISSUE = (0.85, 1.3)
"""Attenuations over that of water that are tissue in CT: -150 to 300 HU."""


def kinds() -> tuple[Sphere, ...]:
    """Return every kind of sphere: each size and contrast, bright and dark."""
    return tuple(
        Sphere(diameter, contrast, sign)
        for diameter in DIAMETERS
        for contrast in CONTRASTS
        for sign in (1, -1)
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a scan in model units, its noise, its tissue, the places in it, and what restores it."""

    image: FloatArray
    sigma: FloatArray
    inside: BoolArray
    places: list[tuple[int, int, int]]
    restored: Callable[[FloatArray], FloatArray]

    def lesion(self, place: tuple[int, int, int], kind: Sphere) -> Lesion:
        """Return a sphere of a kind, its contrast that over the noise at its place."""
        return Lesion(place, kind.diameter, kind.sign * kind.contrast * float(self.sigma[place]))


def evaluated(shape: tuple[int, ...]) -> int:
    """Return how many voxels the model is run over for one estimate of all that is looked at."""
    return EVALUATIONS * math.prod(min(PART, side) for side in shape)


def observe(
    condition: Condition, denoiser: Denoiser, *, share: float, is_ct: bool, seed: int
) -> Observed | None:
    """Put spheres into a part of a scan, restore it, and return what an observer sees before and after.

    Args:
        condition: The scan.
        denoiser: Denoiser of the whole volume, or of a part of it.
        share: Part of what the model takes out that is taken out.
        is_ct: Whether the image is in attenuations.
        seed: Of the places, and of which sphere lies where.

    Returns:
        What is seen; None where the part has too little tissue for `FEWEST` places.
    """
    box = middle_of_tissue(condition.image[0, 0].numpy())
    gain = None if condition.gain is None else condition.gain[(..., *box)].contiguous()
    image = np.ascontiguousarray(condition.image[0, 0].numpy()[box])
    part = replace(condition, image=torch.from_numpy(image)[None, None], gain=gain)
    relative = np.ones_like(image) if gain is None else gain[0, 0].numpy()
    sigma = np.asarray(condition.sigma * relative, dtype=np.float32)
    rng = np.random.default_rng(seed)
    inside = tissue(image, is_ct=is_ct)
    places = scattered(inside, PLACES, SIDE, rng)
    if len(places) < FEWEST:
        return None

    def restored(array: FloatArray) -> FloatArray:
        given = replace(part, image=torch.from_numpy(array)[None, None])
        found = np.asarray(posterior_mean(denoiser, given)[0, 0].cpu().numpy())
        return array + np.float32(share) * (found - array)

    return _seen(_Part(image, sigma, inside, places, restored), rng)


def tissue(image: FloatArray, *, is_ct: bool) -> BoolArray:
    """Return where a sphere may lie: in tissue, and far enough from the borders for the observer."""
    smooth = ndimage.gaussian_filter(image, 1.5)
    low, high = SOFT_TISSUE if is_ct else (FOREGROUND * bright_level(image), np.inf)
    deep = ndimage.binary_erosion((smooth > low) & (smooth < high), iterations=2)
    inner = np.zeros_like(deep)
    inner[tuple(slice(SIDE // 2, side - SIDE // 2) for side in image.shape)] = True
    found: BoolArray = deep & inner
    return found


def _arranged(count: int, rng: np.random.Generator) -> IntArray:
    """Return for each place and turn, (ARRANGEMENTS, places), which kind of sphere lies there."""
    number = len(kinds())
    dealt = np.resize(np.arange(number), ARRANGEMENTS * count)  # each kind as often as another
    return np.asarray(rng.permutation(dealt).reshape(ARRANGEMENTS, count))


def _seen(part: _Part, rng: np.random.Generator) -> Observed:
    """Restore a part without spheres and with each arrangement of them, and look at the places."""
    every, places, image = kinds(), part.places, part.image
    after = part.restored(image)
    flat = rng.choice(np.flatnonzero(part.inside), min(BACKGROUND, int(part.inside.sum())), replace=False)
    x, y, z = np.unravel_index(flat, image.shape)
    others = [(int(a), int(b), int(c)) for a, b, c in zip(x, y, z, strict=True)]
    turns = _arranged(len(places), rng)
    rows = []
    for turn in turns:
        lesions = [part.lesion(place, every[kind]) for place, kind in zip(places, turn, strict=True)]
        given = with_lesions(image, lesions)
        found = part.restored(given)
        rows.append((seen(given, places), seen(found, places), contrast_kept(found, after, lesions)))
    return Observed(
        kinds=every,
        kind=turns.ravel(),
        place=np.tile(np.arange(len(places)), len(turns)),
        present=(np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])),
        absent=(seen(image, places), seen(after, places)),
        background=(seen(image, others), seen(after, others)),
        kept=np.concatenate([row[2] for row in rows]),
        images=(image, after),
        inside=part.inside,
    )
