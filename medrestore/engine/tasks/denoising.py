"""Denoising: the scan measured every voxel of the result, with noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.sampling.posterior import START, STEEPEST
from medrestore.engine.tasks.measurement import Measurement, is_nonnegative
from medrestore.engine.tasks.requested_noise import requested_noise
from medrestore.engine.tasks.series import noise_pairs
from medrestore.engine.tasks.slice_grid import ct_slice_axis
from medrestore.engine.tasks.trial import settle, tried
from medrestore.findings import NO_NOISE, NOISE_TOO_WEAK, SPIKES, UNMEASURED_VOXELS, Finding
from medrestore.noise.intensity import model_units, padding_in
from medrestore.noise.level import NoiseLevel, mr_noise_level, noise_level
from medrestore.noise.measured_grid import MeasuredGrid, find_measured_grid
from medrestore.noise.model import Certainty, NoiseModel
from medrestore.noise.varying import as_measured, varying_noise
from medrestore.options import RestoreOptions
from medrestore.physics.kspace import colour_details
from medrestore.plugin import ModelSpec
from medrestore.provenance import Step
from medrestore.types import UNMEASURED_HU, BoolArray, FloatArray, RealArray
from medrestore.volume import Volume

LEAST_NOISE = 1e-4
"""Noise below this fraction of the 99th percentile counts as zero: the scan is returned unchanged."""


ALL = 0.98
"""A share of the noise above this counts as all of the noise."""

FAINT = 0.25
"""Estimated noise below this fraction of the least that a model was made for is left alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyVoxels(Measurement):
    """Every voxel of the result, plus noise; see `Measurement`.

    The image of the condition is on the grid that the scanner measured.

    Attributes:
        grid: The way from the measured grid to the grid of the scan.
        slice_axis: Array axis of the scan that is the last axis of the condition's image.
        floor: Level whose floor was taken out of a sum of squares, in the units of the voxels.
        padding: Voxels of the scan, slices last, that were not measured and stay as they are; None if all
            were measured.
        tells_noise: Whether little taken out means that there is no noise, as limits were set for models of
            a domain; a filter may be weak.
    """

    grid: MeasuredGrid
    slice_axis: int = 2
    floor: float = 0.0
    padding: BoolArray | None = None
    tells_noise: bool = False

    def settled(self, denoiser: Denoiser) -> Measurement:
        """See `Measurement.settled`: an uncertain level is lowered until no anatomy goes with the noise."""
        measured = self.noise.measured
        if measured is None or measured.certainty is Certainty.SURE or self.noise.is_given:
            return self
        leans_low = measured.certainty is Certainty.UNSURE
        factor, taken = settle(tried(self.condition, denoiser), leans_low=leans_low)
        if self.tells_noise and taken.is_not_there:
            others = tuple(one for one in self.findings if one.code != NOISE_TOO_WEAK.code)
            reason = taken.not_found(self.noise.fraction)
            return replace(self, skip_reason=reason, findings=others)
        settled = self.at(factor)
        if not taken.has_anatomy:
            return settled
        return replace(settled, findings=(*self.findings, taken.may_be_anatomy(factor)))

    def at(self, factor: float) -> NoisyVoxels:
        """Return this measurement with the level of the noise multiplied."""
        if factor == 1:
            return self
        noise, condition = self.noise, self.condition
        beyond = None if noise.beyond_band is None else noise.beyond_band / factor
        sigma, fraction = noise.sigma * factor, noise.fraction * factor
        noise = replace(noise, sigma=sigma, fraction=fraction, beyond_band=beyond)
        if noise.measured is not None:
            noise = replace(noise, measured=noise.measured.with_sigma(noise.sigma))
        return replace(self, noise=noise, condition=replace(condition, sigma=condition.sigma * factor))

    def to_volume(self, tensor: Tensor, step: Step) -> Volume:
        """See `Measurement.to_volume`."""
        if self.share < 1:
            torch.lerp(self.condition.image, tensor, self.share, out=tensor)
        return super().to_volume(tensor, step)

    def std_volume(self, tensor: Tensor, step: Step) -> Volume:
        """See `Measurement.std_volume`."""
        spread = self.grid.map((self.share * self.units.one * tensor[0, 0]).numpy())
        if self.padding is not None:
            spread[self.padding] = 0
        return self.place(np.asarray(spread, dtype=np.float32), step)

    def physical(self, array: FloatArray) -> FloatArray:
        """See `Measurement.physical`; voxels that were not measured stay as they are."""
        array = super().physical(self.grid.restored(array))
        if self.padding is not None:
            array[self.padding] = np.moveaxis(self.scan.array, self.slice_axis, -1)[self.padding]
        return array

    def place(self, array: FloatArray, step: Step) -> Volume:
        """See `Measurement.place`: the result has the grid of the scan."""
        array = self.grid.delivered(array)
        return self.scan.with_array(np.ascontiguousarray(np.moveaxis(array, -1, self.slice_axis)), step)

    def as_given(self, array: RealArray) -> FloatArray:
        """See `Measurement.as_given`: on the grid that was measured."""
        return self.units.to_model(self.grid.measured(np.moveaxis(array, self.slice_axis, -1)))

    def remeasure(self, result: Volume) -> RealArray:
        """See `Measurement.remeasure`."""
        return result.array

    @property
    def unmeasured(self) -> BoolArray | None:
        """See `Measurement.unmeasured`."""
        return None if self.padding is None else np.moveaxis(self.padding, -1, self.slice_axis)

    def local_sigma(self) -> float | RealArray:
        """See `Measurement.local_sigma`."""
        gain = self.condition.gain
        return self.noise.sigma if gain is None else self.noise.sigma * self.grid.map(np.asarray(gain[0, 0]))


