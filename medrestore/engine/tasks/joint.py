"""A series that is denoised as one: its volumes share noise, units and the grid that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from medrestore.diffusion import Condition
from medrestore.engine.tasks.denoising import NoisyVoxels
from medrestore.engine.tasks.measurement import is_nonnegative
from medrestore.errors import InputError
from medrestore.noise.intensity import padding_in
from medrestore.noise.measured_grid import find_measured_grid
from medrestore.physics.mr_noise import sum_of_squares_as_rician
from medrestore.plugin import ModelSpec
from medrestore.volume import Volume


@dataclass(frozen=True)
class JointMeasurement:
    """What a whole series measured.

    Attributes:
        volumes: Each volume by itself, in order; their images are parts of the condition's.
        condition: What the model is told: the image is (T, 1, X, Y, Z), a volume for each of T.
    """

    volumes: tuple[NoisyVoxels, ...]
    condition: Condition


def middle(volumes: Sequence[Volume]) -> Volume:
    """Return the volume that the noise of a series is read in: the first may be another contrast."""
    return volumes[len(volumes) // 2]


def joined(lead: NoisyVoxels, volumes: Sequence[Volume], spec: ModelSpec) -> JointMeasurement:
    """Describe a series by what its middle volume says of noise, units and grid.

    Args:
        lead: What was measured of the middle volume.
        volumes: All of the series, in order.
        spec: The model.

    Raises:
        InputError: The volumes are not on one grid, or of several modalities.
    """
    for number, volume in enumerate(volumes):
        alike = volume.geometry.allclose(lead.scan.geometry) and volume.modality is lead.scan.modality
        if not alike:
            raise InputError(
                f"volume {number} of the series has another grid or modality than the middle one; a series "
                "that is restored as one has one of each: leave --volumes out"
            )
    described = [lead if one is lead.scan else _alike(lead, one, spec) for one in volumes]
    image = torch.cat([one.condition.image for one in described])
    gain = None if lead.condition.gain is None else lead.condition.gain.expand_as(image)
    # From here on, the images are held once.
    parts = (replace(one.condition, image=image[t : t + 1]) for t, one in enumerate(described))
    held = tuple(replace(one, condition=part) for one, part in zip(described, parts, strict=True))
    return JointMeasurement(held, replace(lead.condition, image=image, gain=gain))


def _alike(lead: NoisyVoxels, volume: Volume, spec: ModelSpec) -> NoisyVoxels:
    """Describe another volume of the series."""
    voxels, measured = np.moveaxis(volume.array, lead.slice_axis, -1), lead.noise.measured
    if measured is not None:
        voxels = sum_of_squares_as_rician(voxels, lead.floor, measured.coils)
    grid = find_measured_grid(voxels, lead.grid.sizes)
    padding = padding_in(voxels, spec.intensity)
    image = lead.units.to_model(grid.measured(voxels))
    if padding is not None:
        image[padding] = 0
    return replace(
        lead,
        scan=volume,
        baseline=volume,
        condition=replace(lead.condition, image=torch.from_numpy(image)[None, None]),
        nonnegative=is_nonnegative(spec, volume),
        grid=grid,
        padding=padding,
    )
