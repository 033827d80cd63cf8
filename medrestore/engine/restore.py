"""The path of one scan: measure it, run the model over it, and say what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from medrestore.engine.cost.budget import Beside, Budget, predict
from medrestore.engine.cost.calibration import is_known, too_small_to_measure
from medrestore.engine.evidence.explained import tried
from medrestore.engine.evidence.intervals import IntervalRequest
from medrestore.engine.evidence.remeasured import remeasured
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.evidence.restoration import Restoration, as_json, check_reference, measure
from medrestore.engine.evidence.verdict import Verdict, verdict
from medrestore.engine.intervals.calibration import find_calibration
from medrestore.engine.machine.memory import peak_bytes, release_memory, resident_bytes
from medrestore.engine.models.checks import (
    assumed_modality,
    check_outputs,
    check_scan,
    computable,
)
from medrestore.engine.models.domain import Admission, admit, settled
from medrestore.engine.models.load import LoadedModel, find_model, load_model
from medrestore.engine.models.recognise import Recognition
from medrestore.engine.run import ModelRun, Observers, Outcome
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.engine.sampling.posterior import (
    sample_count,
)
from medrestore.engine.tasks.measurement import Measurement
from medrestore.engine.tasks.slice_grid import network_shape, target_grid
from medrestore.engine.tasks.table import MEASURE
from medrestore.findings import Finding
from medrestore.geometry import Geometry
from medrestore.options import RestoreOptions, names_a_plugin
from medrestore.plugin import ModelSpec
from medrestore.plugin.host import plugins
from medrestore.provenance import JSON, RunRecord, Source, software_versions
from medrestore.volume import Volume, stated_modality


@dataclass(frozen=True)
class Known:
    """What is known around a scan before it is restored.

    Attributes:
        budget: Memory and tile as they were predicted from its header; None for a scan that is too small for
            that.
        series: Where it is one of a series: it and its neighbours there, in order. Where they differ by noise
            alone, the noise is read in that.
        seen: What its content says that it is of, where that was looked at.
    """

    budget: Budget | None = None
    series: Sequence[Volume] = ()
    seen: Recognition | None = None


def restore(
    volume: Volume,
    options: RestoreOptions | None = None,
    *,
    reference: Volume | None = None,
    model: LoadedModel | None = None,
    observers: Observers | None = None,
    known: Known | None = None,
) -> Restoration:
    """Restore one scan.

    Args:
        volume: The scan, (X, Y, Z), any grid.
        options: What to do; None for the defaults.
        reference: The truth, on the grid of the result, for PSNR and SSIM.
        model: A model already loaded, to use it for many scans; None loads the one that `options` name.
        observers: Who is told while it runs.
        known: What is known around the scan; None where that is nothing.

    Returns:
        The restored volume with its evidence, in the units of the scan and, but for super-resolution, on its
        grid.

    Raises:
        ModelError: No model fits, or it offers no samples and some are asked for.
        DomainError: The scan is outside what the model was made for, or it does not say what it is and its
            content does not tell.
        ConfigError: An option cannot be had on this machine, or does not fit the scan or the model passed.
        InputError: The voxels are so large or so small that computing with them would go beyond float32.
        GeometryError: The reference is not on the grid of the result, or there are no slices to resolve.
    """
    start = time.perf_counter()
    options, observers = options or RestoreOptions(), observers or Observers()
    volume, grid, admission = _checked(computable(volume), options, reference, model, known)
    model = model or load_model(options, volume.modality)
    check_outputs(model.ref, spec := model.spec, options)
    admission = tried(volume, admission, model, force=options.force)
    known = known or Known(predict_budget(volume, grid, options, model, reference))
    measurement = MEASURE[spec.task](volume, spec, options, known.series)
    prepared = time.perf_counter()
    run = ModelRun(model, options, known.budget, observers, _intervals(model, options))
    measurement, more = run.settled(measurement)
    outcome = run.result(measurement)
    detectability, lost = run.detectability(measurement)
    release_memory()
    finished = time.perf_counter()
    modality, baseline = assumed_modality(volume, spec), measurement.baseline
    metrics = measure(baseline, outcome.volume, reference, modality, quality=options.quality)
    judged, evidence = _evidence(measurement, outcome, spec, options)
    measured = time.perf_counter() - finished
    timings = {"prepare": prepared - start, "network": finished - prepared, "measure": measured}
    record = replace(
        _record(volume, model, options, known, admission),
        **evidence,
        timings={"load_model": model.load_seconds, **timings},
        peak_memory_mb=peak_bytes() / 1e6,
        metrics=as_json(metrics),
        detectability=detectability,
        findings=(*admission.findings, *more, *judged.findings, *lost, *outcome.intervals.findings),
    )
    plugins().tell("medrestore_volume_restored", record=record)
    return Restoration(outcome.volume, outcome.maps, metrics, record)


def _checked(
    volume: Volume,
    options: RestoreOptions,
    reference: Volume | None,
    model: LoadedModel | None,
    known: Known | None,
) -> tuple[Volume, Geometry, Admission]:
    """Return the scan as what it is taken for, the grid of the result, and what should be known of that.

    Nothing is loaded.
    """
    assumed, seen = tuple[Finding, ...](), None if known is None else known.seen
    if model is None:
        taken = settled([volume], options)
        (volume,), assumed, seen = taken.volumes, taken.findings, taken.seen
    else:
        model.check_options(options)
    spec = find_model(options, volume.modality)[1] if model is None else model.spec
    grid = target_grid(volume.geometry, spec.task, options)
    stated = check_scan(volume.geometry, stated_modality(volume), spec, grid, options.force)
    if reference is not None:
        check_reference(grid, reference.geometry)
    content = admit(volume, spec, force=options.force, seen=seen)
    return volume, grid, replace(content, findings=assumed + stated + content.findings)


def _intervals(model: LoadedModel, options: RestoreOptions) -> IntervalRequest | None:
    """Return the intervals that are asked for, with the calibration of the model."""
    if options.interval is None:
        return None
    found = find_calibration(model.ref.name, model.spec, options.calibration)
    return IntervalRequest(found, options.interval)


def _evidence(
    measurement: Measurement, outcome: Outcome, spec: ModelSpec, options: RestoreOptions
) -> tuple[Verdict, dict[str, Any]]:
    """Return whether the result agrees with the scan, and what the record says of that, as fields of it."""
    seen = remeasured(measurement, outcome.volume, spec)
    scan = measurement.scan
    residual = residual_evidence(scan.array, seen, measurement.local_sigma(), measurement.units.zero)
    if options.output == "sample":
        judged = Verdict(None, "limits were set for the mean, and this is a sample")
    else:
        taken = replace(measurement, share=measurement.share * options.strength)
        judged = verdict(taken, seen, spec.task, assumed_modality(scan, spec))
    noise = {**measurement.noise.as_json(), "operator": spec.operator, **residual}
    more = {"slices": measurement.evidence(outcome.volume), "intervals": outcome.intervals.entry}
    return judged, {"noise": noise, "verdict": judged.as_json(), **more}


def predict_budget(
    volume: Volume, grid: Geometry, options: RestoreOptions, model: LoadedModel, reference: Volume | None
) -> Budget | None:
    """Predict what a scan will take; None where it is smaller than what would have to be measured first."""
    small = too_small_to_measure(math.prod(grid.shape), options)
    if small and not is_known(options, volume.modality, model):
        return None
    held = resident_bytes() - volume.array.nbytes
    shape = network_shape(volume.geometry, grid, model.spec, options)
    return predict(shape, options, model=model, beside=Beside(reference is not None, held))


def _record(
    volume: Volume, model: LoadedModel, options: RestoreOptions, known: Known, admission: Admission
) -> RunRecord:
    """Return what can be said of a run before its result is there."""
    return RunRecord(
        medrestore=metadata.version("medrestore"),
        versions={**software_versions(), **plugins().versions(_plugins_used(model, options))},
        model=model.ref,
        input=volume.source or Source("", "array"),
        settings={**asdict(options), **resolved_settings(model, options)},
        seed=options.seed if sample_count(options) else None,
        predicted={} if known.budget is None else known.budget.as_json(),
        domain=admission.facts,
    )


def _plugins_used(model: LoadedModel, options: RestoreOptions) -> set[str]:
    """Return the names of the plugins that a result is made with."""
    sampler = options.sampler if sample_count(options) else None
    names = (model.ref.name, model.ref.network, model.spec.operator, sampler, options.noise)
    return {str(name).partition("/")[0] for name in names if names_a_plugin(name)}


def resolved_settings(model: LoadedModel, options: RestoreOptions) -> dict[str, JSON]:
    """Return what the options leave to the model or the machine, as it was decided."""
    return {"device": model.device, "dtype": model.dtype, "ensemble": ensemble_size(options, model.spec)}
