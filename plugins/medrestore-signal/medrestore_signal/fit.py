"""Training: minutes on a core, with the preconditioning that the models of scans are trained with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrestore.diffusion.precondition import network_inputs
from medrestore.errors import InputError
from medrestore_signal.model import FLATTEST, TALLEST, Shape, Signal, SignalModel
from medrestore_signal.network import SignalNet

UNEQUAL = 0.5
"""Deviation of the logarithm of the noise of a channel, relative to the others."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: Of the optimiser.
        batch: Signals a step.
        window: Places along each axis that are cut out of a signal; shorter signals are taken whole.
        rate: Highest learning rate.
        sigma: Lowest and highest noise, in deviations of the signals.
        width: Channels of the network.
        seed: Of weights, cuts and noise.
    """

    steps: int = 1500
    batch: int = 16
    window: int = 256
    rate: float = 2e-3
    sigma: tuple[float, float] = (0.03, 1.0)
    width: int = 48
    seed: int = 0


def fit(
    signals: Sequence[Signal], recipe: Recipe, on_step: Callable[[int, float], None] | None = None
) -> SignalModel:
    """Train a model.

    Args:
        signals: (C, ...) each, of any length.
        recipe: How.
        on_step: Called with the number of a step and its loss, which is 1 where nothing is learnt.

    Raises:
        InputError: There are none, or they differ in channels or axes.
    """
    shape = shape_of(signals, recipe.width)
    per_channel = np.concatenate([one.reshape(shape.channels, -1) for one in signals], axis=1)
    centre, scale = per_channel.mean(axis=1), per_channel.std(axis=1)
    if not (np.isfinite(scale).all() and scale.min() > 0):
        raise InputError("a channel is constant, or holds NaN; expected signals that vary")
    torch.manual_seed(recipe.seed)
    network = SignalNet(shape.channels, shape.axes, shape.width)
    units = torch.from_numpy(centre.astype(np.float32)), torch.from_numpy(scale.astype(np.float32))
    model = SignalModel(shape, network, *units)
    optimiser = torch.optim.Adam(network.parameters(), recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, recipe.steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(recipe.seed)
    for step, clean in enumerate(batches(model, signals, recipe)):
        loss = _loss(network, clean, recipe, generator)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(step, loss.item())
    network.eval().requires_grad_(False)
    return model


def shape_of(signals: Sequence[Signal], width: int) -> Shape:
    """Return what the signals have in common."""
    kinds = {(len(one), one.ndim - 1) for one in signals}
    if len(kinds) != 1 or not 1 <= (kind := next(iter(kinds)))[1] <= 3:
        raise InputError(
            f"{len(signals)} signals, {len(kinds)} kinds; expected (C, ...) of the same channels, along one "
            "to three axes"
        )
    return Shape(kind[0], kind[1], width)


def batches(model: SignalModel, signals: Sequence[Signal], recipe: Recipe) -> Iterator[Tensor]:
    """Yield a batch (B, C, ...) for each step, in the model's units: cuts as long as the shortest allows."""
    rng = np.random.default_rng(recipe.seed)
    for _ in range(recipe.steps):
        chosen = [signals[index] for index in rng.integers(len(signals), size=recipe.batch)]
        sizes = np.minimum(np.array([one.shape[1:] for one in chosen]).min(axis=0), recipe.window)
        cuts = []
        for one in chosen:
            starts = [rng.integers(n - size + 1) for n, size in zip(one.shape[1:], sizes, strict=True)]
            where = (slice(None), *(slice(a, a + size) for a, size in zip(starts, sizes, strict=True)))
            cuts.append(np.asarray(one[where], dtype=np.float32))
        yield model.units(torch.from_numpy(np.stack(cuts)))


def _loss(network: SignalNet, clean: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Return the error of the noise of unit variance, over pairs of levels of both measurements.

    Half of the pairs have a state without information, which is the posterior mean, and a tenth a scan
    without, which is a prior.
    """
    batch = len(clean)

    def uniform(low: float, high: float) -> Tensor:
        ends = torch.tensor([low, high]).log()
        return (ends[0] + (ends[1] - ends[0]) * torch.rand(batch, generator=generator)).exp()

    def noise() -> Tensor:
        return torch.randn(clean.shape, generator=generator)

    kind = torch.rand(batch, generator=generator)
    sigma_scan = uniform(*recipe.sigma)
    sigma_state = uniform(FLATTEST, 2 * recipe.sigma[1]).where(kind > 0.5, torch.tensor(torch.inf))
    prior = kind > 0.9
    sigma_state = torch.where(prior, uniform(FLATTEST, TALLEST), sigma_state)
    sigma_scan = sigma_scan.where(~prior, torch.tensor(torch.inf))
    each = (-1, *(1,) * (clean.ndim - 1))
    channels = torch.randn((batch, clean.shape[1]), generator=generator).mul(UNEQUAL).exp()
    channels = channels / channels.square().mean(dim=1, keepdim=True).sqrt()
    gain = channels.reshape(*channels.shape, *(1,) * (clean.ndim - 2)).expand_as(clean)
    state = clean + sigma_state.nan_to_num(posinf=0.0).reshape(each) * noise()
    scan = clean + sigma_scan.nan_to_num(posinf=0.0).reshape(each) * gain * noise()
    mean, k, inputs, levels = network_inputs(state, sigma_state, scan, sigma_scan, gain)
    return (network(inputs, levels) - (clean - mean) / k).square().mean()
