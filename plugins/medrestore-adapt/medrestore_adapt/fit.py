"""A network fitted to one scan: a few scales and shifts, by the risk, and a judgement on what was held out.

After Mohan et al., Adaptive denoising via GainTuning (NeurIPS 2021): what is fitted is a scale or a shift of
each channel of a layer, too little to learn the noise by heart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore_adapt.risk import probes, risk

FITTED = ("film.bias", "norm.weight", "norm.bias")
"""Ends of the names of the weights that are fitted: scales and shifts of channels."""

TISSUE = 4.0
"""Where the estimate is more than so many deviations of the noise, that of a magnitude is nearly Gaussian."""

FILLED = 0.3
"""Part of a patch that must be tissue."""

CELL = 8
"""Voxels along each axis of the cells whose differences say how sure the judgement is."""

SURE = 2.0
"""Standard errors by which the risk must fall."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a network is fitted.

    Attributes:
        steps: Of the optimiser, each on one patch.
        rate: Its learning rate at first; it falls to zero.
        side: Voxels along each axis of a patch.
        held_out: Part of the patches that are judged by and not fitted to.
        most: Patches of either kind at most.
        seed: Of patches and probes.
    """

    steps: int = 120
    rate: float = 2e-3
    side: int = 32
    held_out: float = 0.34
    most: int = 24
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Mean:
    """What a model makes of a scan: says where tissue is, and how much its noise brightens it.

    Attributes:
        image: (1, 1, X, Y, Z) in model units.
        magnitude: Whether the scan is one of magnitudes. Noise of deviation s makes a magnitude A larger by
            s^2 / 2 A on average (Gudbjartsson and Patz, Magn Reson Med 34, 1995); what is fitted must not
            learn to leave that in.
    """

    image: Tensor
    magnitude: bool = False

    def tissue(self, condition: Condition) -> Tensor:
        """Return where the scan is well above its noise."""
        return self.image > TISSUE * _sigma(condition)

    def unbiased(self, condition: Condition) -> Tensor:
        """Return the scan less what its noise adds on average; it means nothing but in tissue."""
        if not self.magnitude:
            return condition.image
        sigma = _sigma(condition)
        bright = self.image.clamp(min=TISSUE * condition.sigma)
        return condition.image - sigma**2 / (2 * bright)


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of a scan.

    Attributes:
        condition: What was measured there.
        tissue: Where it counts.
        unbiased: See `Mean.unbiased`.
    """

    condition: Condition
    tissue: Tensor
    unbiased: Tensor

    def risk(self, estimate: Callable[[Condition], Tensor], generator: torch.Generator) -> Tensor:
        """Return the risk of a denoiser at each voxel, see `medrestore_adapt.risk`."""
        probe = probes(tuple(self.tissue.shape), correlations(self.condition), generator)
        return risk(estimate, self.condition, probe, self.unbiased)


