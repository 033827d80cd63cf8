"""A series restored as one: the path of `restore` for all of its volumes at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from medrestore.diffusion import Denoiser
from medrestore.engine.conclude import Run, conclude
from medrestore.engine.cost.budget import Budget
from medrestore.engine.evidence.restoration import Restoration, check_reference
from medrestore.engine.machine.memory import release_memory
from medrestore.engine.models.checks import check_outputs, check_zero, computable
from medrestore.engine.models.load import LoadedModel, load_model
from medrestore.engine.run import ModelRun, Observers, Outcome, at_strength, tiled_denoiser
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.engine.sampling.held_to_mean import HeldToMean
from medrestore.engine.sampling.posterior import posterior_mean
from medrestore.engine.single import checked, predict_budget
from medrestore.engine.tasks.denoising import NoisyVoxels, noisy_voxels
from medrestore.engine.tasks.joint import JointMeasurement, joined, middle
from medrestore.errors import InputError
from medrestore.findings import SERIES_DIFFERS, SERIES_MIXED, ZERO_MOVED, Finding
from medrestore.geometry import Geometry
from medrestore.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.types import Modality
from medrestore.volume import Volume


def restore_series(
    volumes: Sequence[Volume],
    options: RestoreOptions | None = None,
    *,
    references: Sequence[Volume | None] = (),
    model: LoadedModel | None = None,
    observers: Observers | None = None,
    budget: Budget | None = None,
) -> list[Restoration]:
    """Restore all volumes of a series as one; `options.volumes` is ``"joint"``.

    Noise, units and measured grid are those of the middle volume, its noise read in the whole series. A model
    that takes series is given all volumes at once. Of another, each volume is restored by itself, and then
    all are moved so that their mean is what was measured of it; see `HeldToMean`.

    Args:
        volumes: The series, in order, on one grid.
        options: What to do; None for the defaults, and `volumes` joint.
        references: The truth of each volume, or nothing.
        model: A model already loaded; None loads the one that `options` name.
        observers: Who is told while it runs.
        budget: Memory and tile, where they were predicted already.

    Returns:
        The restored volumes, each with its evidence.

    Raises:
        DomainError: The series is too short, or see `restore`.
        InputError: The volumes are not on one grid, or see `restore`.
        ModelError, ConfigError, GeometryError: See `restore`.
    """
    start = time.perf_counter()
    options = options or RestoreOptions(volumes="joint")
    if not volumes:
        raise InputError("a series without volumes; expected a sequence of medrestore.Volume")
    volumes = [computable(volume) for volume in volumes]
    references = references or [None] * len(volumes)
    lead, grid, admission = checked(middle(volumes), options, references[0], model, volumes=len(volumes))
    _check_references(grid, references)
    model = model or load_model(options, lead.modality)
    check_outputs(model.ref, model.spec, options)
    if budget is None:
        budget = predict_budget(lead, grid, options, model, references[0], len(volumes))
    # What the middle volume was taken for, all are.
    volumes = [_taken_as(volume, lead.modality) for volume in volumes]
    run = ModelRun(model, options, budget, observers or Observers())
    measurement = noisy_voxels(middle(volumes), model.spec, options, volumes)
    prepared = time.perf_counter()
    settled, findings = run.settled(measurement)
    assert isinstance(settled, NoisyVoxels)
    series = joined(settled, volumes, model.spec)
    findings += _told_of_series(settled, len(volumes), model.spec)
    outcomes = _outcomes(run, series)
    release_memory()
    shares = {"prepare": prepared - start, "network": time.perf_counter() - prepared}
    timings = {phase: seconds / len(volumes) for phase, seconds in shares.items()}
    done = Run(model, options, budget, admission, timings, findings)
    return [
        conclude(one, outcome, _of(one, done, settled), reference)
        for one, outcome, reference in zip(series.volumes, outcomes, references, strict=True)
    ]


def _check_references(grid: Geometry, references: Sequence[Volume | None]) -> None:
    for reference in references:
        if reference is not None:
            check_reference(grid, reference.geometry)


def _of(one: NoisyVoxels, run: Run, lead: NoisyVoxels) -> Run:
    """Return how a volume was restored, with what is found of it alone: it may be a phase or a difference."""
    if one.scan is lead.scan:
        return run
    moved = check_zero(one.scan, one.noise.sigma, run.model.spec)
    others = tuple(found for found in run.findings if found.code != ZERO_MOVED.code)
    return replace(run, findings=(*moved, *others))


def _told_of_series(lead: NoisyVoxels, count: int, spec: ModelSpec) -> tuple[Finding, ...]:
    """Return what should be known where volumes are restored as one."""
    found: tuple[Finding, ...] = ()
    if lead.skip_reason is not None:
        return found
    if lead.noise.measured is not None and lead.noise.measured.series is None:
        text = (
            "no two neighbouring volumes were seen to differ by noise alone: where something moved, the "
            "result of one volume holds parts of others; align them first, or leave --volumes out"
        )
        found = (SERIES_DIFFERS.found(text, volumes=count),)
    return found if spec.series is None else (*found, _mixed(count, lead.noise.fraction))


def _mixed(count: int, fraction: float) -> Finding:
    text = (
        f"{count} volumes were restored as one, in noise of {fraction:.1%}: a change of the signal that is "
        "fainter than the noise, or in few voxels, may have gone with it; compare with the volumes one by one"
    )
    return SERIES_MIXED.found(text, volumes=count, fraction=fraction)


def _taken_as(volume: Volume, modality: Modality) -> Volume:
    return volume if volume.modality is modality else volume.as_modality(modality)


def _outcomes(run: ModelRun, series: JointMeasurement) -> list[Outcome]:
    """Return what the model makes of each volume."""
    lead, options = series.volumes[0], run.options
    if lead.skip_reason is not None:
        return [Outcome(one.baseline, {}) for one in series.volumes]
    release_memory()
    mean = posterior_mean(_denoiser(run, series), series.condition)
    found = []
    for t, one in enumerate(series.volumes):
        whole = one.to_volume(mean[t : t + 1], run.step(one))
        found.append(Outcome(*at_strength(one.baseline, whole, {}, options.strength)))
    return found


def _denoiser(run: ModelRun, series: JointMeasurement) -> Denoiser:
    """Return the denoiser of the whole series."""
    spec, lead = run.model.spec, series.volumes[0]
    views = lead.views[: ensemble_size(run.options, spec)]
    told, runs = run.observers.progress, 1 if spec.series is not None else len(series.volumes) + 1

    def progress(done: int, total: int) -> None:
        if told is not None:
            told(done, total * runs)

    tiled = tiled_denoiser(run.model, run.options, run.budget, progress, views)
    if spec.series is not None:
        return tiled
    return HeldToMean(tiled, rician=all(one.nonnegative for one in series.volumes))
