"""Deliberately bad outputs, made of good ones: what a verdict is to see, and what it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy import ndimage

from benchmarks.evidence.outcomes import Outcome
from medrestore.noise.intensity import FOREGROUND, bright_level

Spoil = Callable[[Outcome, np.random.Generator], Outcome]


def _level(outcome: Outcome) -> float:
    return float(np.median(outcome.expected.sigma))


def _changed(outcome: Outcome, result: np.ndarray) -> Outcome:
    return replace(outcome, result=np.asarray(result, np.float32))


def ball(outcome: Outcome, diameter: float, rng: np.random.Generator) -> np.ndarray:
    """Return a ball of height 1 somewhere inside tissue, on the grid of the result."""
    array = ndimage.gaussian_filter(outcome.result - np.float32(outcome.expected.zero), 1)
    inside = ndimage.minimum_filter(array > FOREGROUND * bright_level(array), size=int(diameter) + 2)
    inside[:6], inside[-6:], inside[:, :6], inside[:, -6:] = (False,) * 4
    places = np.argwhere(inside)
    centre = places[rng.integers(len(places))] if len(places) else np.asarray(array.shape) // 2
    offsets = np.ogrid[tuple(slice(0, n) for n in array.shape)]
    distance = np.sqrt(sum((offset - at) ** 2 for offset, at in zip(offsets, centre, strict=True)))
    return np.clip(diameter / 2 + 0.5 - distance, 0, 1).astype(np.float32)


def smoothed(width: float) -> Spoil:
    return lambda one, _: _changed(one, ndimage.gaussian_filter(one.result, width))


def hallucinated(diameter: float, contrast: float) -> Spoil:
    return lambda one, rng: _changed(one, one.result + contrast * _level(one) * ball(one, diameter, rng))


def erased(diameter: float, contrast: float) -> Spoil:
    """The scan has a ball that the result has not."""

    def spoil(one: Outcome, rng: np.random.Generator) -> Outcome:
        shape = contrast * _level(one) * ball(one, diameter, rng)
        return replace(one, scan=one.scan + one.remeasured(shape))

    return spoil


def unseen(diameter: float, contrast: float) -> Spoil:
    """A ball less what the slices determine of it: no slice changes."""

    def spoil(one: Outcome, rng: np.random.Generator) -> Outcome:
        shape = contrast * _level(one) * ball(one, diameter, rng)
        assert one.stack is not None
        return _changed(one, one.result + one.stack.unseen(shape))

    return spoil


def shifted(voxels: float) -> Spoil:
    def spoil(one: Outcome, rng: np.random.Generator) -> Outcome:
        move = np.zeros(3)
        move[rng.integers(2)] = voxels
        return _changed(one, ndimage.shift(one.result, move, order=3, mode="nearest"))

    return spoil


def rescaled(factor: float) -> Spoil:
    zero = lambda one: np.float32(one.expected.zero)  # noqa: E731
    return lambda one, _: _changed(one, (one.result - zero(one)) * factor + zero(one))


def seamed(offset: float) -> Spoil:
    """The second half along an axis is brighter, as where a tile was normalised by itself."""

    def spoil(one: Outcome, rng: np.random.Generator) -> Outcome:
        result, axis = one.result.copy(), int(rng.integers(2))
        half = [slice(None)] * 3
        half[axis] = slice(result.shape[axis] // 2, None)
        result[tuple(half)] += offset * _level(one)
        return _changed(one, result)

    return spoil


def striped(height: float) -> Spoil:
    """Every other slice is brighter."""

    def spoil(one: Outcome, _: np.random.Generator) -> Outcome:
        result = one.result.copy()
        result[:, :, ::2] += height * _level(one)
        return _changed(one, result)

    return spoil


SPOILT: Mapping[str, Spoil] = {
    **{f"smoothed, Gaussian of {width} voxels": smoothed(width) for width in (0.5, 1.0)},
    **{
        f"sphere {what}, {diameter} voxels, contrast {contrast} times the noise": make(diameter, contrast)
        for what, make in (("hallucinated", hallucinated), ("erased", erased))
        for diameter, contrast in ((3, 4), (5, 1), (5, 2), (9, 1))
    },
    **{f"shifted by {voxels} voxels": shifted(voxels) for voxels in (0.1, 0.25)},
    **{f"multiplied by {factor}": rescaled(factor) for factor in (0.98, 1.02)},
    **{f"one half brighter by {offset} times the noise": seamed(offset) for offset in (0.1, 0.25, 0.5)},
    **{f"every other slice brighter by {height} times the noise": striped(height) for height in (0.1, 0.25)},
}

IN_NULL_SPACE: Mapping[str, Spoil] = {
    f"sphere hallucinated in the null space, {diameter} voxels, contrast {contrast} times the noise": unseen(
        diameter, contrast
    )
    for diameter, contrast in ((3, 4), (5, 4))
}
