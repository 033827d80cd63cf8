"""Validation on whole scans that are never trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.engine.sampling.tiled_denoiser import TiledDenoiser
from medrestore.errors import InputError
from medrestore.io import read
from medrestore.metrics import head_mask, psnr, reference_range
from medrestore.noise.ct import without_padding
from medrestore.noise.intensity import model_units
from medrestore.physics.kspace import colour_details
from medrestore.physics.mr_noise import add_rician
from medrestore.physics.slices import SliceStack
from medrestore.plugin import Intensity
from medrestore.training import anatomy
from medrestore.training.corpus import check_scan
from medrestore.training.ct_noise import unit_noise
from medrestore.training.degrade import Degraded, on_fine_grid
from medrestore.training.grids import trim_air
from medrestore.training.recipe import CtOptions, SliceOptions
from medrestore.types import FloatArray

LEVELS = (0.03, 0.05, 0.10)
FACTORS = (2, 4, 6)
TILE = 256
CT_LEVELS = {"soft": 0.02, "sharp": 0.07}
"""Noise in soft tissue, as a fraction of the attenuation of water, by kernel."""
CT_SLICES = 32
SOFT_TISSUE = (0.84, 1.24)
"""-160 to 240 HU."""
UNSEEN = 90_000
"""Seed of what is validated on."""


@dataclass(frozen=True)
class Case:
    """A clean scan, (X, Y, Z) in model units, and what was made of it.

    Attributes:
        name: Of the scan.
        clean: The truth.
        degraded: What was made of it.
        window: Values that are looked at, in CT; None for the whole range inside the head.
    """

    name: str
    clean: FloatArray
    degraded: Degraded
    window: tuple[float, float] | None = None


def make_cases(
    paths: list[Path], intensity: Intensity, slices: SliceOptions | None = None, *, colour: bool = False
) -> list[Case]:
    """Read the validation scans and degrade them, the same way in every run.

    Denoising is judged at white Rician noise of `LEVELS`, super-resolution at boxcar slices of `FACTORS`
    planes along the last axis.

    Args:
        paths: The scans.
        intensity: Units of the model.
        slices: For super-resolution.
        colour: Whether the model is told the colour of the noise.

    Raises:
        InputError: A scan cannot be read, holds nothing, or has too few planes to make slices of.
    """
    details = colour_details((0.0, 0.0, 0.0)) if colour else ()
    cases = []
    for number, path in enumerate(paths):
        array = read(path).array
        clean = np.maximum(trim_air(model_units(intensity, array).to_model(array)), 0)
        check_scan(path, clean)
        if slices is not None:
            factors = [factor for factor in FACTORS if 2 * factor <= clean.shape[2]]
            if not factors:
                raise InputError(
                    f"{path}: has {clean.shape[2]} planes along the last axis, without air; expected "
                    f"{2 * FACTORS[0]} or more for validation: choose another scan"
                )
            cases += [Case(path.name, clean, in_boxcar_slices(clean, factor)) for factor in factors]
            continue
        for level in LEVELS:
            rng = np.random.default_rng((number, round(level * 1000)))
            noisy = add_rician(clean, level, rng)
            cases.append(Case(path.name, clean, Degraded(noisy, np.ones_like(clean), level, details)))
    return cases


def make_ct_cases(paths: list[Path]) -> list[Case]:
    """Simulate two low doses on the validation scans and on a computed body that is never trained on.

    They are judged in the window of soft tissue: with a soft kernel at the first of `CT_LEVELS`, with a sharp
    one at the second.
    """
    made = anatomy.torso(np.random.default_rng(UNSEEN))
    scans = [("computed body", made.hu, made.spacing)]
    for path in paths:
        volume = read(path)
        step = volume.spacing
        scans.append((path.name, without_padding(volume.array), (step[0], step[1], step[2])))
    cases = []
    for name, hounsfield, spacing in scans:
        whole = trim_air(model_units(Intensity.ATTENUATION, hounsfield).to_model(hounsfield))
        middle = max((whole.shape[2] - CT_SLICES) // 2, 0)
        clean = whole[:, :, middle : middle + CT_SLICES]
        for kernel, level in CT_LEVELS.items():
            rng = np.random.default_rng((UNSEEN, round(level * 1000)))
            noise = unit_noise(clean, spacing, CtOptions(kernels=(kernel,)), rng)[0].astype(np.float32)
            scan = clean + np.float32(level) * noise
            cases.append(Case(name, clean, Degraded(scan, np.ones_like(clean), level), SOFT_TISSUE))
    return cases


def in_boxcar_slices(clean: FloatArray, factor: int) -> Degraded:
    """Measure slices of `factor` planes without a gap or noise, and put them back on the grid."""
    planes = clean.shape[2]
    stack = SliceStack(planes, planes // factor, factor, factor, first=(factor - 1) / 2)
    return on_fine_grid(stack.forward(clean), stack, noise=0.0)


def validator(cases: list[Case], bfloat16: bool) -> Callable[[nn.Module], float]:
    """Return a function that scores a network: mean PSNR in dB of one evaluation, inside the head."""

    def score(network: nn.Module) -> float:
        values = [psnr_of(network, case, bfloat16) for case in cases]
        return float(np.mean(values))

    return score


def psnr_of(network: nn.Module, case: Case, bfloat16: bool) -> float:
    """PSNR in dB of the posterior mean of one case.

    Inside the head, of the range of the clean scan; in CT, of the range of a window and what is within it.
    """
    device = next(network.parameters()).device
    denoiser = TwoMeasurementDenoiser(network, torch.bfloat16 if bfloat16 else None)
    tiled = TiledDenoiser(denoiser, TILE, network.halo, network.multiple, device)  # type: ignore[arg-type]
    made = case.degraded
    image, gain = (torch.from_numpy(np.array(part))[None, None] for part in (made.scan, made.gain))
    estimate = tiled(image, float("inf"), Condition(image, made.sigma, gain, made.details))[0, 0].numpy()
    if case.window is not None:
        low, high = case.window
        estimate, clean = np.clip(estimate, low, high), np.clip(case.clean, low, high)
        return psnr(estimate, clean, data_range=high - low, mask=(clean > low) & (clean < high))
    mask = head_mask(case.clean)
    return psnr(np.maximum(estimate, 0), case.clean, data_range=reference_range(case.clean), mask=mask)
