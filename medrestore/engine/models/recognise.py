"""What a scan is of, told by its content alone: MR of a head, CT, or neither."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from medrestore.engine.models.features import scan_features
from medrestore.geometry import Geometry
from medrestore.plugin.spec import DOMAINS
from medrestore.types import Float64Array, RealArray

FITTED = "recognition.json"
"""What `benchmarks.evidence.recognition` made: which features count how much, and from which scans it is."""

NEITHER = "neither"
"""The class of what is of no domain."""

NAMES = {"mr-head": "MR of a head", "ct": "CT", NEITHER: "neither"}
"""What a person calls the classes."""

LEAST_SIDE, FEWEST_SLICES = 48, 12
"""Voxels that two axes need, and the third: less holds no statistics of a scan, and nothing is said."""

BOUND = 4.0
"""Standard deviations beyond which a feature counts no more: one number alone must not decide."""


@dataclass(frozen=True)
class Recognition:
    """What a scan was recognised as.

    Attributes:
        shares: Probability of each domain, and of neither, by name; they add up to 1.
    """

    shares: Mapping[str, float]

    @property
    def best(self) -> str:
        """The likeliest domain."""
        return max(DOMAINS, key=lambda name: self.shares[name])

    @property
    def certainty(self) -> float:
        """Probability of it where the scan is of some domain."""
        return self.shares[self.best] / max(sum(self.shares[name] for name in DOMAINS), 1e-12)

    @property
    def names(self) -> bool:
        """Whether the content names the domain of a scan: one that is not refused, and no other."""
        model = fitted()
        return self.shares[self.best] >= model.least[self.best] and self.certainty >= model.sure

    @property
    def words(self) -> str:
        """All of it for a person, the likeliest first."""
        ordered = sorted(self.shares.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{NAMES[name]} {share:.2f}" for name, share in ordered)


@dataclass(frozen=True)
class Fitted:
    """A multinomial logistic regression on standardised features and their squares.

    Squares let a class end on both sides: what is further from heads than heads from each other is no head.

    Attributes:
        features: Their names.
        mean: (F,), of each.
        deviation: (F,), of each.
        weights: (2 F + 1, classes), of the features, their squares, and 1.
        classes: Names of the classes.
        sure: Least certainty of a domain for a scan that does not say what it is.
        least: For each domain, the probability of it below which a scan is refused.
    """

    features: tuple[str, ...]
    mean: Float64Array
    deviation: Float64Array
    weights: Float64Array
    classes: tuple[str, ...]
    sure: float
    least: Mapping[str, float]

    def shares(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return the probability of each class for the features of a scan; what is NaN does not count."""
        values = np.array([found.get(name, math.nan) for name in self.features])
        logits = expanded((values - self.mean) / self.deviation) @ self.weights[:-1] + self.weights[-1]
        odds = np.exp(logits - logits.max())
        return dict(zip(self.classes, (odds / odds.sum()).tolist(), strict=True))


def expanded(standardised: Float64Array) -> Float64Array:
    """Return features (..., F) and their squares (..., 2 F), both 0 where a feature is NaN."""
    bounded = np.clip(standardised, -BOUND, BOUND)
    both = np.concatenate([bounded, (bounded**2 - 1) / 2], axis=-1)
    return np.asarray(np.nan_to_num(both))


@lru_cache(maxsize=1)
def fitted() -> Fitted:
    """Return what is shipped."""
    stated = json.loads(resources.files(__package__).joinpath(FITTED).read_text(encoding="utf-8"))
    arrays = {name: np.asarray(stated[name], dtype=np.float64) for name in ("mean", "deviation", "weights")}
    return Fitted(
        features=tuple(stated["features"]),
        classes=tuple(stated["classes"]),
        sure=float(stated["sure"]),
        least={name: float(stated["least"][name]) for name in DOMAINS},
        **arrays,
    )


def recognise(array: RealArray, grid: Geometry) -> Recognition | None:
    """Return what a scan is of by its content; None where it has too few voxels to tell.

    Args:
        array: (X, Y, Z) voxels, in their own units.
        grid: Of the scan.
    """
    sides = sorted(array.shape)
    if sides[0] < FEWEST_SLICES or sides[1] < LEAST_SIDE:
        return None
    return Recognition(fitted().shares(scan_features(array, grid)))
