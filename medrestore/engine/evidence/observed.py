"""What a model observer makes of virtual lesions: areas under the curve before and after, with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medrestore.findings import DETECTABILITY_LOST, Finding
from medrestore.metrics.observer import detectability_index, flat_deviation, template
from medrestore.provenance import JSON
from medrestore.types import BoolArray, Float64Array, FloatArray, IntArray

MARGIN = 0.05
"""Loss of area under the curve up to which a result is not inferior."""

DRAWS, LEVEL = 1000, 0.95
"""Resamplings of the places, and the probability of the intervals."""

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Parts of the way from the scan to what the model returns, for each of which the same is told."""


@dataclass(frozen=True)
class Sphere:
    """A kind of sphere: diameter in voxels, contrast over the noise, and 1 for bright or -1 for dark."""

    diameter: int
    contrast: float
    sign: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Observed:
    """What the channels of the observer see; each pair is before and after.

    Attributes:
        kinds: Of spheres.
        kind: (R,) of each sphere, an index into `kinds`.
        place: (R,) of each sphere, an index into the P places.
        present: (R, C) with the sphere.
        absent: (P, C) at the same places, without one.
        background: (N, C) elsewhere in tissue, without one.
        kept: (R,) part of its contrast that each sphere keeps.
        images: The part of the scan, (X, Y, Z).
        inside: (X, Y, Z), where tissue is.
    """

    kinds: tuple[Sphere, ...]
    kind: IntArray
    place: IntArray
    present: tuple[Float64Array, Float64Array]
    absent: tuple[Float64Array, Float64Array]
    background: tuple[Float64Array, Float64Array]
    kept: Float64Array
    images: tuple[FloatArray, FloatArray]
    inside: BoolArray

    def at(self, strength: float) -> Observed:
        """Return what is seen at a part of the way from before to after: channels are linear."""

        def between(pair: tuple[Any, Any]) -> tuple[Any, Any]:
            return pair[0], pair[0] + type(pair[0].flat[0])(strength) * (pair[1] - pair[0])

        return replace(
            self,
            present=between(self.present),
            absent=between(self.absent),
            background=between(self.background),
            images=between(self.images),
            kept=1 + strength * (self.kept - 1),
        )


@dataclass(frozen=True)
class Wins:
    """Which scores with a sphere exceed which without, before and after.

    Attributes:
        sphere: Kind.
        place: (R,) of those with the sphere.
        won: Pair of (R, P) of 1, 0, and 0.5 for a tie.
        fair: (R, P), where both are of the half of the places that the template was not made from.
        index: Pair of d'.
    """

    sphere: Sphere
    place: IntArray
    won: tuple[Float64Array, Float64Array]
    fair: Float64Array
    index: tuple[float, float]

    def pairs(self, counts: Float64Array) -> Float64Array:
        """Return how many fair pairs there are for each row of (B, P) counts of the places."""
        return np.asarray(np.einsum("br,rp,bp->b", counts[:, self.place], self.fair, counts, optimize=True))

    def wins(self, counts: Float64Array, when: int) -> Float64Array:
        """Return how many of them the sphere wins."""
        fair = self.fair * self.won[when]
        return np.asarray(np.einsum("br,rp,bp->b", counts[:, self.place], fair, counts, optimize=True))


def areas(wins: list[Wins], counts: Float64Array, when: int) -> Float64Array:
    """Return the area under the curve over some kinds, for each row of (B, P) counts of the places.

    It is NaN for a draw of the places that holds no pair.
    """
    pairs = np.sum([one.pairs(counts) for one in wins], axis=0)
    won = np.sum([one.wins(counts, when) for one in wins], axis=0)
    return np.asarray(np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan))


