"""From 8 mm to 4 mm to the voxels that are asked for: three stages of two networks.

Every stage is a denoiser of two measurements: the noisy state, and a baseline that is off by a known
deviation. For the first the baseline is the mean over all people, off by their deviation, which differs from
place to place, see `population`; for the others it is what the stage before made. With that as its second
measurement, `TwoMeasurementDenoiser` is the preconditioning of Karras et al. (2022) around the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ModelError, reason_of
from medrestore.networks.voxelnet import VoxelNet
from medrestore.plugin import Stage
from medrestore.provenance import sha256_file
from medrestore_phantoms.population import FirstNetwork, Population, PopulationDenoiser

FIRST_MM, SECOND_MM = 8.0, 4.0

RESIDUAL = {SECOND_MM: 0.10, 0.0: 0.08}
"""Deviation of a finer volume from the coarser one, of 4 mm from 8, and of the result from 4."""

HIGH, LOW = 15.0, 0.03
"""First and last level of the first stage, in units of what the baseline is off by."""

NEAR = 0.8
"""First level of the finer stages, likewise: so near to what is expected of the coarser volume that they
draw less detail than people have. From higher levels these small networks draw grain."""

ROUGHNESS = 0.01
"""Noise that the finer stages are told that their baseline has: what the coarser stage got wrong."""


def finer_network() -> VoxelNet:
    """Return the network of all finer voxels, which is told their size and the noise of its baseline."""
    return VoxelNet((32, 64, 128), (2, 3, 3), (3, 2), details=2)


def finer_details(spacing_mm: float, roughness: float) -> tuple[float, float]:
    """Return the numbers that the finer network is told."""
    return math.log2(spacing_mm / 2), 20 * roughness


def load_cascade(weights: Path, sha256: str, kind: str, device: str) -> tuple[Stage, ...]:
    """Load the stages of one kind, ``"head"`` or ``"brain"``.

    Raises:
        ModelError: The weights cannot be read, or are other weights.
    """
    try:
        if sha256_file(weights) != sha256:
            raise ModelError(f"{weights}: these are other weights; install the plugin again")
        tensors = load_file(weights, device=device)
        first, finer = FirstNetwork(), finer_network()
        first.load_state_dict(_part(tensors, "first"))
        finer.load_state_dict(_part(tensors, "finer"))
        population = Population(_part(tensors, kind))
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(f"{weights}: no weights of phantoms ({reason_of(error)})") from error
    for network in (first, finer):
        network.to(device).eval().requires_grad_(False)
    return (
        Stage(
            denoiser=PopulationDenoiser(first, population),
            condition=lambda baseline, spacing: population.condition(),
            levels=(HIGH * population.typical, LOW * population.typical),
            spacing_mm=FIRST_MM,
            multiple=4,
        ),
        _finer_stage(finer, SECOND_MM, RESIDUAL[SECOND_MM]),
        _finer_stage(finer, None, RESIDUAL[0.0]),
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a part without its prefix, numbers in single precision."""
    return {
        name.removeprefix(f"{prefix}."): one.float() if one.is_floating_point() else one
        for name, one in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _finer_stage(network: nn.Module, spacing_mm: float | None, residual: float) -> Stage:
    def of_the_coarser(baseline: Tensor, spacing: float) -> Condition:
        return Condition(baseline, residual, details=finer_details(spacing, ROUGHNESS))

    return Stage(
        denoiser=TwoMeasurementDenoiser(network),
        condition=of_the_coarser,
        levels=(NEAR * residual, LOW * residual),
        spacing_mm=spacing_mm,
        multiple=8,
    )
