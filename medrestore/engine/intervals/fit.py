"""A calibration made of restored scans whose truth is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

from medrestore.engine.intervals.bound import Bound, Expected, deviations, psnr_departure, ssim_departure
from medrestore.engine.intervals.calibration import (
    LEVELS,
    InDoubt,
    IntervalCalibration,
    Population,
    Quantiles,
    Ranges,
)
from medrestore.engine.intervals.conformal import FEWEST, Partition, Scores, two_sided
from medrestore.engine.intervals.features import LOCAL
from medrestore.engine.intervals.scale import ErrorScale, fit_scale
from medrestore.errors import ConfigError
from medrestore.types import Float64Array, FloatArray

MOST = 600_000
"""Voxels that the expected size is fitted to."""

SIZES, BRIGHTNESSES = (0.25, 0.5, 0.75), (0.2, 0.5)
"""Shares of the voxels below the edges of the groups."""

_BRIGHTNESS = LOCAL.index("brightness")


@dataclass(frozen=True, eq=False)
class RestoredScan:
    """Voxels of one restored scan, drawn from its head, with their truth.

    Attributes:
        subject: Whose scan it is.
        features: (features, N) clues.
        noise: (N,) noise there, in model units.
        errors: (N,) truth minus result, in model units.
        texture: (N,) local variance of the result, in model units.
        data_range: Maximum minus minimum of the result, in model units.
        psnr: Of the whole result, inside the head of the truth, with the data range of the truth, in dB.
        ssim: The same of SSIM; None where the scan is too thin for it.
        facts: Noise, voxel sizes, correlation and factor, as `Ranges` has them.
        in_doubt: Whether the level of its noise was (`NoiseLevel.in_doubt`).
    """

    subject: str
    features: FloatArray
    noise: FloatArray
    errors: FloatArray
    texture: FloatArray
    data_range: float
    psnr: float
    ssim: float | None
    facts: Ranges
    in_doubt: bool = False

    def expected(self, scale: ErrorScale, rms: float) -> Expected:
        """Return what the scale lets expect of it."""
        size = np.exp(scale(self.features)) * self.noise
        return Expected(np.square(np.float32(rms) * size), self.texture, self.data_range)


@dataclass(frozen=True)
class CalibratedModel:
    """What a calibration says of the model that it is of.

    Attributes:
        model: Its name.
        sha256: Hash of its weights; empty where it has none.
        ensemble: Over how many estimates the mean was taken.
        noise: What noise the scans had, in words.
        note: What else should be known.
    """

    model: str
    sha256: str
    ensemble: int
    noise: str
    note: str = ""


def fit_calibration(
    tuning: Sequence[RestoredScan], held_out: Sequence[RestoredScan], what: CalibratedModel
) -> IntervalCalibration:
    """Fit the expected size to some subjects, and take the quantiles from others.

    Args:
        tuning: Scans that the size of errors is learnt from.
        held_out: Scans of other subjects, which the model has not seen.
        what: The model.

    Raises:
        ConfigError: A subject is among both, or fewer than `FEWEST` are held out.
    """
    subjects = _by_subject(held_out)
    seen = {one.subject for one in tuning}
    if shared := seen & subjects.keys():
        raise ConfigError(f"{len(shared)} subjects are tuned on and held out; expected none")
    if len(subjects) < FEWEST or not seen:
        raise ConfigError(
            f"{len(subjects)} subjects are held out and {len(seen)} tuned on; expected {FEWEST} and one, or "
            "more"
        )
    scale = _rounded(_fitted(tuning))
    known, doubted = _parted(held_out)
    quantiles = _quantiles(scale, tuning, list(known.values()))
    return IntervalCalibration(
        model=what.model,
        sha256=what.sha256,
        ensemble=what.ensemble,
        made=datetime.now(UTC).date().isoformat(),
        medrestore=metadata.version("medrestore"),
        population=Population(len(subjects), len(held_out), len(seen), what.noise, what.note),
        ranges=_ranges([one.facts for one in held_out]),
        scale=scale,
        quantiles=quantiles,
        bound=_bound(scale, quantiles.rms, list(known.values())),
        in_doubt=_in_doubt(scale, quantiles, list(doubted.values())) if doubted else None,
    )


def as_table(calibration: IntervalCalibration) -> dict[str, Any]:
    """Return a calibration as `calibration.toml` has it."""
    return {name: value for name, value in asdict(calibration).items() if value is not None}


def _by_subject(scans: Iterable[RestoredScan]) -> dict[str, list[RestoredScan]]:
    found: dict[str, list[RestoredScan]] = defaultdict(list)
    for one in scans:
        found[one.subject].append(one)
    return dict(found)


def _parted(
    scans: Sequence[RestoredScan],
) -> tuple[dict[str, list[RestoredScan]], dict[str, list[RestoredScan]]]:
    """Return scans of known and of doubted level, by subject; all and none, where either are few."""
    known = _by_subject(one for one in scans if not one.in_doubt)
    doubted = _by_subject(one for one in scans if one.in_doubt)
    return (known, doubted) if min(len(known), len(doubted)) >= FEWEST else (_by_subject(scans), {})


def _fitted(scans: Sequence[RestoredScan]) -> ErrorScale:
    each = max(MOST // len(scans), 1)
    parts = [slice(None, None, max(one.errors.size // each, 1)) for one in scans]
    features = np.concatenate([one.features[:, part] for one, part in zip(scans, parts, strict=True)], axis=1)
    sizes = [np.abs(one.errors[part]) / one.noise[part] for one, part in zip(scans, parts, strict=True)]
    return fit_scale(features, np.concatenate(sizes), len(scans))


def _quantiles(
    scale: ErrorScale, tuning: Sequence[RestoredScan], subjects: Sequence[Sequence[RestoredScan]]
) -> Quantiles:
    size = np.concatenate([scale(one.features) for one in tuning])
    brightness = np.concatenate([one.features[_BRIGHTNESS] for one in tuning])
    groups = Partition(_edges(size, SIZES), _edges(brightness, BRIGHTNESSES))
    scores = [_scores(scale, groups, scans) for scans in subjects]
    found = two_sided(scores, LEVELS, groups.count)
    mean = np.mean([np.sum(one.weights * np.square(one.values)) for one in scores])
    lower, upper = (tuple(_short(table[side]) for table in found) for side in (0, 1))
    return Quantiles(groups, _short([float(mean) ** 0.5])[0], lower, upper)


def _scores(scale: ErrorScale, groups: Partition, scans: Sequence[RestoredScan]) -> Scores:
    """Return the errors of a subject, of whom each scan counts alike."""
    sizes = [scale(one.features) for one in scans]
    values = [one.errors / (np.exp(size) * one.noise) for one, size in zip(scans, sizes, strict=True)]
    found = [groups(size, one.features[_BRIGHTNESS]) for one, size in zip(scans, sizes, strict=True)]
    weights = [np.full(one.errors.size, 1 / (len(scans) * one.errors.size)) for one in scans]
    return Scores(np.concatenate(values), np.concatenate(found), np.concatenate(weights))


def _in_doubt(
    scale: ErrorScale, quantiles: Quantiles, subjects: Sequence[Sequence[RestoredScan]]
) -> InDoubt | None:
    """Return by how much wider the intervals of such scans are: the same statistics, of errors over these."""
    try:
        bound = _bound(scale, quantiles.rms, subjects)
    except ConfigError:  # too few are thick enough
        return None
    scores, below, above = [_scores(scale, quantiles.groups, scans) for scans in subjects], [], []
    for level in LEVELS:
        ends = np.abs(quantiles.at(level))
        over = [_over(one, ends) for one in scores]
        ((low,), (high,)) = two_sided(over, [level], 1)[0]
        below.append(max(-low, 1.0))
        above.append(max(high, 1.0))
    scans = sum(map(len, subjects))
    return InDoubt(len(subjects), scans, _short(below), _short(above), bound)


def _over(scores: Scores, ends: Float64Array) -> Scores:
    """Return errors over the end of the interval on their side, all of one group."""
    lower, upper = ends[:, scores.groups]
    values = scores.values / np.where(scores.values < 0, lower, upper)
    return Scores(np.asarray(values, np.float32), 0 * scores.groups, scores.weights)


def _bound(scale: ErrorScale, rms: float, subjects: Sequence[Sequence[RestoredScan]]) -> Bound:
    psnr = [[psnr_departure(one.psnr, one.expected(scale, rms)) for one in scans] for scans in subjects]
    ssim = [
        [ssim_departure(one.ssim, one.expected(scale, rms)) for one in scans if one.ssim is not None]
        for scans in subjects
    ]
    known = [found for found in ssim if found]
    if len(known) < FEWEST:
        raise ConfigError(
            f"{len(known)} subjects have scans of 11 voxels along each axis, which SSIM takes; expected "
            f"{FEWEST} or more"
        )
    return Bound(deviations(psnr), deviations(known))


def _ranges(facts: Sequence[Ranges]) -> Ranges:
    names = ("noise", "spacing_mm", "correlation", "factor")
    ends = {name: [getattr(one, name) for one in facts] for name in names}
    least = {name: min(low for low, _ in pairs) for name, pairs in ends.items()}
    most = {name: max(high for _, high in pairs) for name, pairs in ends.items()}
    return Ranges(**{name: (round(least[name], 4), round(most[name], 4)) for name in names})


def _edges(values: FloatArray, shares: tuple[float, ...]) -> tuple[float, ...]:
    return _short(np.quantile(values, shares))


def _rounded(scale: ErrorScale) -> ErrorScale:
    """Return a scale with as many digits as a file keeps."""
    low, high = _short(scale.ends)
    return ErrorScale(_short(scale.means), _short(scale.deviations), _short(scale.weights), (low, high))


def _short(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)
