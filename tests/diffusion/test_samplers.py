"""Samplers against the closed-form denoiser of a Gaussian: data N(mu, s^2), measured twice."""

import math

import numpy as np
import pytest
import torch

from medrestore.diffusion import (
    add_noise,
    euler,
    geometric_levels,
    heun,
    karras_levels,
    one_step_mean,
    stochastic,
    volume_noise,
)

MU, S = 0.4, 0.25
SCAN_SIGMA = 0.2


def gaussian_denoiser(x, sigma):
    """E[clean | x] for clean ~ N(MU, S^2)."""
    if math.isinf(sigma):
        return torch.full_like(x, MU)
    return (S**2 * x + sigma**2 * MU) / (S**2 + sigma**2)


def exact_flow(x, high):
    """The probability flow of a Gaussian moves a state along its own quantile."""
    return MU + (x - MU) * S / math.sqrt(S**2 + high**2)


@pytest.mark.parametrize("schedule", [karras_levels, geometric_levels])
def test_levels_fall_from_high_to_zero(schedule):
    levels = schedule(7, 3.0, 0.01)
    assert len(levels) == 8
    assert levels[0] == pytest.approx(3.0)
    assert levels[-2] == pytest.approx(0.01)
    assert levels[-1] == 0.0
    assert all(a > b for a, b in zip(levels, levels[1:], strict=False))


@pytest.mark.parametrize("bad", [(0, 1.0, 0.1), (3, 0.1, 1.0), (3, 1.0, 0.0), (3, math.inf, 0.1)])
def test_impossible_levels_are_refused(bad):
    with pytest.raises(ValueError):
        karras_levels(*bad)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_deterministic_samplers_converge_at_their_order(sampler, order):
    high = 1.0
    x = MU + high * volume_noise((1, 1, 8, 8, 8), (0,))
    exact = exact_flow(x, high)
    # The last step to zero is a projection, not part of the integration; its size is set by the lowest level.
    error = [
        (sampler(gaussian_denoiser, x, karras_levels(n, high, 1e-5)) - exact).abs().max() for n in (16, 64)
    ]
    assert error[0] / error[1] > 0.7 * 4**order
    assert error[1] < 0.04 / order**5


def test_stochastic_sampler_has_the_variance_of_the_data():
    shape, high = (1, 1, 40, 40, 40), 4.0
    start = add_noise(torch.full(shape, MU), math.sqrt(S**2 + high**2), volume_noise(shape, (1,)))
    levels = karras_levels(200, high, 1e-3)
    x = stochastic(gaussian_denoiser, start, levels, lambda step: volume_noise(shape, (1, step)))
    assert x.mean().item() == pytest.approx(MU, abs=0.01)
    assert x.std().item() == pytest.approx(S, rel=0.03)


def test_one_step_mean_does_not_look_at_the_state():
    states = [volume_noise((1, 1, 4, 4, 4), (seed,)) for seed in (0, 1)]
    first, second = (one_step_mean(gaussian_denoiser, x) for x in states)
    assert torch.equal(first, second)
    assert torch.allclose(first, torch.tensor(MU))


@pytest.mark.parametrize("sampler", [euler, heun])
def test_callback_sees_every_step(sampler):
    seen = []
    levels = karras_levels(5, 1.0, 0.01)
    x = sampler(gaussian_denoiser, volume_noise((1, 1, 4, 4, 4), (0,)), levels, seen.append)
    assert [step.index for step in seen] == list(range(5))
    assert [step.sigma for step in seen] == list(levels[:-1])
    assert torch.equal(seen[-1].state, x)


def test_noise_belongs_to_its_key():
    a, b, c = (volume_noise((6, 5, 4), key) for key in [(1, 2), (1, 2), (2, 1)])
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    big = volume_noise((64, 64, 64), (3,))
    assert abs(big.mean().item()) < 0.01
    assert big.std().item() == pytest.approx(1, abs=0.01)
    neighbours = np.corrcoef(big[:-1].flatten().numpy(), big[1:].flatten().numpy())[0, 1]
    assert abs(neighbours) < 0.01
