"""The path of one scan: measure it, run the model over it, and say what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser, SamplerStep
from medrestore.engine.consistency import residual_evidence
from medrestore.engine.evidence import Restoration, as_json, check_reference, measure, peak_memory_mb
from medrestore.engine.intensity import Units, model_units
from medrestore.engine.model import LoadedModel, load_model, plugins
from medrestore.engine.noise import NoiseLevel, noise_level
from medrestore.engine.options import RestoreOptions
from medrestore.engine.posterior import (
    evaluations,
    posterior_mean,
    posterior_sample,
    sample_count,
    sample_statistics,
)
from medrestore.engine.tiling import TiledDenoiser
from medrestore.errors import ModelError
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import RunRecord, Source, Step, software_versions
from medrestore.types import Modality, RealArray
from medrestore.volume import Volume

WHOLE_VOXELS = 24_000_000
"""A volume of up to this many voxels is one tile by default; it takes about 3 GB with the shipped network."""

LEAST_NOISE = 1e-4
"""Noise below this fraction of the 99th percentile is none: the scan is returned as it came."""

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
        reference: The truth, on the same grid, for PSNR and SSIM.
        model: A model already loaded, to use it for many scans; None loads the one that `options` name.
        observers: Who is told while it runs.

    Returns:
        The restored volume, on the grid and in the units of the scan, with its evidence.

    Raises:
        ModelError: No model fits, or the scan is outside what the model was made for.
        ConfigError: An option cannot be had on this machine.
        GeometryError: The reference is on another grid.
    """
    start = time.perf_counter()
    options = options or RestoreOptions()
    observers = observers or Observers()
    if reference is not None:
        check_reference(volume, reference)
    model = model or load_model(options, volume.modality)
    warnings = check_scan(volume, model.spec, options.force)
    units = model_units(model.spec.intensity, volume.array)
    noise = noise_level(volume.array - units.zero, options.noise, units.reference)
    prepared = time.perf_counter()
    if noise.fraction >= LEAST_NOISE:
        warnings += check_noise(noise, model.spec)
        restored, std = _run(volume, model, options, (units, noise), observers)
    else:
        warnings += (
            f"no noise to remove ({noise.sigma:.3g}, {noise.method}): the scan is returned as it came",
        )
        restored, std = volume, None
    finished = time.perf_counter()
    metrics = measure(volume, restored, reference)
    timings = {
        "load_model": model.load_seconds,
        "prepare": prepared - start,
        "network": finished - prepared,
        "measure": time.perf_counter() - finished,
    }
    record = replace(
        _record(volume, model, options),
        noise={**asdict(noise), **residual_evidence(volume.array, restored.array, noise.sigma)},
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


def check_scan(volume: Volume, spec: ModelSpec, force: bool) -> tuple[str, ...]:
    """Refuse a scan that the model was not made for, or warn where that is forced.

    Raises:
        ModelError: Modality or voxel size are outside, and `force` is not set.
    """
    notes, problems = [], []
    if volume.modality is Modality.UNKNOWN:
        notes.append(f"the scan does not say its modality; taken for {spec.modalities[0]}")
    elif volume.modality not in spec.modalities:
        problems.append(f"the scan is {volume.modality}, {spec.name} is for {', '.join(spec.modalities)}")
    low, high = spec.spacing_mm
    spacing = [size for size, extent in zip(volume.spacing, volume.shape, strict=True) if extent > 1]
    if any(not 0.99 * low <= size <= 1.01 * high for size in spacing):
        sizes = " x ".join(f"{size:.3g}" for size in volume.spacing)
        problems.append(f"voxels of {sizes} mm, {spec.name} is for {low:g} to {high:g} mm")
    if problems and not force:
        raise ModelError(
            f"{'; '.join(problems)}: the result would be a guess; choose another model, or force it "
            "(--force, or force=True) and look at the result with care"
        )
    return (*notes, *problems)


def check_noise(noise: NoiseLevel, spec: ModelSpec) -> tuple[str, ...]:
    """Warn where the noise is outside the levels that the model was made for."""
    low, high = spec.noise
    if low <= noise.fraction <= high:
        return ()
    return (
        f"noise of {noise.fraction:.2%} of the 99th percentile is outside the {low:.2%} to {high:.2%} that "
        f"{spec.name} was made for",
    )


def _run(
    volume: Volume,
    model: LoadedModel,
    options: RestoreOptions,
    levels: tuple[Units, NoiseLevel],
    observers: Observers,
) -> tuple[Volume, Volume | None]:
    """Run the model; `levels` are its units and the noise, in the units of the scan."""
    units, noise = levels
    step = Step(
        f"restore:{options.output}",
        {"model": model.ref.name, "sha256": model.ref.sha256, "sigma": noise.sigma, "seed": options.seed},
    )

    def as_volume(tensor: Tensor, magnitude: bool = True) -> Volume:
        array: RealArray = units.from_model(tensor[0, 0].numpy())
        if magnitude and model.spec.intensity is Intensity.P99 and volume.array.min() >= 0:
            array = np.maximum(array, 0)  # a magnitude image has no negative voxels
        return volume.with_array(array, step)

    image = torch.from_numpy(units.to_model(volume.array))
    condition = Condition(image[None, None], noise.sigma / units.one)
    denoiser = tiled_denoiser(model, options, image.numel(), observers.progress)
    mean = posterior_mean(denoiser, condition)

    def draw(index: int) -> Tensor:
        def on_step(at: SamplerStep) -> None:
            if observers.step is not None:
                state, estimate = (
                    as_volume(at.state, magnitude=False),
                    as_volume(at.estimate, magnitude=False),
                )
                observers.step(TrajectoryPoint(index, at.index, at.sigma * units.one, state, estimate))

        return posterior_sample(denoiser, condition, mean, options, (options.seed, index), on_step)

    sample, std = sample_statistics(draw, sample_count(options))
    chosen = mean if options.output == "mean" or sample is None else sample
    if std is None:
        return as_volume(chosen), None
    spread = Step("restore:std", step.params)
    return as_volume(chosen), volume.with_array((std[0, 0] * units.one).numpy(), spread)


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
