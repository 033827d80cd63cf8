"""Denoising: the scan measured every voxel of the result, with noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion import Condition
from medrestore.engine.intensity import model_units, padding_in
from medrestore.engine.measurement import Measurement, is_magnitude
from medrestore.engine.noise import NoiseLevel, noise_level
from medrestore.engine.noise_map import NoiseMap, estimate_noise_map
from medrestore.engine.options import RestoreOptions
from medrestore.engine.posterior import START, STEEPEST
from medrestore.engine.slice_plan import ct_slice_axis
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import Step
from medrestore.types import UNMEASURED_HU, BoolArray, FloatArray, Modality, RealArray
from medrestore.volume import Volume

LEAST_NOISE = 1e-4
"""Noise below this fraction of the 99th percentile is none: the scan is returned as it came."""


FAINT = 0.25
"""Estimated noise below this fraction of the least that a model was made for is left alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyVoxels(Measurement):
    """Every voxel of the result, plus noise; see `Measurement`.

    Attributes:
        share: How much of what the model takes out is taken out, from 0 to 1.
        across: Array axis of the scan that is the last of the condition's image.
        padding: Voxels of that image that were not measured and stay as they are, (X, Y, Z); None for none.
    """

    share: float = 1.0
    across: int = 2
    padding: BoolArray | None = None

    def finish(self, tensor: Tensor, step: Step) -> Volume:
        """See `Measurement.finish`."""
        if self.share < 1:
            torch.lerp(self.condition.image, tensor, self.share, out=tensor)
        return super().finish(tensor, step)

    def spread(self, tensor: Tensor, step: Step) -> Volume:
        """See `Measurement.spread`."""
        spread = self.share * tensor
        if self.padding is not None:
            spread[0, 0].numpy()[self.padding] = 0
        return super().spread(spread, step)

    def physical(self, array: FloatArray) -> FloatArray:
        """See `Measurement.physical`; what was not measured stays as it is."""
        array = super().physical(array)
        if self.padding is not None:
            array[self.padding] = np.moveaxis(self.scan.array, self.across, -1)[self.padding]
        return array

    def place(self, array: FloatArray, step: Step) -> Volume:
        """See `Measurement.place`: the result has the grid of the scan."""
        return self.scan.with_array(np.ascontiguousarray(np.moveaxis(array, -1, self.across)), step)

    def remeasure(self, result: Volume) -> RealArray:
        """See `Measurement.remeasure`."""
        return result.array

    def local_sigma(self) -> float | RealArray:
        """See `Measurement.local_sigma`."""
        gain = self.condition.gain
        return self.noise.sigma if gain is None else self.noise.sigma * np.asarray(gain[0, 0])


def noisy_voxels(scan: Volume, spec: ModelSpec, options: RestoreOptions) -> Measurement:
    """Describe a scan that is to be denoised.

    Args:
        scan: The scan.
        spec: The model.
        options: `noise` and `noise_map`.
    """
    units = model_units(spec.intensity, scan.array)
    across = ct_slice_axis(scan.geometry) if spec.intensity is Intensity.ATTENUATION else 2
    voxels = np.moveaxis(scan.array, across, -1)
    noise = noise_level(voxels, options.noise, units.reference, spec.intensity)
    # Weaker noise than the model was made for cannot be told from fine anatomy, let alone its variation.
    varying = noise_map(scan, spec, options) if noise.fraction >= spec.noise[0] else None
    gain = None
    if varying is not None:
        # Over the map, the noise has one level.
        level = noise_level(scan.array / varying.gain, options.noise, units.reference, spec.intensity)
        noise = replace(level, map=varying.range)
        gain = torch.from_numpy(varying.gain)[None, None]
    idle = None
    share, warnings = share_taken(noise, spec)
    if noise.fraction < LEAST_NOISE or share == 0:
        idle = f"no noise to remove ({noise.sigma:.3g}, {noise.method}): the scan is returned as it came"
    image = units.to_model(voxels)
    padding = padding_in(voxels, spec.intensity)
    if padding is not None:
        image[padding] = 0
        count = np.count_nonzero(padding)
        warnings += (
            f"{count} voxels below {UNMEASURED_HU:.0f} HU were not measured and are left as they are",
        )
    return NoisyVoxels(
        scan=scan,
        units=units,
        noise=noise,
        # Noise that varies over the scan is told by `gain`, (1, 1, X, Y, Z), relative to the level.
        condition=Condition(torch.from_numpy(image)[None, None], noise.sigma / units.one, gain=gain),
        baseline=scan,
        magnitude=is_magnitude(spec, scan),
        idle=idle,
        warnings=warnings,
        share=share,
        across=across,
        padding=padding,
        start=START if varying is None else START * min(max(varying.range.p95, 1), STEEPEST),
    )


def share_taken(noise: NoiseLevel, spec: ModelSpec) -> tuple[float, tuple[str, ...]]:
    """Return how much of what a model takes out is to be taken out, and a warning where that is not all.

    Below the noise that a model was made for, an estimate is fine texture in the main, and so is what the
    model would take out.
    """
    part = noise.fraction / spec.noise[0] if spec.noise[0] > 0 else 1.0
    share = min(max((part - FAINT) / (1 - FAINT), 0.0), 1.0)
    if noise.method == "given" or share == 1:
        return 1.0, ()
    if share == 0:
        return share, ()
    return share, (
        f"the noise is too weak to be told from fine texture: {share:.0%} of what {spec.name} would take out "
        "was taken out; pass the level of the noise to have all of it",
    )


def noise_map(scan: Volume, spec: ModelSpec, options: RestoreOptions) -> NoiseMap | None:
    """Return how the noise of a scan varies over it, where that is asked for and the model is one of MR."""
    if options.noise_map == "constant" or spec.intensity is not Intensity.P99:
        return None
    return estimate_noise_map(scan.array) if Modality.MR in spec.modalities else None
