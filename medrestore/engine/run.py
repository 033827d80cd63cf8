"""One model run over one scan: the mean, samples, and whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from medrestore.diffusion import Denoiser, SamplerStep
from medrestore.engine.cost.budget import Budget, least_tile
from medrestore.engine.evidence.detectability import observe
from medrestore.engine.evidence.intervals import (
    IntervalEvidence,
    IntervalRequest,
    interval_evidence,
    interval_maps,
)
from medrestore.engine.evidence.observed import judged
from medrestore.engine.intervals.predict import Widths, interval_widths
from medrestore.engine.machine.memory import release_memory
from medrestore.engine.models.checks import assumed_modality, check_noise, check_told, check_zero
from medrestore.engine.models.load import LoadedModel
from medrestore.engine.sampling.ensemble import VIEWS, View, ensemble_size
from medrestore.engine.sampling.posterior import (
    evaluations,
    posterior_mean,
    posterior_sample,
    sample_count,
    sample_statistics,
    sampling_levels,
)
from medrestore.engine.sampling.tiled_denoiser import StreamedDenoiser, TiledDenoiser, streams
from medrestore.engine.tasks.measurement import Measurement
from medrestore.findings import DETECTABILITY_UNKNOWN, Finding
from medrestore.options import RestoreOptions
from medrestore.provenance import JSON, Step
from medrestore.volume import Volume

OnProgress = Callable[[int, int], None]
OnMean = Callable[[Measurement, Tensor], None]
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
        mean: Called with what was measured and the mean in model units, which is not to be changed.
    """

    progress: OnProgress | None = None
    step: OnStep | None = None
    mean: OnMean | None = None


@dataclass(frozen=True)
class Outcome:
    """What a model made of a scan.

    Attributes:
        volume: The result.
        maps: Volumes that go with it, by name; see `Restoration.maps`.
        intervals: What the record says of the intervals.
    """

    volume: Volume
    maps: Mapping[str, Volume]
    intervals: IntervalEvidence = field(default_factory=IntervalEvidence)


