"""Super-resolution: the scan measured weighted means of planes of the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser
from medrestore.engine.sampling.ensemble import SLICE_VIEWS, View
from medrestore.engine.tasks.measurement import Measurement, is_nonnegative
from medrestore.engine.tasks.requested_noise import requested_noise
from medrestore.engine.tasks.series import noise_pairs
from medrestore.engine.tasks.slice_grid import SlicePlan, plan_slices
from medrestore.findings import UNMEASURED_VOXELS, Finding
from medrestore.noise.intensity import Units, model_units, padding_in
from medrestore.noise.level import NoiseLevel, mr_noise_level, noise_level
from medrestore.options import RestoreOptions
from medrestore.physics.slices import SliceStack, upsample
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import JSON, Step
from medrestore.types import AIR_HU, UNMEASURED_HU, BoolArray, FloatArray, RealArray
from medrestore.volume import Volume

NOISE_FLOOR = {Intensity.P99: 0.005, Intensity.RAW: 0.005, Intensity.ATTENUATION: 0.003}
"""Estimated noise below this fraction counts as zero: in slices of MR without noise, of 2 to 6 mm, the
estimator reads 0.004 of the anatomy. The estimator of CT reads next to no noise there; training had 3 HU at
least."""

UNKNOWN = 0.25
"""Error of a restored plane over that of an interpolated plane, for the proximal step. With an early network,
Colin27 and 3 % noise: 0.5 costs 0.1 dB at x2; 0.25 costs nothing, nor does it gain."""

FIRST_LEVEL = 4.0
"""First level of a sampler, in units of the expected error: the error of slices has wide tails, one voxel in
a hundred is off by three times the expected error. Training goes up to 4.5."""

ROUNDS = 10
"""Updates that make a result without negative voxels reproduce the slices."""

TINY = 1e-6
"""Stand-in for zero, as a fraction of the 99th percentile, in factors and divisors."""


class ConsistentDenoiser:
    """A denoiser whose estimates reproduce the slices; itself a `Denoiser` of the whole volume.

    Range-null-space projection, or a proximal step where the slices are noisy: Wang et al., Zero-Shot Image
    Restoration Using Denoising Diffusion Null-Space Model (ICLR 2023), eq. 13 and 17.

    Args:
        denoiser: Denoiser of the whole volume, slice axis last.
        stack: How the slices were measured.
        slices: (X, Y, slices) in model units.
        ridge: See `SliceStack.correction`.
    """

    def __init__(self, denoiser: Denoiser, stack: SliceStack, slices: FloatArray, ridge: float) -> None:
        self.denoiser = denoiser
        self.stack = stack
        self.slices = slices
        self.ridge = ridge

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`."""
        estimate = self.denoiser(x, sigma, condition).cpu().numpy()
        return torch.from_numpy(self.stack.consistent(estimate, self.slices, self.ridge))


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenSlices:
    """Slices as they are given to a model that resolves them: as measured, or cleaned by another model first.

    Attributes:
        array: (X, Y, Z) voxels on the grid of the scan.
        left: Deviation of the noise in them, in their units.
        noise: Noise of the scan.
        sigma: Its level, or (X, Y, Z) one for each voxel of the scan.
        share: Part of it that was taken out, or will be.
        denoised_with: What a record says of the model that cleaned them; None for none.
        findings: What a reader should know of that.
    """

    array: RealArray
    left: float
    noise: NoiseLevel
    sigma: float | RealArray
    share: float = 1.0
    denoised_with: Mapping[str, JSON] | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ThickSlices(Measurement):
    """Slices of the result, plus noise; see `Measurement`. The condition's image has the slice axis last.

    Attributes:
        plan: Where the slices and the planes lie.
        slices: (X, Y, slices) what the result is to reproduce, in model units.
        ridge: See `SliceStack.correction`.
        floor: Level of noise that counts as none, in the units of the voxels.
        sigma: Level of the noise of the scan, or (X, Y, Z) one for each of its voxels.
        taken: Part of that noise that is taken out.
    """

    plan: SlicePlan
    slices: FloatArray
    ridge: float
    floor: float
    sigma: float | RealArray
    taken: float
    views: tuple[View, ...] = SLICE_VIEWS

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """See `Measurement.guide`."""
        return ConsistentDenoiser(denoiser, self.plan.stack, self.slices, self.ridge)

    def place(self, array: FloatArray, step: Step) -> Volume:
        """See `Measurement.place`: on the finer grid, with the slice axis where the scan has it."""
        return self.scan.on_grid(self.plan.from_stack(array), self.plan.geometry, step)

    @property
    def factor(self) -> float:
        """See `Measurement.factor`."""
        return self.plan.stack.spacing

    def as_given(self, array: RealArray) -> FloatArray:
        """See `Measurement.as_given`: slices last."""
        return self.units.to_model(self.plan.to_stack(array))

    def remeasure(self, result: Volume) -> RealArray:
        """See `Measurement.remeasure`."""
        return self.plan.from_stack(self.plan.stack.forward(self.plan.to_stack(result.array)))

    def unseen(self, result: Volume) -> Volume:
        """See `Measurement.unseen`: it adds up to nothing in every slice, and all of it is the model's."""
        planes = self.plan.to_stack(result.array) - np.float32(self.units.zero)
        array = self.plan.from_stack(self.plan.stack.unseen(planes))
        return result.with_array(array, Step("restore:null", {}))

    def local_sigma(self) -> float | RealArray:
        """See `Measurement.local_sigma`."""
        return self.sigma

    def expected_sigma(self) -> float | RealArray:
        """See `Measurement.expected_sigma`: slices without noise are reproduced to within what counts."""
        return np.maximum(np.float32(self.taken) * self.sigma, np.float32(self.floor))

    def physical(self, array: FloatArray) -> FloatArray:
        """See `Measurement.physical`; the result goes on to agree with the slices as it did.

        Removing negative voxels brightens the slices that they lie in; the multiplicative update of
        Richardson and Lucy (J Opt Soc Am 62, 1972, eq. 3) undoes that and makes no new negative voxels.
        """
        if not self.nonnegative or array.min() >= 0:
            return super().physical(array)
        touched = array.min(axis=-1) < 0
        if self.ridge == 0:
            slices = np.asarray(self.plan.to_stack(self.scan.array)[touched], dtype=np.float32)
        else:  # noise is not reproduced
            slices = np.maximum(self.plan.stack.forward(array[touched]), 0)
        result = array.copy()
        result[touched] = _reproduced(array[touched], slices, self.plan.stack, TINY * self.units.reference)
        return result

    def evidence(self, result: Volume) -> Mapping[str, JSON]:
        """See `Measurement.evidence`: the slices less those of the result, in the units of the scan."""
        residual = np.abs(self.remeasure(result) - self.scan.array)
        rms = float(np.sqrt(np.mean(np.square(residual, dtype=np.float64))))
        sigma = self.noise.sigma
        return {
            **self.facts,
            "residual_rms": rms,
            "residual_max": float(residual.max()),
            "residual_rms_of_p99": rms / self.units.reference,
            "residual_rms_of_sigma": rms / sigma if sigma > 0 else None,
        }


