"""Check of invention between slices: where a result stops to agree with the truth, patch by patch.

Source: P. Kc, R. Zeng, N. Soni and A. Badano, sFRC for assessing hallucinations in medical image restoration
(2024), a scan of local Fourier ring correlations; code of FDA's DIDSR. The threshold there is tuned by hand;
here it follows from the slices: what they measured along every direction must be right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.scenes import slice_factor
from medrestore.testing.trial import Trial
from medrestore.types import Float64Array, FloatArray, Task

PATCH = 24
"""Side of the patches in voxels, in planes that hold the slice axis."""

AGREED = 0.5
"""Correlation of a ring below which it does not agree."""

STRUCTURE = 0.02
"""Deviation of a patch, relative to the bright level, below which there is nothing to agree with."""


def ring_correlation(first: FloatArray, second: FloatArray) -> Float64Array:
    """Return the Fourier ring correlation of two (N, N) patches, by whole cycles per patch from 1 on.

    Source: Saxton and Baumeister, The correlation averaging of a regularly arranged bacterial cell envelope
    protein, J Microsc 127 (1982). Patches lose their mean and get a Hann window.
    """
    size = len(first)
    taper = np.hanning(size + 2)[1:-1]
    window = np.outer(taper, taper)
    a, b = (fft.fft2((patch - patch.mean()) * window) for patch in (first, second))
    frequency = fft.fftfreq(size, 1 / size)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(int).ravel()
    cross, one, two = (
        np.bincount(ring, weights=part.ravel())[1 : size // 2 + 1]
        for part in ((a * b.conj()).real, np.abs(a) ** 2, np.abs(b) ** 2)
    )
    return np.asarray(cross / np.sqrt(np.maximum(one * two, 1e-30)))


def agreed_share(ring: Float64Array) -> float:
    """Return up to which part of Nyquist two patches agree: the first ring that does not ends it."""
    beyond = np.flatnonzero(ring < AGREED)
    return float(beyond[0] if beyond.size else len(ring)) / len(ring)


def hallucinated(image: FloatArray, truth: FloatArray, reference: float, factor: float) -> tuple[int, int]:
    """Return how many patches disagree below what slices measured, and how many were looked at.

    Args:
        image: (X, Y, Z), the slice axis last.
        truth: The same without any error.
        reference: The bright level.
        factor: Distance of the slices in voxels.
    """
    wrong = seen = 0
    for axis in (0, 1):
        planes, references = (np.moveaxis(array, axis, 0)[:: PATCH // 2] for array in (image, truth))
        for plane, right in zip(planes, references, strict=True):
            for x, y in np.ndindex(*(2 * n // PATCH - 1 for n in right.shape)):
                box = tuple(slice(at * PATCH // 2, at * PATCH // 2 + PATCH) for at in (x, y))
                if right[box].std() > STRUCTURE * reference:
                    seen += 1
                    wrong += agreed_share(ring_correlation(plane[box], right[box])) < 1 / factor
    return wrong, seen


def _hallucination(trial: Trial) -> Outcome:
    if trial.spec.task is not Task.SUPERRES:
        return Outcome(skipped="it resolves no slices")
    scene, factor = trial.computed, slice_factor(trial.spec)
    scan = scene.scan
    (wrong, seen), (by_spline, _) = (
        hallucinated(image, scene.truth, scene.reference, factor)
        for image in (trial.restored(scene), scene.shown(scan))
    )
    if not seen:
        return Outcome(skipped="no patch has structure")
    name = f"patches that disagree below 1/{factor:g} of Nyquist, of {seen}"
    figures = [Figure(name, wrong, most=by_spline), Figure("the same of the spline", by_spline)]
    return Outcome(tuple(figures))


HALLUCINATION: Sequence[Check] = (
    Check(
        "hallucination",
        "Does the result agree with the truth in all that the slices measured, everywhere?",
        "In no more patches of the local Fourier ring correlation than the cubic spline, which invents "
        "nothing, is there disagreement below the frequency that slices resolve.",
        _hallucination,
    ),
)