@dataclass(frozen=True)
class Judgement:
    """What became of the risk on patches that were held out.

    Attributes:
        before: Risk of the model, over the variance of the noise.
        after: Of the fitted one.
        error: Standard error of their difference.
    """

    before: float
    after: float
    error: float

    @property
    def better(self) -> bool:
        """Whether the risk has fallen beyond doubt."""
        return self.after - self.before + SURE * self.error < 0

    @property
    def gain_db(self) -> float:
        """What PSNR gains in tissue, as far as this tells."""
        return 10 * math.log10(self.before / self.after) if self.after > 0 and self.before > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network that was fitted to a scan, and the patches that it is judged by.

    Attributes:
        denoiser: Whose network it is.
        held_out: Patches that nothing was fitted to.
        ends: Each scale and shift before and after.
        before: What the patches came to before, see `_cells`.
        seed: Of the probes.
    """

    denoiser: TwoMeasurementDenoiser
    held_out: Sequence[Patch]
    ends: Sequence[tuple[Tensor, Tensor]]
    before: Tensor
    seed: int

    def taken(self, part: float) -> Judgement:
        """Change the network by a part of what was fitted, 0 to 1; return what that comes to."""
        with torch.inference_mode():
            for weight, (old, new) in zip(fitted_weights(self.denoiser.network), self.ends, strict=True):
                weight.copy_(torch.lerp(old, new, part))
        after = torch.cat([_cells(self.denoiser, patch, self.seed) for patch in self.held_out])
        return _judgement(self.before, after)


def fit(
    denoiser: TwoMeasurementDenoiser,
    condition: Condition,
    mean: Mean,
    plan: Plan,
    on_step: Callable[[int, float], None] | None = None,
) -> Fitted | None:
    """Fit the network of a denoiser in place.

    Args:
        denoiser: Whose network is changed.
        condition: The scan.
        mean: What the denoiser makes of it.
        plan: How.
        on_step: Called with the number of a step and the risk of its patch.

    Returns:
        What can be taken of it; None where the scan has too little tissue, and the network is as it was.
    """
    tissue, unbiased = mean.tissue(condition), mean.unbiased(condition)
    fitted, judged = (
        [Patch(_part(condition, box), tissue[box], unbiased[box].clone()) for box in boxes]
        for boxes in _boxes(tissue, plan, torch.Generator().manual_seed(plan.seed))
    )
    if not (fitted and judged):
        return None
    before = torch.cat([_cells(denoiser, patch, plan.seed) for patch in judged])
    old = [weight.detach().clone() for weight in fitted_weights(denoiser.network)]
    with torch.inference_mode(False), torch.enable_grad():
        _tune(denoiser, fitted, plan, on_step)
    new = [weight.detach().clone() for weight in fitted_weights(denoiser.network)]
    return Fitted(denoiser, judged, list(zip(old, new, strict=True)), before, plan.seed)


def _tune(
    denoiser: TwoMeasurementDenoiser,
    patches: Sequence[Patch],
    plan: Plan,
    on_step: Callable[[int, float], None] | None,
) -> None:
    network = denoiser.network.requires_grad_(False)
    weights = fitted_weights(network)
    for weight in weights:
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(weights, plan.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    generator = torch.Generator().manual_seed(plan.seed + 1)
    for step in range(plan.steps):
        patch = patches[step % len(patches)]
        found = patch.risk(lambda one: denoiser.differentiable(one.image, math.inf, one), generator)
        loss = found[patch.tissue].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(step, loss.item())
    network.requires_grad_(False)


def fitted_weights(network: nn.Module) -> list[nn.Parameter]:
    """Return the scales and shifts of a network."""
    return [weight for name, weight in network.named_parameters() if name.endswith(FITTED)]


def correlations(condition: Condition) -> tuple[float, ...]:
    """Return the correlation of the noise of neighbours along each axis; `details` has four times that."""
    return tuple(value / 4 for value in condition.details[:3])


def _sigma(condition: Condition) -> float | Tensor:
    return condition.sigma if condition.gain is None else condition.sigma * condition.gain


Box = tuple[slice, ...]


def _boxes(tissue: Tensor, plan: Plan, generator: torch.Generator) -> tuple[list[Box], list[Box]]:
    """Return patches with tissue, to fit to and to judge by: of an even grid, without overlap."""
    sides = [min(plan.side, size // 8 * 8) for size in tissue.shape[2:]]
    if min(sides) < CELL:
        return [], []
    starts = [range(0, size - side + 1, side) for size, side in zip(tissue.shape[2:], sides, strict=True)]
    whole = (slice(None), slice(None))
    boxes = [
        (*whole, *(slice(a, a + side) for a, side in zip(corner, sides, strict=True)))
        for corner in itertools.product(*starts)
    ]
    boxes = [box for box in boxes if float(tissue[box].float().mean()) >= FILLED]
    order = torch.randperm(len(boxes), generator=generator).tolist()
    apart = math.ceil(plan.held_out * len(boxes))
    chosen = [boxes[index] for index in order]
    return chosen[apart:][: plan.most], chosen[:apart][: plan.most]


def _part(condition: Condition, box: Box) -> Condition:
    gain = None if condition.gain is None else condition.gain[box].clone()
    return replace(condition, image=condition.image[box].clone(), gain=gain)


def _cells(denoiser: TwoMeasurementDenoiser, patch: Patch, seed: int) -> Tensor:
    """Return the sum of the risk and the number of voxels of tissue in each cell of a patch: (cells, 2)."""
    generator = torch.Generator().manual_seed(seed + 2)
    found = patch.risk(lambda one: denoiser(one.image, math.inf, one), generator) * patch.tissue
    both = torch.cat([found, patch.tissue.to(found.dtype)], dim=1)
    sums = torch.nn.functional.avg_pool3d(both, CELL) * CELL**3
    return sums.flatten(2)[0].T


def _judgement(before: Tensor, after: Tensor) -> Judgement:
    count = before[:, 1].sum()
    difference = after[:, 0] - before[:, 0]
    mean = difference.sum() / count
    spread = (difference - mean * before[:, 1]).square().sum().sqrt() / count
    return Judgement(float(before[:, 0].sum() / count), float(after[:, 0].sum() / count), float(spread))
