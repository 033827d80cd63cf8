"""Denoising: the scan measured every voxel of the result, with noise."""

from __future__ import annotations

import torch

from medrestore.diffusion import Condition
from medrestore.engine.intensity import model_units
from medrestore.engine.measurement import Measurement, is_magnitude
from medrestore.engine.noise import noise_level
from medrestore.engine.options import RestoreOptions
from medrestore.plugin import ModelSpec
from medrestore.provenance import Step
from medrestore.types import FloatArray, RealArray
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


def noisy_voxels(scan: Volume, spec: ModelSpec, options: RestoreOptions) -> Measurement:
    """Describe a scan that is to be denoised.

    Args:
        scan: The scan.
        spec: The model.
        options: `noise`.
    """
    units = model_units(spec.intensity, scan.array)
    noise = noise_level(scan.array - units.zero, options.noise, units.reference)
    idle = None
    if noise.fraction < LEAST_NOISE:
        idle = f"no noise to remove ({noise.sigma:.3g}, {noise.method}): the scan is returned as it came"
    image = torch.from_numpy(units.to_model(scan.array))[None, None]
    return NoisyVoxels(
        scan=scan,
        units=units,
        noise=noise,
        # Noise that varies over the scan is told by `gain`, (1, 1, X, Y, Z), relative to the level.
        condition=Condition(image, noise.sigma / units.one, gain=None),
        baseline=scan,
        magnitude=is_magnitude(spec, scan),
        idle=idle,
    )
