"""Denoising: the scan measured every voxel of the result, with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from medrestore.diffusion import Condition
from medrestore.engine.intensity import model_units
from medrestore.engine.measurement import Measurement, is_magnitude
from medrestore.engine.noise import noise_level
from medrestore.engine.noise_map import NoiseMap, estimate_noise_map
from medrestore.engine.options import RestoreOptions
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import Step
from medrestore.types import FloatArray, Modality, RealArray
from medrestore.volume import Volume

LEAST_NOISE = 1e-4
"""Noise below this fraction of the 99th percentile is none: the scan is returned as it came."""


class NoisyVoxels(Measurement):
    """Every voxel of the result, plus noise; see `Measurement`."""

    def place(self, array: FloatArray, step: Step) -> Volume:
        """See `Measurement.place`: the result has the grid of the scan."""
        return self.scan.with_array(array, step)

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
    noise = noise_level(scan.array - units.zero, options.noise, units.reference, spec.intensity)
    # Weaker noise than the model was made for cannot be told from fine anatomy, let alone its variation.
    varying = noise_map(scan, spec, options) if noise.fraction >= spec.noise[0] else None
    gain = None
    if varying is not None:
        # Over the map, the noise has one level.
        level = noise_level(scan.array / varying.gain, options.noise, units.reference)
        noise = replace(level, map=varying.range)
        gain = torch.from_numpy(varying.gain)[None, None]
    idle = None
    if noise.fraction < LEAST_NOISE:
        idle = f"no noise to remove ({noise.sigma:.3g}, {noise.method}): the scan is returned as it came"
    image = torch.from_numpy(units.to_model(scan.array))[None, None]
    return NoisyVoxels(
        scan=scan,
        units=units,
        noise=noise,
        # Noise that varies over the scan is told by `gain`, (1, 1, X, Y, Z), relative to the level.
        condition=Condition(image, noise.sigma / units.one, gain=gain),
        baseline=scan,
        magnitude=is_magnitude(spec, scan),
        idle=idle,
    )


def noise_map(scan: Volume, spec: ModelSpec, options: RestoreOptions) -> NoiseMap | None:
    """Return how the noise of a scan varies over it, where that is asked for and the model is one of MR."""
    if options.noise_map == "constant" or spec.intensity is not Intensity.P99:
        return None
    return estimate_noise_map(scan.array) if Modality.MR in spec.modalities else None
