"""What a scan is of, told by its content alone: MR of a head, CT, or neither."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import safe_open

from medrestore.engine.models.features import scan_features
from medrestore.geometry import Geometry
from medrestore.plugin.spec import DOMAINS
from medrestore.types import Float64Array, IntArray, RealArray

FITTED = "recognition.safetensors"
"""What `benchmarks.evidence.recognition` made: which features count how much, and from which scans it is."""

NEITHER = "neither"
"""The class of what is of no domain."""

NAMES = {"mr-head": "MR of a head", "ct": "CT", NEITHER: "neither"}
"""What a person calls the classes."""

LEAST_SIDE, FEWEST_SLICES = 48, 12
"""Voxels that two axes need, and the third: less holds no statistics of a scan, and nothing is said."""


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


@dataclass(frozen=True, eq=False)
class Fitted:
    """Extremely randomized trees (Geurts et al. 2006): what a size tells depends on what is of that size.

    Attributes:
        features: Names of the F features.
        missing: (F,) what stands for a feature that a scan does not show.
        roots: (T,) index of the first node of each tree.
        feature: (N,) index of the feature that a node asks for; -1 where it is a leaf.
        threshold: (N,) up to which a scan goes on at the next node, and else at that of `beyond`.
        beyond: (N,) index of that node.
        shares: (N, classes) of the scans that came to a leaf, by class.
        classes: Names of the classes.
        sure: Least certainty of a domain for a scan that does not say what it is.
        least: For each domain, the probability of it below which a scan is refused.
    """

    features: tuple[str, ...]
    missing: Float64Array
    roots: IntArray
    feature: IntArray
    threshold: Float64Array
    beyond: IntArray
    shares: Float64Array
    classes: tuple[str, ...]
    sure: float
    least: Mapping[str, float]

    def of(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return the probability of each class for the features of a scan: the mean of all trees."""
        values = np.array([found.get(name, math.nan) for name in self.features])
        values = np.where(np.isnan(values), self.missing, values)
        nodes = self.roots
        while (asking := self.feature[nodes] >= 0).any():
            near = values[self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(asking, np.where(near, nodes + 1, self.beyond[nodes]), nodes)
        shares = self.shares[nodes].mean(axis=0, dtype=np.float64)
        return dict(zip(self.classes, (shares / shares.sum()).tolist(), strict=True))


@lru_cache(maxsize=1)
def fitted() -> Fitted:
    """Return what is shipped."""
    with safe_open(Path(__file__).with_name(FITTED), framework="numpy") as file:
        stated = json.loads(file.metadata()["fitted"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
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
    return Recognition(fitted().of(scan_features(array, grid)))