def _reproduced(planes: FloatArray, slices: FloatArray, stack: SliceStack, tiny: float) -> FloatArray:
    """Return planes without negative voxels, near the given planes, that reproduce nonnegative slices.

    Args:
        planes: (N, planes).
        slices: (N, slices).
        stack: How the slices were measured.
        tiny: Stands for zero where something is multiplied or divided by.
    """
    least, weight = np.float32(tiny), stack.matrix.sum(axis=0).astype(np.float32)
    seen = weight > 1e-3  # planes in a gap stay
    planes = np.maximum(planes, least)
    for _ in range(ROUNDS):
        ratio = np.asarray(slices / np.maximum(stack.forward(planes), least), dtype=np.float32)
        planes = planes * np.where(seen, stack.adjoint(ratio) / np.where(seen, weight, 1), 1)
    return np.where(planes > 2 * least, planes, np.float32(0))


def thick_slices(
    scan: Volume,
    spec: ModelSpec,
    options: RestoreOptions,
    series: Sequence[Volume] = (),
    given: GivenSlices | None = None,
) -> Measurement:
    """Describe a stack of slices that is to be resolved.

    Args:
        scan: The stack, any orientation.
        spec: The model.
        options: `noise`, and the options of `plan_slices`.
        series: See `restore`.
        given: What the model is given of it; None for the stack as it is.

    Raises:
        GeometryError, ConfigError: See `plan_slices`.
    """
    scan, padding, findings = _padding_as_air(scan, spec)
    plan = plan_slices(scan, options)
    units = model_units(spec.intensity, scan.array)
    given = given or _as_measured(scan, plan, units, spec, options, series)
    voxels = given.array if padding is None else np.where(padding, np.float32(AIR_HU), given.array)
    slices = units.to_model(plan.to_stack(voxels))
    upsampled = upsample(slices, plan.stack, given.left / units.one)
    image = torch.from_numpy(upsampled.image)[None, None]
    gain = torch.from_numpy(upsampled.gain).expand(image.shape)
    nonnegative = is_nonnegative(spec, scan)
    return ThickSlices(
        scan=scan,
        units=units,
        noise=given.noise,
        condition=Condition(image, upsampled.sigma, gain, upsampled.details),
        baseline=_spline(scan, plan, units, nonnegative=nonnegative),
        nonnegative=nonnegative,
        start=FIRST_LEVEL,
        facts={**plan.facts, "denoised_with": given.denoised_with},
        findings=findings + given.findings,
        plan=plan,
        slices=slices,
        ridge=_ridge(upsampled.sigma, given.left / units.one),
        floor=NOISE_FLOOR[spec.intensity] * units.reference,
        sigma=given.sigma,
        taken=given.share,
    )


