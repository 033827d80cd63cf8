"""Validation on whole scans that are never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.engine.tiling import TiledDenoiser
from medrestore.io import read
from medrestore.metrics import head_mask, psnr, reference_range
from medrestore.physics.noise import add_rician
from medrestore.training.corpus import in_percentile_units
from medrestore.training.patches import trim_air
from medrestore.types import FloatArray

LEVELS = (0.03, 0.05, 0.10)
TILE = 256


@dataclass(frozen=True)
class Case:
    """A clean scan with Rician noise added, both (X, Y, Z) in units of the 99th percentile."""

    name: str
    level: float
    clean: FloatArray
    scan: FloatArray


def make_cases(paths: list[Path], levels: tuple[float, ...] = LEVELS) -> list[Case]:
    """Read the validation scans and add noise that is the same in every run."""
    cases = []
    for number, path in enumerate(paths):
        clean = np.maximum(trim_air(in_percentile_units(read(path).array)), 0)
        for level in levels:
            rng = np.random.default_rng((number, round(level * 1000)))
            cases.append(Case(path.name, level, clean, add_rician(clean, level, rng)))
    return cases


def validator(cases: list[Case], bfloat16: bool) -> Callable[[nn.Module], float]:
    """Return a function that scores a network: mean PSNR in dB of one evaluation, inside the head."""

    def score(network: nn.Module) -> float:
        values = [psnr_of(network, case, bfloat16) for case in cases]
        return float(np.mean(values))

    return score


def psnr_of(network: nn.Module, case: Case, bfloat16: bool) -> float:
    """PSNR in dB of the posterior mean of one case, inside the head, range that of the clean scan."""
    device = next(network.parameters()).device.type
    denoiser = TwoMeasurementDenoiser(network, torch.bfloat16 if bfloat16 else None)
    tiled = TiledDenoiser(denoiser, TILE, network.halo, network.multiple, device)  # type: ignore[arg-type]
    image = torch.from_numpy(case.scan)[None, None]
    estimate = tiled(image, float("inf"), Condition(image, case.level))[0, 0].numpy()
    mask = head_mask(case.clean)
    return psnr(np.maximum(estimate, 0), case.clean, data_range=reference_range(case.clean), mask=mask)