@dataclass(frozen=True)
class ModelRun:
    """A model as it is run over one scan.

    Attributes:
        model: The model.
        options: What is asked for.
        budget: Says which tiles; None for the largest.
        observers: Who is told while it runs.
        intervals: What is asked for of intervals; None for none.
    """

    model: LoadedModel
    options: RestoreOptions
    budget: Budget | None
    observers: Observers
    intervals: IntervalRequest | None = None

    def settled(self, measurement: Measurement) -> tuple[Measurement, tuple[Finding, ...]]:
        """Return the measurement as the model is given it, and what should be known of it."""
        spec, noise = self.model.spec, measurement.noise
        findings = check_zero(measurement.scan, noise.sigma, spec) + check_told(noise)
        if measurement.skip_reason is None:
            # What is undone beside the noise is no anatomy that went with it; part of a volume is no series.
            if spec.operator is None and spec.series is None:
                measurement = measurement.settled(tiled_denoiser(self.model, self.options, self.budget))
            findings = check_noise(measurement.noise, spec) + findings
        skipped = () if measurement.skip_reason is None else (measurement.skip_reason,)
        return measurement, (*findings, *measurement.findings, *skipped)

    def result(self, measurement: Measurement) -> Outcome:
        """Return the result with its maps."""
        options, size = self.options, ensemble_size(self.options, self.model.spec)
        step = self.step(measurement)
        if measurement.skip_reason is not None:
            return self._with_intervals(measurement, Outcome(measurement.baseline, {}), None, step)
        release_memory()  # what measuring has left would count to the peak, which is reached now
        tiled = tiled_denoiser(
            self.model, options, self.budget, self.observers.progress, measurement.views[:size]
        )
        condition, denoiser = measurement.condition, measurement.guide(tiled)
        mean = posterior_mean(denoiser, condition)
        if self.observers.mean is not None:
            self.observers.mean(measurement, mean)
        widths = self._widths(measurement, mean)
        sample, std = self._sampled(measurement, denoiser, mean, step)
        maps = {}
        if std is not None:
            maps["std"] = measurement.std_volume(std, Step("restore:std", step.params))
        chosen = mean if options.output == "mean" or sample is None else sample
        whole = measurement.to_volume(chosen, step)
        outcome = Outcome(*at_strength(measurement.baseline, whole, maps, options.strength))
        if options.save_map == "null":
            null = measurement.unseen(outcome.volume)
            outcome = replace(outcome, maps={**outcome.maps, "null": null})
        return self._with_intervals(measurement, outcome, widths, step)

    def _sampled(
        self, measurement: Measurement, denoiser: Denoiser, mean: Tensor, step: Step
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the first sample and the deviation of all, each None where there are too few for it."""
        options, condition = self.options, measurement.condition
        levels = sampling_levels(condition.sigma, options.steps, measurement.start)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            return denoiser(x, sigma, condition)

        def draw(index: int) -> Tensor:
            def on_step(at: SamplerStep) -> None:
                self._tell(measurement, step, index, at)

            return posterior_sample(denoise, mean, levels, options.sampler, (options.seed, index), on_step)

        return sample_statistics(draw, sample_count(options))

    def _widths(self, measurement: Measurement, mean: Tensor) -> Widths | None:
        asked = self.intervals
        if asked is None:
            return None
        doubt = measurement.noise.in_doubt
        return interval_widths(asked.calibration, asked.level, measurement.condition, mean, in_doubt=doubt)

    def _with_intervals(
        self, measurement: Measurement, outcome: Outcome, widths: Widths | None, step: Step
    ) -> Outcome:
        """Add the intervals, if they are asked for."""
        asked, size = self.intervals, ensemble_size(self.options, self.model.spec)
        if asked is None:
            return outcome
        ends = interval_maps(measurement, outcome.volume, asked.level, widths, step)
        modality = assumed_modality(measurement.scan, self.model.spec)
        evidence = interval_evidence(asked, measurement, outcome.volume, widths, size, modality)
        return replace(outcome, maps={**outcome.maps, **ends}, intervals=evidence)

    def detectability(self, measurement: Measurement) -> tuple[Mapping[str, JSON], tuple[Finding, ...]]:
        """Return how well virtual lesions are found in the scan and in the result, if that is asked for."""
        options, spec = self.options, self.model.spec
        if not options.detectability:
            return {}, ()
        if measurement.skip_reason is not None:
            return _untold("nothing was taken out of the scan")
        views = measurement.views[: ensemble_size(options, spec)]
        denoiser = tiled_denoiser(self.model, options, self.budget, views=views)
        observed = observe(
            measurement.condition,
            denoiser,
            share=measurement.share,
            is_ct=spec.is_ct,
            seed=options.seed,
        )
        if observed is None:
            return _untold("too little tissue for spheres in the part of the scan that was tried")
        return judged(observed, options.strength, options.seed)

    def step(self, measurement: Measurement) -> Step:
        """Return what is added to the history of the scan."""
        ref, options = self.model.ref, self.options
        size = ensemble_size(options, self.model.spec)
        what = {"model": ref.name, "sha256": ref.sha256, "sigma": measurement.noise.sigma}
        how = {**measurement.facts, "ensemble": size, "seed": options.seed}
        if options.strength < 1:
            how["strength"] = options.strength
        if options.volumes == "joint":
            how["volumes"] = options.volumes
        return Step(f"restore:{options.output}", {**what, **how})

    def _tell(self, measurement: Measurement, step: Step, index: int, at: SamplerStep) -> None:
        """Tell who watches of a step of sample `index`."""
        if self.observers.step is None:
            return
        state, estimate = (measurement.state(seen, step) for seen in (at.state, at.estimate))
        level = at.sigma * measurement.units.one
        self.observers.step(TrajectoryPoint(index, at.index, level, state, estimate))


def _untold(reason: str) -> tuple[Mapping[str, JSON], tuple[Finding, ...]]:
    text = f"how well virtual lesions are found is not told: {reason}"
    return {"reason": reason}, (DETECTABILITY_UNKNOWN.found(text),)


def at_strength(
    baseline: Volume, result: Volume, maps: Mapping[str, Volume], strength: float
) -> tuple[Volume, dict[str, Volume]]:
    """Return what lies between no restoration and the whole of it, and the deviation of that.

    The path is a straight line: ``baseline + strength (result - baseline)``. Of what the model took out,
    noise or not, the part ``1 - strength`` is left in; the deviation of the samples shrinks by `strength`.

    Args:
        baseline: The scan, or the cubic spline through its slices, on the grid of the result.
        result: Of the model.
        maps: The deviation of the samples, ``std``, where there are enough.
        strength: From 0 to 1; 1 changes nothing.
    """
    if strength == 1:
        return result, dict(maps)
    part = np.float32(strength)
    array = baseline.array + part * (result.array - baseline.array)
    weaker = replace(result, array=np.asarray(array, dtype=np.float32))
    return weaker, {name: replace(one, array=part * one.array) for name, one in maps.items()}


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
    # Slices are cleaned by another model than the one that the budget was made for.
    tile = max(options.tile or 2**31 if budget is None else budget.tile, least_tile(spec))
    finished = 0

    def on_tile(done: int, total: int) -> None:
        nonlocal finished
        if progress is not None:
            progress(finished + done, total * evaluations(options, spec))
        finished += total if done == total else 0

    streamed = budget is not None and budget.streamed and streams(model.denoiser)
    kind = StreamedDenoiser if streamed else TiledDenoiser
    tiled = kind(model.denoiser, tile, spec.halo, spec.multiple, model.device, on_tile)
    tiled.views = views
    return tiled
