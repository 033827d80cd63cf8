"""The path of one scan: measure it, run the model over it, and say what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

from torch import Tensor

from medrestore.diffusion import Denoiser, SamplerStep
from medrestore.engine.cost.budget import Beside, Budget, least_tile, predict
from medrestore.engine.cost.calibration import CALIBRATION_SIDE, is_known
from medrestore.engine.evidence.remeasured import remeasured
from medrestore.engine.evidence.residual import residual_evidence
from medrestore.engine.evidence.restoration import Restoration, as_json, check_reference, measure
from medrestore.engine.machine.memory import peak_bytes, release_memory, resident_bytes
from medrestore.engine.models.checks import (
    assumed_modality,
    check_noise,
    check_outputs,
    check_scan,
    check_zero,
    computable,
)
from medrestore.engine.models.load import LoadedModel, find_model, load_model
from medrestore.engine.sampling.ensemble import VIEWS, View, ensemble_size
from medrestore.engine.sampling.posterior import (
    evaluations,
    posterior_mean,
    posterior_sample,
    sample_count,
    sample_statistics,
    sampling_levels,
)
from medrestore.engine.sampling.tiled_denoiser import StreamedDenoiser, TiledDenoiser
from medrestore.engine.tasks.measurement import Measurement
from medrestore.engine.tasks.slice_grid import network_shape, target_grid
from medrestore.engine.tasks.table import MEASURE
from medrestore.findings import Finding
from medrestore.geometry import Geometry
from medrestore.options import RestoreOptions, names_a_plugin
from medrestore.plugin import ModelSpec
from medrestore.plugin.host import plugins
from medrestore.provenance import JSON, RunRecord, Source, Step, software_versions
from medrestore.volume import Volume, stated_modality

OnProgress = Callable[[int, int], None]
OnStep = Callable[["TrajectoryPoint"], None]


@dataclass(frozen=True)
class TrajectoryPoint:
    """One step of the reverse process, in the units of the scan.

    Attributes:
        sample: Number of the sample, from 0.
        index: Number of the step, from 0.
        sigma: Level of the state before the step, in the units of the scan.
        state: The state after the step.
        estimate: The clean volume as estimated at the step.
    """

    sample: int
    index: int
    sigma: float
    state: Volume
    estimate: Volume


@dataclass(frozen=True)
class Known:
    """What is known around a scan before it is restored.

    Attributes:
        budget: Memory and tile as they were predicted from its header; None for a scan that is too small for
            that.
        series: Where it is one of a series: it and its neighbours there, in order. Where they differ by noise
            alone, the noise is read in that.
    """

    budget: Budget | None = None
    series: Sequence[Volume] = ()


@dataclass(frozen=True)
class Observers:
    """Who is told while a restoration runs.

    Attributes:
        progress: Called with voxels done and voxels in all, over all evaluations of the network.
        step: Called after every step of a sampler.
    """

    progress: OnProgress | None = None
    step: OnStep | None = None


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
        ModelError: No model fits, it offers no samples and some are asked for, or the scan is outside what
            the model was made for.
        ConfigError: An option cannot be had on this machine, or does not fit the scan or the model passed.
        InputError: The voxels are so large or so small that computing with them would go beyond float32.
        GeometryError: The reference is not on the grid of the result, or there are no slices to resolve.
    """
    start = time.perf_counter()
    options, observers = options or RestoreOptions(), observers or Observers()
    volume = computable(volume)
    if model is not None:
        model.check_options(options)
    spec = find_model(options, volume.modality)[1] if model is None else model.spec
    grid = target_grid(volume.geometry, spec.task, options)
    findings = check_scan(volume.geometry, stated_modality(volume), spec, grid, options.force)
    if reference is not None:
        check_reference(grid, reference)
    model = model or load_model(options, volume.modality)
    check_outputs(model.ref, spec, options)
    known = known or Known(predict_budget(volume, grid, options, model, reference))
    measurement = MEASURE[spec.task](volume, spec, options, known.series)
    prepared = time.perf_counter()
    run = _Run(model, options, known.budget, observers)
    measurement, more = run.settled(measurement)
    restored, std = run.result(measurement)
    release_memory()
    finished = time.perf_counter()
    metrics = measure(measurement.baseline, restored, reference, assumed_modality(volume, spec))
    evidence = _evidence(measurement, restored, spec)
    timings = {
        "load_model": model.load_seconds,
        "prepare": prepared - start,
        "network": finished - prepared,
        "measure": time.perf_counter() - finished,
    }
    record = replace(
        _record(volume, model, options),
        **evidence,
        timings=timings,
        peak_memory_mb=peak_bytes() / 1e6,
        predicted={} if known.budget is None else known.budget.as_json(),
        metrics=as_json(metrics),
        findings=(*findings, *more),
    )
    plugins().tell("medrestore_volume_restored", record=record)
    return Restoration(restored, std, metrics, record)


def _evidence(measurement: Measurement, restored: Volume, spec: ModelSpec) -> dict[str, Any]:
    """Return what the record says of the noise and of the slices, as fields of it."""
    residual = residual_evidence(
        measurement.scan.array,
        remeasured(measurement, restored, spec),
        measurement.local_sigma(),
        measurement.units.zero,
    )
    noise = {**measurement.noise.as_json(), "operator": spec.operator, **residual}
    return {"noise": noise, "slices": measurement.evidence(restored)}


