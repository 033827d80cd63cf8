"""Intervals beside a result: their volumes, what a record says of them, whether they hold for this scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from medrestore.engine.intervals.calibration import IntervalCalibration, Ranges, normal_quantile
from medrestore.engine.intervals.predict import Widths
from medrestore.engine.tasks.measurement import Measurement
from medrestore.findings import INTERVALS_NOT_CALIBRATED, Finding
from medrestore.metrics import measured, reference_range
from medrestore.provenance import JSON, Step
from medrestore.types import Modality, RealArray
from medrestore.volume import Volume

SLACK = {"noise": (0.9, 1.1), "spacing_mm": (0.8, 1.25), "correlation": (0.0, 1.15), "factor": (0.85, 1.1)}
"""How far below and above the scans of a calibration a scan is still taken for one of them."""

_WORDS = {
    "noise": ("noise", "of the bright level"),
    "spacing_mm": ("voxels", "mm"),
    "correlation": ("noise correlated between neighbours by", ""),
    "factor": ("slices", "voxels apart"),
}


@dataclass(frozen=True)
class IntervalRequest:
    """Intervals that are asked for.

    Attributes:
        calibration: Of the model that runs.
        level: Share of the voxels whose truth is to lie inside.
    """

    calibration: IntervalCalibration
    level: float


def scan_facts(measurement: Measurement, result: Volume) -> Ranges:
    """Return what a scan is like, in the terms of a calibration."""
    noise, sides = measurement.noise, [size for size in result.spacing if size > 0]
    colour = 0.0 if noise.measured is None else max(*noise.measured.correlations, 0.0)
    factor = measurement.factor
    return Ranges(
        noise=(float(noise.fraction),) * 2,
        spacing_mm=(float(min(sides)), float(max(sides))),
        correlation=(float(colour),) * 2,
        factor=(factor, factor),
    )


def interval_maps(
    measurement: Measurement, result: Volume, level: float, widths: Widths | None, step: Step
) -> dict[str, Volume]:
    """Return both ends of the intervals, in the units of the scan and on the grid of the result.

    What of the noise was left in, all of it where no model ran, is added as noise.

    Args:
        measurement: What was measured.
        result: The posterior mean.
        level: Share of the voxels whose truth lies inside.
        widths: Of the intervals; None where no model ran.
        step: That made the result, for the history.
    """
    left = measurement.local_sigma() if widths is None else (1 - measurement.share) * _noise(measurement)
    further = float(normal_quantile(np.array(level))) * left
    ends = {"lower": (-1, None if widths is None else widths.below)}
    ends["upper"] = (1, None if widths is None else widths.above)
    found = {}
    for name, (sign, width) in ends.items():
        made = Step(f"restore:{name}", {**step.params, "interval": level})
        away = 0.0 if width is None else measurement.std_volume(width, made).array
        values = np.asarray(result.array + sign * (away + further), dtype=np.float32)
        if measurement.unmeasured is not None:
            values[measurement.unmeasured] = result.array[measurement.unmeasured]
        found[name] = result.with_array(np.maximum(values, 0) if measurement.nonnegative else values, made)
    return found


def _noise(measurement: Measurement) -> RealArray | float:
    return measurement.local_sigma() if measurement.share < 1 else 0.0


@dataclass(frozen=True)
class IntervalEvidence:
    """What a record says of intervals.

    Attributes:
        entry: Their level, the calibration, the bound for the whole result; empty where none are asked for.
        findings: Whether they hold for the scan.
    """

    entry: Mapping[str, JSON] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def interval_evidence(
    request: IntervalRequest,
    measurement: Measurement,
    result: Volume,
    widths: Widths | None,
    ensemble: int,
    modality: Modality,
) -> IntervalEvidence:
    """Return what the record of a result says of its intervals.

    Args:
        request: What was asked for.
        measurement: What was measured.
        result: The posterior mean.
        widths: Of the intervals; None where no model ran.
        ensemble: Over how many estimates the mean was taken.
        modality: What the model takes the scan for.
    """
    calibration = request.calibration
    about: dict[str, JSON] = {
        "sha256": calibration.digest,
        "made": calibration.made,
        "population": asdict(calibration.population),
        "ranges": asdict(calibration.ranges),
    }
    data_range = reference_range(measured(result.array, modality))
    bound = None if widths is None else _bound(request, measurement, widths, data_range)
    entry: dict[str, JSON] = {"level": request.level, "calibration": about, "bound": bound}
    entry["widened"] = measurement.noise.in_doubt and calibration.in_doubt is not None
    return IntervalEvidence(
        entry, _findings(calibration, measurement, scan_facts(measurement, result), ensemble)
    )


def _bound(
    request: IntervalRequest, measurement: Measurement, widths: Widths, data_range: float
) -> dict[str, JSON] | None:
    if data_range <= 0 or not widths.squares.size:
        return None
    expected = widths.expected(data_range / measurement.units.one)
    bound, level = request.calibration.bound_of(in_doubt=measurement.noise.in_doubt), request.level
    return {
        "psnr": bound.least_psnr(expected, level),
        "ssim": max(bound.least_ssim(expected, level), 0.0),
        "level": level,
        "subjects": bound.psnr.subjects,
        "definition": (
            "what PSNR (dB) and SSIM of the mean against the truth, inside its head and with its own data "
            f"range, reach or exceed with a probability of {level:.0%}: foretold from the errors expected of "
            f"the voxels and the data range {data_range:g} of the result; Student's t over the subjects"
        ),
    }


def _findings(
    found: IntervalCalibration, measurement: Measurement, facts: Ranges, ensemble: int
) -> tuple[Finding, ...]:
    """Warn of a scan unlike those that the calibration was made on."""
    outside = _outside(facts, found.ranges)
    if ensemble < found.ensemble:
        outside["ensemble"] = f"a mean over {ensemble} estimates, calibrated were {found.ensemble}"
    if measurement.noise.in_doubt and found.in_doubt is None:
        outside["certainty"] = "the level of its noise, which they rest on, is unsure"
    if measurement.uncleaned:
        outside["slices"] = "its slices were resolved with their noise: more of the truth lies outside"
    if measurement.skip_reason is not None:
        outside["share"] = "no model ran, and the intervals are those of the noise"
    elif measurement.share < 1:
        outside["share"] = f"{measurement.share:.0%} of the noise was taken out, calibrated was all of it"
    if not outside:
        return ()
    text = f"the intervals were not calibrated for such a scan: {'; '.join(outside.values())}"
    return (INTERVALS_NOT_CALIBRATED.found(text, outside=sorted(outside)),)


def _outside(facts: Ranges, known: Ranges) -> dict[str, str]:
    """Return, in words, in what a scan is beyond the scans of a calibration."""
    found = {}
    ends: Mapping[str, tuple[float, float]] = asdict(known)
    for name, (least, most) in asdict(facts).items():
        (below, above), (low, high) = SLACK[name], ends[name]
        if least < low * below or most > high * above:
            what, unit = _WORDS[name]
            here = f"{least:.3g}" if least == most else f"{least:.3g} to {most:.3g}"
            found[name] = f"{what} {here} {unit}".rstrip() + f", calibrated were {low:.3g} to {high:.3g}"
    return found
