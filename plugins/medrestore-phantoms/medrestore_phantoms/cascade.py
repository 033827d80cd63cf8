"""From 8 mm to 4 mm to the voxels that are asked for: three stages of two networks.

Every stage is a denoiser of two measurements: the noisy state, and a baseline that is off by a known
deviation. For the first the baseline is the mean over all people, off by their deviation, which differs from
place to place, see `population`; for the others it is what the stage before made, off by the detail that
people have there and coarser voxels do not show. With that as its second measurement,
`TwoMeasurementDenoiser` is the preconditioning of Karras et al. (2022) around the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ModelError, reason_of
from medrestore.networks.voxelnet import VoxelNet
from medrestore.plugin import Stage
from medrestore.provenance import sha256_file
from medrestore_phantoms.population import FirstNetwork, Population, PopulationDenoiser, typical

FIRST_MM, SECOND_MM = 8.0, 4.0

COARSE, FINE = "detail.coarse", "detail.fine"
"""Parts of the weights of each kind: what 4 mm show beyond 8, and the result beyond 4. Standard deviation in
voxels of `FIRST_MM`, (1, X, Y, Z)."""

HIGH = 4.0
"""First level of the first stage over the deviation of the first principal component. What begins with less
noise than people differ by stays near their mean."""

NEAR, LOW = 20.0, 0.03
"""First level of the finer stages, and last level of all, in units of what the baseline is off by."""

ROUGHNESS = 0.01
"""Noise that the finer stages are told that their baseline has: what the coarser stage got wrong."""


def finer_network() -> VoxelNet:
    """Return the network of all finer voxels, which is told their size and the noise of its baseline."""
    return VoxelNet((64, 96, 128), (1, 2, 2), (2, 2), details=2)


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
        first.load_state_dict(part(tensors, "first"))
        finer.load_state_dict(part(tensors, "finer"))
        of_kind = part(tensors, kind)
        population, coarse, fine = Population(of_kind), of_kind[COARSE], of_kind[FINE]
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise ModelError(f"{weights}: no weights of phantoms ({reason_of(error)})") from error
    for network in (first, finer):
        network.to(device).eval().requires_grad_(False)
    return (
        Stage(
            denoiser=PopulationDenoiser(first, population),
            condition=lambda baseline, spacing: population.condition(),
            levels=(HIGH * population.widest, LOW * population.typical),
            spacing_mm=FIRST_MM,
            multiple=4,
        ),
        _finer_stage(finer, SECOND_MM, coarse),
        _finer_stage(finer, None, fine),
    )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a part without its prefix, numbers in single precision."""
    return {
        name.removeprefix(f"{prefix}."): one.float() if one.is_floating_point() else one
        for name, one in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _on_grid(detail: Tensor, shape: Sequence[int], spacing_mm: float) -> Tensor:
    """Return a map of detail on cubes around the middle of the field, (1, 1, X, Y, Z)."""
    reach = [n * spacing_mm / (m * FIRST_MM) for n, m in zip(shape, detail.shape[1:], strict=True)]
    scaling = F.pad(torch.diag(detail.new_tensor(reach[::-1])), (0, 1))
    grid = F.affine_grid(scaling[None], [1, 1, *shape], align_corners=False)
    return F.grid_sample(detail[None], grid, padding_mode="border", align_corners=False)


def _finer_stage(network: nn.Module, spacing_mm: float | None, detail: Tensor) -> Stage:
    level = typical(detail)

    def of_the_coarser(baseline: Tensor, spacing: float) -> Condition:
        gain = _on_grid(detail, baseline.shape[2:], spacing) / level
        return Condition(baseline, level, gain, details=finer_details(spacing, ROUGHNESS))

    return Stage(
        denoiser=TwoMeasurementDenoiser(network),
        condition=of_the_coarser,
        levels=(NEAR * level, LOW * level),
        spacing_mm=spacing_mm,
        multiple=8,
    )