def predict_budget(
    volume: Volume, grid: Geometry, options: RestoreOptions, model: LoadedModel, reference: Volume | None
) -> Budget | None:
    """Predict what a scan will take; None where it is smaller than what would have to be measured first."""
    if (
        math.prod(grid.shape) < CALIBRATION_SIDE**3
        and options.max_memory is None
        and not is_known(options, volume.modality, model)
    ):
        return None
    held = resident_bytes() - volume.array.nbytes
    shape = network_shape(volume.geometry, grid, model.spec, options)
    return predict(shape, options, model=model, beside=Beside(reference is not None, held))


def _record(volume: Volume, model: LoadedModel, options: RestoreOptions) -> RunRecord:
    """Return what can be said of a run before its result is there."""
    return RunRecord(
        medrestore=metadata.version("medrestore"),
        versions={**software_versions(), **plugins().versions(_plugins_used(model, options))},
        model=model.ref,
        input=volume.source or Source("", "array"),
        settings={**asdict(options), **resolved_settings(model, options)},
        seed=options.seed if sample_count(options) else None,
    )


def _plugins_used(model: LoadedModel, options: RestoreOptions) -> set[str]:
    """Return the names of the plugins that a result is made with."""
    sampler = options.sampler if sample_count(options) else None
    names = (model.ref.name, model.ref.network, model.spec.operator, sampler, options.noise)
    return {str(name).partition("/")[0] for name in names if names_a_plugin(name)}


def resolved_settings(model: LoadedModel, options: RestoreOptions) -> dict[str, JSON]:
    """Return what the options leave to the model or the machine, as it was decided."""
    return {"device": model.device, "dtype": model.dtype, "ensemble": ensemble_size(options, model.spec)}


@dataclass(frozen=True)
class _Run:
    """A model as it is run over one scan."""

    model: LoadedModel
    options: RestoreOptions
    budget: Budget | None
    observers: Observers

    def settled(self, measurement: Measurement) -> tuple[Measurement, tuple[Finding, ...]]:
        """Return the measurement as the model is given it, and what should be known of it."""
        if measurement.skip_reason is not None:
            return measurement, (*measurement.findings, measurement.skip_reason)
        spec, noise = self.model.spec, measurement.noise
        findings = check_noise(noise, spec) + check_zero(measurement.scan, noise, spec)
        if spec.operator is None:  # what is undone beside the noise is no anatomy that went with it
            measurement = measurement.settled(tiled_denoiser(self.model, self.options, self.budget))
        return measurement, (*findings, *measurement.findings)

    def result(self, measurement: Measurement) -> tuple[Volume, Volume | None]:
        """Return the result, and the deviation of the samples where there are two or more."""
        if measurement.skip_reason is not None:
            return measurement.baseline, None
        options, size = self.options, ensemble_size(self.options, self.model.spec)
        step = self._step(measurement, size)
        tiled = tiled_denoiser(
            self.model, options, self.budget, self.observers.progress, measurement.views[:size]
        )
        condition, denoiser = measurement.condition, measurement.guide(tiled)
        mean = posterior_mean(denoiser, condition)
        levels = sampling_levels(condition.sigma, options.steps, measurement.start)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return denoiser(x, sigma, condition)

        def draw(index: int) -> Tensor:
            def on_step(at: SamplerStep) -> None:
                self._tell(measurement, step, index, at)

            return posterior_sample(denoise, mean, levels, options.sampler, (options.seed, index), on_step)

        sample, std = sample_statistics(draw, sample_count(options))
        chosen = mean if options.output == "mean" or sample is None else sample
        spread = None if std is None else measurement.std_volume(std, Step("restore:std", step.params))
        return measurement.to_volume(chosen, step), spread

    def _step(self, measurement: Measurement, size: int) -> Step:
        """Return what is added to the history of the scan."""
        ref, options = self.model.ref, self.options
        what = {"model": ref.name, "sha256": ref.sha256, "sigma": measurement.noise.sigma}
        how = {**measurement.facts, "ensemble": size, "seed": options.seed}
        return Step(f"restore:{options.output}", {**what, **how})

    def _tell(self, measurement: Measurement, step: Step, index: int, at: SamplerStep) -> None:
        """Tell who watches of a step of sample `index`."""
        if self.observers.step is None:
            return
        state, estimate = (measurement.state(seen, step) for seen in (at.state, at.estimate))
        level = at.sigma * measurement.units.one
        self.observers.step(TrajectoryPoint(index, at.index, level, state, estimate))


def tiled_denoiser(
    model: LoadedModel,
    options: RestoreOptions,
    budget: Budget | None = None,
    progress: OnProgress | None = None,
    views: tuple[View, ...] = VIEWS[:1],
) -> Denoiser:
    """Return the model's denoiser for a whole volume.

    Args:
        model: The model.
        options: `tile` and what is needed to count the evaluations.
        budget: Says which tiles; None for the largest.
        progress: Called after every tile, or slab of one.
        views: Of the scan, that the mean is taken over.
    """
    spec = model.spec
    tile = max(options.tile or 2**31, least_tile(spec)) if budget is None else budget.tile
    finished = 0

    def on_tile(done: int, total: int) -> None:
        nonlocal finished
        if progress is not None:
            progress(finished + done, total * evaluations(options, spec))
        finished += total if done == total else 0

    kind = StreamedDenoiser if budget is not None and budget.streamed else TiledDenoiser
    tiled = kind(model.denoiser, tile, spec.halo, spec.multiple, model.device, on_tile)
    tiled.views = views
    return tiled
