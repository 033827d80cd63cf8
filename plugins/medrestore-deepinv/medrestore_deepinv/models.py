"""deepinv's algorithms, run over a volume, with a denoiser of medrestore for their prior.

They were made for networks that know all levels of noise up to 1 and beyond. A denoiser of medrestore knows
those of scans, so each algorithm starts from the measured volume with noise of `HIGHEST`, which hides what a
blur did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from deepinv.optim.data_fidelity import L2
from deepinv.physics import DecomposablePhysics, GaussianNoise
from deepinv.sampling import (
    DDRM,
    AncestralSolver,
    DiffPIR,
    DPSDataFidelity,
    PosteriorDiffusion,
    VarianceExplodingDiffusion,
)
from torch import Tensor

from medrestore import LoadContext
from medrestore.diffusion import Condition, Denoiser
from medrestore_deepinv.blur import Blur
from medrestore_deepinv.denoiser import MedrestoreDenoiser

PRIOR = "medrestore/mr-denoise"
HIGHEST, LOWEST = 0.15, 0.005
"""Levels between which the prior is used, in model units."""

STEPS, DRAWS = 12, 2
"""Of each algorithm, which draws from the posterior; and how many draws the mean is taken over."""

HEADROOM = 1.1
"""Over the brightest voxel: the algorithms clip at 1."""

SEED = 0
"""Of their noise: the same scan gives the same result."""


def reconstruction(
    algorithm: str, width: float, context: LoadContext, prior: Denoiser | None = None
) -> Denoiser:
    """Make a model.

    Args:
        algorithm: One of `ALGORITHMS`.
        width: Of the blur, in voxels.
        context: Where it runs.
        prior: Denoiser in model units; None for `PRIOR`.
    """
    denoiser = (
        MedrestoreDenoiser.of_model(PRIOR, device=context.device)
        if prior is None
        else MedrestoreDenoiser(prior)
    )

    def reconstruct(x: Tensor, sigma: float, condition: Condition) -> Tensor:
        del x, sigma  # the mean, from the scan alone
        blur = Blur(tuple(condition.image.shape[2:]), width)
        gain = torch.ones_like(condition.image) if condition.gain is None else condition.gain
        levels = condition.sigma * gain.square().mean(dim=(1, 2, 3, 4)).sqrt()
        # One scan after another: what is drawn for one does not depend on its neighbours.
        problems = [
            Problem(blur, scan, float(level))
            for scan, level in zip(condition.image.split(1), levels, strict=True)
        ]
        return torch.cat([draw(algorithm, denoiser, one).mean(dim=0) for one in problems])

    return reconstruct


@dataclass(frozen=True, eq=False)
class Problem:
    """What was measured of one volume.

    Attributes:
        blur: That it went through.
        scan: (1, 1, X, Y, Z) in model units.
        sigma: Its noise.
    """

    blur: Blur
    scan: Tensor
    sigma: float

    @property
    def scale(self) -> float:
        """What brings the scan to 0 to 1."""
        return 1 / (HEADROOM * max(float(self.scan.max()), 1e-6))

    @property
    def physics(self) -> DecomposablePhysics:
        """The blur and its noise as deepinv takes them, in units of 0 to 1."""
        values = self.blur.values.to(self.scan)
        return DecomposablePhysics(
            U=self.blur.image,
            U_adjoint=self.blur.spectrum,
            V=self.blur.image,
            V_adjoint=self.blur.spectrum,
            # What is measured worse than the prior starts with is taken for not measured: DDRM's start would
            # need noise of less than none.
            mask=values.where(values * HIGHEST > self.sigma, 0),
            noise_model=GaussianNoise(max(self.sigma, LOWEST) * self.scale),
            device=self.scan.device,
        )


def draw(algorithm: str, denoiser: MedrestoreDenoiser, problem: Problem) -> Tensor:
    """Return draws from the posterior, (draws, 1, 1, X, Y, Z) in model units."""
    denoiser.scale = problem.scale
    measured = problem.scan.clone() * problem.scale
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        torch.manual_seed(SEED)
        if problem.sigma >= HIGHEST:  # the noise hides what the blur did, and no algorithm could begin
            made = [denoiser(measured, problem.sigma * problem.scale)]
        else:
            run = ALGORITHMS[algorithm]
            made = [run(denoiser, measured.clone(), problem.physics) for _ in range(DRAWS)]
    return (torch.stack(made) / problem.scale).to(torch.float32)


def run_ddrm(denoiser: MedrestoreDenoiser, scan: Tensor, physics: DecomposablePhysics) -> Tensor:
    """Run DDRM (Kawar et al. 2022)."""
    levels = denoiser.scale * np.append(np.geomspace(HIGHEST, LOWEST, STEPS - 1), 0.0)
    made: Tensor = DDRM(denoiser, sigmas=levels)(scan, physics)
    return made


class _KnownLevels(DiffPIR):
    """DiffPIR from its prior's highest level, where deepinv's starts at the last of its schedule."""

    highest = 1.0

    def get_noise_schedule(self, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        rhos, sigmas, _ = super().get_noise_schedule(sigma)
        first = int((sigmas > 2 * self.highest).sum())  # its volumes reach from -1 to 1
        steps = torch.linspace(first, len(sigmas) - 1, self.max_iter).round().int()
        return rhos, sigmas, steps

    def get_alpha_prod(self, *args: float, **kwargs: float) -> tuple[Tensor, Tensor]:
        last = int((self.reduced_alpha_cumprod <= 2 * self.highest).sum())
        made: list[Tensor] = [part[:last] for part in super().get_alpha_prod(*args, **kwargs)]
        return made[0], made[1]


def run_diffpir(denoiser: MedrestoreDenoiser, scan: Tensor, physics: DecomposablePhysics) -> Tensor:
    """Run DiffPIR (Zhu et al. 2023)."""
    kind = type("DiffPIR", (_KnownLevels,), {"highest": HIGHEST * denoiser.scale})
    sigma = float(physics.noise_model.sigma)
    made: Tensor = kind(denoiser, L2(), sigma=sigma, max_iter=STEPS, zeta=0.3, lambda_=7.0)(
        scan, physics, x_init=scan
    )
    return made


def run_dps(denoiser: MedrestoreDenoiser, scan: Tensor, physics: DecomposablePhysics) -> Tensor:
    """Run DPS (Chung et al. 2023), with the variance that grows from the scan's noise to the state's."""
    highest = HIGHEST * denoiser.scale
    sde = VarianceExplodingDiffusion(sigma_min=LOWEST * denoiser.scale, sigma_max=highest, alpha=1.0)
    times = torch.linspace(1, 0, STEPS, dtype=torch.float64)
    model = PosteriorDiffusion(
        data_fidelity=DPSDataFidelity(denoiser=denoiser, guidance="annealed", weight=1.0),
        denoiser=denoiser,
        sde=sde,
        solver=AncestralSolver(timesteps=times),
        minus_one_one=False,
    )
    start = scan + highest * torch.randn_like(scan)
    made: Tensor = model(scan, physics, x_init=start.double())
    return made


ALGORITHMS: Mapping[str, Callable[[MedrestoreDenoiser, Tensor, DecomposablePhysics], Tensor]] = {
    "ddrm": run_ddrm,
    "diffpir": run_diffpir,
    "dps": run_dps,
}
"""By the names of their models."""