def judged(observed: Observed, strength: float, seed: int) -> tuple[dict[str, JSON], tuple[Finding, ...]]:
    """Return areas under the curve, contrast kept and verdicts, and a finding where a result is inferior.

    Args:
        observed: What is seen in the scan, and in what the model returns.
        strength: Of the restoration.
        seed: Of the resampling.
    """
    count = len(observed.absent[0])
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    counts = np.concatenate([np.ones((1, count)), draws])
    wins = list(_wins(observed.at(strength)))
    rows = [_row(observed.at(strength), wins, size, contrast, counts) for size, contrast in _sizes(wins)]
    overall = _compared(wins, counts)
    strengths = [_at(observed, part) for part in STRENGTHS]
    facts: dict[str, JSON] = {
        "observer": "channelized Hotelling, differences of Gaussians",
        "places": count,
        "margin": MARGIN,
        "interval": LEVEL,
        "overall": overall,
        "spheres": rows,
        "strengths": strengths,
    }
    worse = [row for row in rows if row["verdict"] == "inferior"]
    if overall["verdict"] != "inferior" and not worse:
        return facts, ()
    first = min((overall, *worse), key=lambda row: row["difference"]["value"])
    size = (
        f" of {first['diameter']} voxels at {first['contrast']:g} times the noise"
        if "diameter" in first
        else ""
    )
    before, after = (first[when]["value"] for when in ("before", "after"))
    text = (
        f"virtual spheres{size} are found less surely in the result (area under the curve {before:.2f} "
        f"before, {after:.2f} after): faint lesions may be lost"
    )
    data = {name: first[name] for name in ("before", "after", "difference")}
    return facts, (DETECTABILITY_LOST.found(text, margin=MARGIN, inferior=len(worse), **data),)


def _sizes(wins: list[Wins]) -> list[tuple[int, float]]:
    return list(dict.fromkeys((one.sphere.diameter, one.sphere.contrast) for one in wins))


def _wins(observed: Observed) -> Iterator[Wins]:
    """Yield the comparisons of every kind of sphere; templates are made from the other half of the places."""
    halves = np.arange(len(observed.absent[0])) % 2
    for number, sphere in enumerate(observed.kinds):
        rows = np.flatnonzero(observed.kind == number)
        place = observed.place[rows]
        if len(rows) < 4 or len(set(halves[place])) < 2:
            continue
        won, index = [], []
        for when in (0, 1):
            with_it, without = observed.present[when][rows], observed.absent[when]
            signal = with_it - without[place]
            weights = [
                template(signal[halves[place] != half].mean(axis=0), observed.background[when])
                for half in (0, 1)
            ]
            scores = np.stack([with_it @ one for one in weights])[halves[place], np.arange(len(rows))]
            others = np.stack([without @ one for one in weights])[halves, np.arange(len(halves))]
            won.append((scores[:, None] > others) + 0.5 * (scores[:, None] == others))
            index.append(detectability_index(scores, others))
        fair = (halves[place][:, None] == halves).astype(np.float64)
        yield Wins(sphere, place, (won[0], won[1]), fair, (index[0], index[1]))


def _row(
    observed: Observed, wins: list[Wins], diameter: int, contrast: float, counts: Float64Array
) -> dict[str, Any]:
    here = [one for one in wins if (one.sphere.diameter, one.sphere.contrast) == (diameter, contrast)]
    kept = {}
    for sign, name in ((1, "bright"), (-1, "dark")):
        number = observed.kinds.index(Sphere(diameter, contrast, sign))
        values = observed.kept[observed.kind == number]
        kept[name] = float(values.mean()) if values.size else None
    return {"diameter": diameter, "contrast": contrast, "kept": kept, **_compared(here, counts)}


def _compared(wins: list[Wins], counts: Float64Array) -> dict[str, Any]:
    """Return the mean area under the curve of some kinds before and after, with intervals and verdict."""
    before, after = (areas(wins, counts, when) for when in (0, 1))
    difference = _interval(after - before)
    verdict = "not inferior" if difference["low"] >= -MARGIN else "not shown"
    index = [float(np.mean([one.index[when] for one in wins])) for when in (0, 1)]
    return {
        "spheres": int(sum(len(one.place) for one in wins)),
        "before": {**_interval(before), "index": index[0]},
        "after": {**_interval(after), "index": index[1]},
        "difference": difference,
        "verdict": "inferior" if difference["high"] < -MARGIN else verdict,
    }


def _interval(values: Float64Array) -> dict[str, float]:
    """Return the first value, of the places as they are, and the interval of those resampled."""
    low, high = np.nanquantile(values[1:], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def _at(observed: Observed, strength: float) -> dict[str, Any]:
    """Return what a strength leaves of detectability and of noise."""
    moved = observed.at(strength)
    wins = list(_wins(moved))
    once = np.ones((1, len(observed.absent[0])))
    noise = [flat_deviation(image, observed.inside) for image in moved.images]
    return {
        "strength": strength,
        "area": float(areas(wins, once, 1)[0]),
        "index": float(np.mean([one.index[1] for one in wins])),
        "contrast": float(moved.kept.mean()),
        "noise": noise[1] / noise[0] if noise[0] > 0 else None,
    }
