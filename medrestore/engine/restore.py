"""The path of one scan: measure it, run the model over it, and say what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata

from torch import Tensor

from medrestore.diffusion import Denoiser, SamplerStep
from medrestore.engine.checks import check_noise, check_scan
from medrestore.engine.consistency import residual_evidence
from medrestore.engine.denoising import noisy_voxels
from medrestore.engine.evidence import Restoration, as_json, check_reference, measure, peak_memory_mb
from medrestore.engine.measurement import Measurement
from medrestore.engine.model import LoadedModel, find_model, load_model, plugins
from medrestore.engine.options import RestoreOptions
from medrestore.engine.posterior import (
    evaluations,
    posterior_mean,
    posterior_sample,
    sample_count,
    sample_statistics,
    sampling_levels,
)
from medrestore.engine.slice_plan import target_grid
from medrestore.engine.superres import thick_slices
from medrestore.engine.tiling import TiledDenoiser
from medrestore.provenance import RunRecord, Source, Step, software_versions
from medrestore.types import Task
from medrestore.volume import Volume

WHOLE_VOXELS = 24_000_000
"""A volume of up to this many voxels is one tile by default; it takes about 3 GB with the shipped network."""

_MEASURE = {Task.DENOISE: noisy_voxels, Task.SUPERRES: thick_slices}
"""How a scan becomes a problem for a denoiser, by task."""

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
) -> Restoration:
    """Restore one scan.

    Args:
        volume: The scan, (X, Y, Z), any grid.
        options: What to do; None for the defaults.
        reference: The truth, on the grid of the result, for PSNR and SSIM.
        model: A model already loaded, to use it for many scans; None loads the one that `options` name.
        observers: Who is told while it runs.

    Returns:
        The restored volume with its evidence, in the units of the scan and, but for super-resolution, on its
        grid.

    Raises:
        ModelError: No model fits, or the scan is outside what the model was made for.
        ConfigError: An option cannot be had on this machine, or does not fit the scan.
        GeometryError: The reference is not on the grid of the result, or there are no slices to resolve.
    """
    start = time.perf_counter()
    options = options or RestoreOptions()
    observers = observers or Observers()
    spec = find_model(options, volume.modality)[1] if model is None else model.spec
    grid = target_grid(volume, spec.task, options)
    warnings = check_scan(volume, spec, grid, options.force)
    if reference is not None:
        check_reference(grid, reference)
    model = model or load_model(options, volume.modality)
    measurement = _MEASURE[spec.task](volume, spec, options)
    warnings += measurement.warnings
    prepared = time.perf_counter()
    if measurement.idle is None:
        warnings += check_noise(measurement.noise, spec)
        restored, std = _run(measurement, model, options, observers)
    else:
        warnings += (measurement.idle,)
        restored, std = measurement.baseline, None
    finished = time.perf_counter()
    metrics = measure(measurement.baseline, restored, reference)
    noise = measurement.noise
    residual = residual_evidence(volume.array, measurement.remeasure(restored), measurement.local_sigma())
    timings = {
        "load_model": model.load_seconds,
        "prepare": prepared - start,
        "network": finished - prepared,
        "measure": time.perf_counter() - finished,
    }
    record = replace(
        _record(volume, model, options),
        noise={**asdict(noise), **residual},
        slices=measurement.evidence(restored),
        timings=timings,
        peak_memory_mb=peak_memory_mb(),
        metrics=as_json(metrics),
        warnings=warnings,
    )
    plugins().case_finished(record)
    return Restoration(restored, std, metrics, record)


def _record(volume: Volume, model: LoadedModel, options: RestoreOptions) -> RunRecord:
    """Return what can be said of a run before its result is there."""
    return RunRecord(
        medrestore=metadata.version("medrestore"),
        versions=software_versions(),
        model=model.ref,
        input=volume.source or Source("", "array"),
        settings={**asdict(options), "device": model.device, "dtype": model.dtype},
        seed=options.seed if sample_count(options) else None,
    )


def _run(
    measurement: Measurement, model: LoadedModel, options: RestoreOptions, observers: Observers
) -> tuple[Volume, Volume | None]:
    """Run the model; return the result, and the deviation of the samples where there are two or more."""
    what = {"model": model.ref.name, "sha256": model.ref.sha256, "sigma": measurement.noise.sigma}
    step = Step(f"restore:{options.output}", {**what, **measurement.facts, "seed": options.seed})
    condition = measurement.condition
    tiled = tiled_denoiser(model, options, condition.image.numel(), observers.progress)
    denoiser = measurement.guide(tiled)
    mean = posterior_mean(denoiser, condition)
    levels = sampling_levels(condition.sigma, options.steps, measurement.start)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return denoiser(x, sigma, condition)

    def draw(index: int) -> Tensor:
        def on_step(at: SamplerStep) -> None:
            if observers.step is not None:
                state, estimate = (measurement.state(seen, step) for seen in (at.state, at.estimate))
                level = at.sigma * measurement.units.one
                observers.step(TrajectoryPoint(index, at.index, level, state, estimate))

        return posterior_sample(denoise, mean, levels, options.sampler, (options.seed, index), on_step)

    sample, std = sample_statistics(draw, sample_count(options))
    chosen = mean if options.output == "mean" or sample is None else sample
    spread = None if std is None else measurement.spread(std, Step("restore:std", step.params))
    return measurement.finish(chosen, step), spread


def tiled_denoiser(
    model: LoadedModel, options: RestoreOptions, voxels: int, progress: OnProgress | None = None
) -> Denoiser:
    """Return the model's denoiser for a whole volume, in one piece where it is small enough.

    Args:
        model: The model.
        options: `tile` and what is needed to count the evaluations.
        voxels: Of the scan.
        progress: Called after every tile.
    """
    spec = model.spec
    tile = options.tile or (2**31 if voxels <= WHOLE_VOXELS else 256)
    tile = max(tile, 2 * (spec.halo + spec.multiple) + spec.multiple)
    finished = 0

    def on_tile(done: int, total: int) -> None:
        nonlocal finished
        if progress is not None:
            progress(finished + done, total * evaluations(options))
        finished += total if done == total else 0

    return TiledDenoiser(model.denoiser, tile, spec.halo, spec.multiple, model.device, on_tile)
