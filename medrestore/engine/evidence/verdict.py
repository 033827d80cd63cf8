"""The verdict: whether a result agrees with the scan that it was made of, as far as the scan can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from medrestore.engine.evidence.consistency import LEAST_TISSUE, Consistency, ExpectedNoise, consistency
from medrestore.engine.tasks.measurement import Measurement
from medrestore.findings import VERDICT_FAIL, VERDICT_WARN, Finding
from medrestore.plain import JSON
from medrestore.toml import read_toml
from medrestore.types import Judgement, Modality, RealArray, Task

LIMITS = Path(__file__).with_name("limits.toml")
"""Made by `python -m benchmarks.evidence.verdict --limits`, from results that are good."""

CAUSES = {
    "deviation": "another amount was taken out than a model takes of such noise",
    "balance": "what was taken out and what stays beside detail do not add up to the noise",
    "mean": "the result is brighter or darker than the scan",
    "colour": "what was taken out has another colour than the noise",
    "edges": "edges went with the noise",
    "detail": "the result is smoother or sharper than the scan",
    "intensity": "the contrast of the result is not that of the scan",
    "displacement": "the result lies beside the scan",
    "drift": "regions of the result are brighter or darker than in the scan",
    "excursion": "something was added to the scan, or taken from it, at one place",
    "step": "the result is brighter or darker from one plane on",
    "stripes": "every other plane of the result is brighter",
    "unevenness": "more was taken out in one region than in another",
}
"""What a statistic outside its limits tells, by its name."""

LIKE = {f"{Modality.CT} {Task.SUPERRES}": (f"{Modality.MR} {Task.SUPERRES}", f"{Modality.CT} {Task.DENOISE}")}
"""What is judged by limits that other results set: slices that were cleaned first, or have no noise.

The limits of unevenness are those of the second: how uneven noise is depends on the modality."""

CANNOT_TELL = {
    Task.DENOISE: "consistency cannot exclude what is weaker than the noise",
    Task.SUPERRES: "consistency cannot exclude invention that no slice shows, which --save-map null writes",
}


@dataclass(frozen=True)
class Range:
    """Values of a statistic that good results have: all but few, and next to all."""

    warn: tuple[float, float]
    fail: tuple[float, float]

    def judged(self, value: float) -> Judgement:
        """Return what a value says."""
        if not self.fail[0] <= value <= self.fail[1]:
            return Judgement.FAIL
        return Judgement.PASS if self.warn[0] <= value <= self.warn[1] else Judgement.WARN


MOST_CAUSES = 3
"""Causes that a finding puts into words."""

Limits = Mapping[str, Range]


@dataclass(frozen=True)
class Verdict:
    """What is said of a result.

    Attributes:
        judgement: None where none is given.
        reason: Why none is given; empty where one is.
        measured: What it rests on; None where nothing was measured.
        limits: Of each statistic.
        causes: Names of the statistics that made it what it is, the farthest outside first.
        cannot_tell: What no verdict of the kind can exclude.
    """

    judgement: Judgement | None
    reason: str = ""
    measured: Consistency | None = None
    limits: Limits = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    cannot_tell: str = ""

    def as_json(self) -> dict[str, JSON]:
        """Return what a record keeps."""
        found: dict[str, JSON] = {"verdict": self.judgement and str(self.judgement)}
        if self.measured is None or self.judgement is None:
            return {**found, "reason": self.reason}
        place = self.measured.place
        return {
            **found,
            "causes": list(self.causes),
            "statistics": dict(self.measured.statistics),
            "limits": {
                name: {"warn": list(one.warn), "fail": list(one.fail)} for name, one in self.limits.items()
            },
            "voxels": self.measured.voxels,
            "excursion_at": None if place is None else list(place),
            "cannot_tell": self.cannot_tell,
        }

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What a reader of the result should know of it."""
        if self.judgement in {None, Judgement.PASS} or self.measured is None:
            return ()
        told = "; ".join(self._told(name, self.measured) for name in self.causes[:MOST_CAUSES])
        text = f"verdict {self.judgement}, the result does not agree with the scan: {told}"
        data = {name: self.measured.statistics[name] for name in self.causes}
        if self.judgement is Judgement.FAIL:
            return (VERDICT_FAIL.found(text, **data),)
        return (VERDICT_WARN.found(text, **data),)

    def _told(self, name: str, measured: Consistency) -> str:
        low, high = self.limits[name].warn
        place = f" around voxel {measured.place}" if name == "excursion" else ""
        value = measured.statistics[name]
        return f"{CAUSES[name]}{place} ({name} {value:.3g}, good results have {low:.3g} to {high:.3g})"


@lru_cache(maxsize=1)
def known_limits() -> Mapping[str, Limits]:
    """Return the limits by modality and task, such as ``"MR denoise"``, as they are shipped."""
    return {
        kind: {name: Range(tuple(one["warn"]), tuple(one["fail"])) for name, one in table["limits"].items()}
        for kind, table in read_toml(LIMITS).items()
    }


def limits_of(kind: str) -> Limits | None:
    """Return the limits for a modality and task, such as ``"CT superres"``; None where there are none."""
    known = known_limits()
    if kind not in LIKE or not known:
        return known.get(kind)
    slices, modality = LIKE[kind]
    return {**known[slices], "unevenness": known[modality]["unevenness"]}


def judge(measured: Consistency, limits: Limits) -> tuple[Judgement, tuple[str, ...]]:
    """Return what statistics say, and the names of those that say it, the farthest outside first."""
    said = {
        name: limits[name].judged(value)
        for name, value in measured.statistics.items()
        if value is not None and name in limits
    }
    worst = max(said.values(), key=list(Judgement).index, default=Judgement.PASS)
    if worst is Judgement.PASS:
        return worst, ()

    def excess(name: str) -> float:
        value, (low, high) = measured.statistics[name], limits[name].warn
        assert value is not None
        return max(value - high, low - value) / max(high - low, 1e-12)

    return worst, tuple(sorted((name for name in said if said[name] is worst), key=excess, reverse=True))


def verdict(measurement: Measurement, seen: RealArray, task: Task, modality: Modality) -> Verdict:
    """Judge the mean that a model made of a scan.

    Args:
        measurement: What was measured, and how noisy it was.
        seen: (X, Y, Z) what would have been measured of the result.
        task: Of the model.
        modality: Of the scan.
    """
    kind = f"{modality} {task}"
    limits = limits_of(kind)
    sigma = measurement.expected_sigma()
    if measurement.skip_reason is not None or measurement.share == 0 or not np.min(sigma) > 0:
        return Verdict(None, "no noise was taken out")
    if limits is None:
        return Verdict(None, f"no limits were set for {task} of {modality}")
    noisy = measurement.noise.sigma > 0 and measurement.facts.get("denoised_with") is None
    if measurement.uncleaned or (kind in LIKE and noisy):
        return Verdict(None, "no limits were set for slices that are resolved with their noise")
    expected = ExpectedNoise(
        sigma,
        measurement.units.zero,
        measurement.share,
        measurement.noise.neighbour_correlations,
    )
    measured = consistency(measurement.scan.array, seen, expected)
    if not measured.statistics:
        return Verdict(
            None, f"{measured.voxels} voxels of tissue are too few, {LEAST_TISSUE} are needed", measured
        )
    judgement, causes = judge(measured, limits)
    return Verdict(judgement, "", measured, limits, causes, CANNOT_TELL[task])
