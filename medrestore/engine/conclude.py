"""The end of a restoration: the evidence for a result, and the record of how it was made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any

from medrestore.engine.cost.budget import Budget
from medrestore.engine.evidence.remeasured import remeasured
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.evidence.restoration import Restoration, as_json, measure
from medrestore.engine.evidence.verdict import Verdict, verdict
from medrestore.engine.machine.memory import peak_bytes
from medrestore.engine.models.checks import assumed_modality
from medrestore.engine.models.domain import Admission
from medrestore.engine.models.load import LoadedModel
from medrestore.engine.run import Outcome, at_strength
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.engine.sampling.posterior import sample_count
from medrestore.engine.tasks.measurement import Measurement
from medrestore.findings import Finding
from medrestore.options import RestoreOptions, names_a_plugin
from medrestore.plugin import ModelSpec
from medrestore.plugin.host import plugins
from medrestore.provenance import JSON, RunRecord, Source, software_versions
from medrestore.volume import Volume


@dataclass(frozen=True)
class Run:
    """How a volume was restored.

    Attributes:
        model: By what.
        options: As it was asked for.
        budget: As it was foreseen; None where it was not.
        admission: What the scan was taken for.
        timings: Seconds by phase, until the result was there.
        findings: Of the measurement.
        detectability: See `RunRecord`.
        lost: Findings about that.
    """

    model: LoadedModel
    options: RestoreOptions
    budget: Budget | None
    admission: Admission
    timings: Mapping[str, float]
    findings: tuple[Finding, ...] = ()
    detectability: Mapping[str, JSON] = field(default_factory=dict)
    lost: tuple[Finding, ...] = ()


def conclude(measurement: Measurement, outcome: Outcome, run: Run, reference: Volume | None) -> Restoration:
    """Measure a result and make its record; plugins that observe are told.

    Args:
        measurement: What the scan measured.
        outcome: What the model made of it.
        run: How.
        reference: The truth, on the grid of the result; None for none.
    """
    start, scan, spec, options = time.perf_counter(), measurement.scan, run.model.spec, run.options
    modality = assumed_modality(scan, spec)
    metrics = measure(measurement.baseline, outcome.volume, reference, modality, quality=options.quality)
    judged, evidence = _evidence(measurement, outcome, spec, options)
    record = replace(
        _record(scan, run),
        **evidence,
        timings={
            "load_model": run.model.load_seconds,
            **run.timings,
            "measure": time.perf_counter() - start,
        },
        peak_memory_mb=peak_bytes() / 1e6,
        metrics=as_json(metrics),
        detectability=run.detectability,
        findings=(
            *run.admission.findings,
            *run.findings,
            *judged.findings,
            *run.lost,
            *outcome.intervals.findings,
        ),
    )
    plugins().tell("medrestore_volume_restored", record=record)
    return Restoration(outcome.volume, outcome.maps, metrics, record)


def _evidence(
    measurement: Measurement, outcome: Outcome, spec: ModelSpec, options: RestoreOptions
) -> tuple[Verdict, dict[str, Any]]:
    """Return whether the result agrees with the scan, and what the record says of that, as fields of it."""
    seen = remeasured(measurement, outcome.volume, spec)
    scan = measurement.scan
    residual = residual_evidence(scan.array, seen, measurement.local_sigma(), measurement.units.zero)
    if options.output == "sample":
        judged = Verdict(None, "limits were set for the mean, and this is a sample")
    elif options.strength == 0:
        judged = Verdict(None, "no noise was taken out")
    else:
        if options.strength < 1:  # limits were set for the whole of what a model does
            whole, _ = at_strength(measurement.baseline, outcome.volume, {}, 1 / options.strength)
            seen = remeasured(measurement, whole, spec)
        judged = verdict(measurement, seen, spec.task, assumed_modality(scan, spec))
    noise = {**measurement.noise.as_json(), "operator": spec.operator, **residual}
    more = {"slices": measurement.evidence(outcome.volume), "intervals": outcome.intervals.entry}
    return judged, {"noise": noise, "verdict": judged.as_json(), **more}


def _record(scan: Volume, run: Run) -> RunRecord:
    """Return what can be said of a run before its result is there."""
    model, options = run.model, run.options
    return RunRecord(
        medrestore=metadata.version("medrestore"),
        versions={**software_versions(), **plugins().versions(_plugins_used(model, options))},
        model=model.ref,
        input=scan.source or Source("", "array"),
        settings={**asdict(options), **resolved_settings(model, options)},
        seed=options.seed if sample_count(options) else None,
        predicted={} if run.budget is None else run.budget.as_json(),
        domain=run.admission.facts,
    )


def _plugins_used(model: LoadedModel, options: RestoreOptions) -> set[str]:
    """Return the names of the plugins that a result is made with."""
    sampler = options.sampler if sample_count(options) else None
    names = (
        *(model.ref.name, model.ref.network, model.spec.operator, model.spec.denoise_with),
        *(sampler, options.noise),
    )
    return {str(name).partition("/")[0] for name in names if names_a_plugin(name)}


def resolved_settings(model: LoadedModel, options: RestoreOptions) -> dict[str, JSON]:
    """Return what the options leave to the model or the machine, as it was decided."""
    found: dict[str, JSON] = {
        "device": model.device,
        "dtype": model.dtype,
        "ensemble": ensemble_size(options, model.spec),
    }
    if model.cleaner is not None:  # its weights decide the voxels, as those of the model do
        found["denoise_with"] = {"name": model.cleaner.ref.name, "sha256": model.cleaner.ref.sha256}
    return found