def _padding_as_air(scan: Volume, spec: ModelSpec) -> tuple[Volume, BoolArray | None, tuple[Finding, ...]]:
    """Return a scan of CT whose voxels that were not measured are air, and where these are; others as is."""
    padding = padding_in(scan.array, spec.intensity)
    if padding is None:
        return scan, None, ()
    count = int(np.count_nonzero(padding))
    text = f"{count} voxels below {UNMEASURED_HU:.0f} HU were not measured and were taken for air"
    air = np.where(padding, np.float32(AIR_HU), scan.array)
    scan = scan.with_array(air, Step("padding:air", {"voxels": count}))
    return scan, padding, (UNMEASURED_VOXELS.found(text, voxels=count),)


def _as_measured(
    scan: Volume,
    plan: SlicePlan,
    units: Units,
    spec: ModelSpec,
    options: RestoreOptions,
    series: Sequence[Volume],
) -> GivenSlices:
    """Return the slices with all of their noise."""
    requested = requested_noise(scan, options)
    if spec.is_mr:
        found = mr_noise_level(scan, requested, units.reference, noise_pairs(series))
    else:
        found = noise_level(plan.to_stack(scan.array), requested, units.reference, spec.intensity)
    noise = without_faint(found, spec.intensity)
    return GivenSlices(array=scan.array, left=noise.sigma, noise=noise, sigma=noise.sigma)


def _spline(scan: Volume, plan: SlicePlan, units: Units, *, nonnegative: bool) -> Volume:
    """Return the cubic spline through the slices of a scan, as a volume; it undershoots beside edges."""
    planes = plan.stack.interpolate(units.to_model(plan.to_stack(scan.array)))
    voxels = units.from_model(plan.from_stack(planes))
    step = Step("interpolate:spline", {"spacing_mm": plan.target_mm})
    return scan.on_grid(np.maximum(voxels, 0) if nonnegative else voxels, plan.geometry, step)


def without_faint(found: NoiseLevel, intensity: Intensity) -> NoiseLevel:
    """Set an estimate to zero that slices without noise have too."""
    return found if found.is_given or found.fraction >= NOISE_FLOOR[intensity] else taken_for_none(found)


def taken_for_none(found: NoiseLevel) -> NoiseLevel:
    """Set a level to zero, and say what it was."""
    method = f"{found.method}; {found.fraction:.2%} is taken for none"
    return replace(found, sigma=0.0, fraction=0.0, method=method, beyond_band=None)


def _ridge(expected: float, noise: float) -> float:
    """Return the noise variance of a slice over the error variance of a restored plane."""
    return 0.0 if noise == 0 else (noise / UNKNOWN) ** 2 / (expected**2 - noise**2)