def noisy_voxels(
    scan: Volume, spec: ModelSpec, options: RestoreOptions, series: Sequence[Volume] = ()
) -> Measurement:
    """Describe a scan that is to be denoised.

    Args:
        scan: The scan.
        spec: The model.
        options: `noise` and `noise_map`.
        series: See `restore`.
    """
    if spec.is_mr:
        return _noisy_mr(scan, spec, options, series)
    units = model_units(spec.intensity, scan.array)
    slice_axis = ct_slice_axis(scan.geometry) if spec.is_ct else 2
    voxels = np.moveaxis(scan.array, slice_axis, -1)
    noise = noise_level(voxels, requested_noise(scan, options), units.reference, spec.intensity)
    skip_reason, share, findings = _what_to_take(noise, spec)
    image = units.to_model(voxels)
    padding = padding_in(voxels, spec.intensity)
    if padding is not None:
        image[padding] = 0
        count = np.count_nonzero(padding)
        text = f"{count} voxels below {UNMEASURED_HU:.0f} HU were not measured and are left as they are"
        findings += (UNMEASURED_VOXELS.found(text, voxels=int(count)),)
    return NoisyVoxels(
        scan=scan,
        units=units,
        noise=noise,
        condition=Condition(torch.from_numpy(image)[None, None], noise.sigma / units.one),
        baseline=scan,
        nonnegative=is_nonnegative(spec, scan),
        skip_reason=skip_reason,
        findings=findings,
        grid=find_measured_grid(voxels, voxels.shape),
        share=share,
        slice_axis=slice_axis,
        padding=padding,
    )


def _noisy_mr(
    scan: Volume, spec: ModelSpec, options: RestoreOptions, series: Sequence[Volume]
) -> Measurement:
    """Describe a scan of MR, on the grid that the scanner measured."""
    units = model_units(spec.intensity, scan.array)
    noise = mr_noise_level(scan, requested_noise(scan, options), units.reference, noise_pairs(series))
    measured = noise.measured
    assert measured is not None
    grid, voxels = as_measured(scan.array, measured)
    varying = None
    if options.noise_map != "constant":
        noise, varying = varying_noise(voxels, noise, units.reference)
    if not grid.is_whole and noise.sigma > 0:
        noise = replace(noise, beyond_band=grid.left_out / noise.sigma)
    skip_reason, share, findings = _what_to_take(noise, spec)
    condition = Condition(
        torch.from_numpy(units.to_model(voxels))[None, None],
        noise.sigma / units.one,
        # Noise that varies over the scan is told by `gain`, (1, 1, X, Y, Z), relative to the level.
        gain=None if varying is None else torch.from_numpy(varying.gain)[None, None],
        details=colour_details(measured.correlations) if spec.colour else (),
    )
    return NoisyVoxels(
        scan=scan,
        units=units,
        noise=noise,
        condition=condition,
        baseline=scan,
        nonnegative=is_nonnegative(spec, scan),
        skip_reason=skip_reason,
        findings=(*findings, *spike_findings(measured)),
        grid=grid,
        floor=measured.sigma,
        tells_noise=spec.domain is not None,
        share=share,
        start=START if varying is None else START * min(max(varying.range.p95, 1), STEEPEST),
    )


def _what_to_take(noise: NoiseLevel, spec: ModelSpec) -> tuple[Finding | None, float, tuple[Finding, ...]]:
    """Return why no noise is to be taken out, or None; the share that is; and findings about the share."""
    share, findings = share_taken(noise, spec)
    if noise.fraction >= LEAST_NOISE and share > 0:
        return None, share, findings
    text = f"no noise to remove ({noise.sigma:.3g}, {noise.method}): the scan is returned as it came"
    return NO_NOISE.found(text, sigma=noise.sigma), share, ()


def spike_findings(measured: NoiseModel) -> tuple[Finding, ...]:
    """Return findings about the spikes in k-space of a scan, which are no noise and stay."""
    if not measured.spikes:
        return ()
    first = measured.spikes[0]
    cycles = " x ".join(str(abs(count)) for count in first.cycles)
    text = (
        f"{len(measured.spikes)} spikes in k-space, the largest {first.share:.1%} of its centre: the stripes "
        f"that they make ({cycles} over the field of view) are no noise and are left in the result"
    )
    return (SPIKES.found(text, count=len(measured.spikes), share=first.share, cycles=first.cycles),)


def share_taken(noise: NoiseLevel, spec: ModelSpec) -> tuple[float, tuple[Finding, ...]]:
    """Return the share of a model's residual that is to be taken out, and a finding if that is not all of it.

    Below the noise that a model was made for, an estimate is mainly fine texture, and so is the residual that
    the model would take out.
    """
    part = noise.fraction / spec.noise[0] if spec.noise[0] > 0 else 1.0
    share = min(max((part - FAINT) / (1 - FAINT), 0.0), 1.0)
    if noise.is_given or share > ALL:
        return 1.0, ()
    if share == 0:
        return share, ()
    text = (
        f"the noise is too weak to be told from fine texture: {share:.0%} of what {spec.name} would take out "
        "was taken out; pass the level of the noise to have all of it"
    )
    return share, (NOISE_TOO_WEAK.found(text, share=share),)
