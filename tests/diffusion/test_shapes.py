"""Preconditioning and samplers know nothing of scans: signals and pictures of any channels pass."""

import math

import pytest
import torch
from torch import nn

from medrestore.diffusion import (
    Condition,
    TwoMeasurementDenoiser,
    euler,
    geometric_levels,
    heun,
    karras_levels,
    one_step_mean,
    stochastic,
    volume_noise,
)

SHAPES = [
    pytest.param((2, 1, 500), id="signal"),
    pytest.param((3, 12, 40), id="signal of 12 channels"),
    pytest.param((2, 3, 20, 30), id="colour picture"),
    pytest.param((2, 1, 8, 9, 7), id="volume"),
    pytest.param((1, 2, 3, 4, 5, 6), id="series of two channels"),
    pytest.param((4, 7), id="channels alone"),
]
MU, S = 0.4, 0.25
SCAN_SIGMA = 0.2


class GaussianNetwork(nn.Module):
    """The optimal network for data N(MU, S^2) of any shape, from what a network is given."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, inputs, levels):
        assert inputs.shape[1] == 4 * self.channels
        mean = inputs[:, : self.channels]
        k = levels[:, 0].exp().reshape(-1, *[1] * (mean.ndim - 1))
        return k * (MU - mean) / (S**2 + k**2)


def denoiser(shape):
    return TwoMeasurementDenoiser(GaussianNetwork(shape[1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [math.inf, 0.3])
def test_the_denoiser_is_the_posterior_mean_of_a_gaussian(shape, sigma):
    x, y = volume_noise(shape, (0,)), volume_noise(shape, (1,))
    precision = 1 / S**2 + 1 / sigma**2 + 1 / SCAN_SIGMA**2
    want = (MU / S**2 + x / sigma**2 + y / SCAN_SIGMA**2) / precision
    got = denoiser(shape)(x, sigma, Condition(y, SCAN_SIGMA))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_map_for_all_channels_is_the_same_map_for_each(shape):
    x, y = volume_noise(shape, (0,)), volume_noise(shape, (1,))
    gain = 0.5 + volume_noise((shape[0], 1, *shape[2:]), (4,)).abs()
    one = denoiser(shape)(x, 0.3, Condition(y, SCAN_SIGMA, gain))
    each = denoiser(shape)(x, 0.3, Condition(y, SCAN_SIGMA, gain.expand(shape).contiguous()))
    torch.testing.assert_close(one, each)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("schedule", [karras_levels, geometric_levels])
@pytest.mark.parametrize("sampler", [euler, heun, stochastic])
def test_samplers_end_where_the_posterior_lies(shape, sampler, schedule):
    condition = Condition(torch.full(shape, 0.6), SCAN_SIGMA)

    def denoise(x, sigma):
        return denoiser(shape)(x, sigma, condition)

    mean = one_step_mean(denoise, torch.zeros(shape))
    levels = schedule(40, 2.0, 0.01)
    draws = [] if sampler is not stochastic else [lambda step: volume_noise(shape, (2, step))]
    drawn = sampler(denoise, mean + levels[0] * volume_noise(shape, (3,)), levels, *draws)
    assert drawn.shape == shape
    spread = (1 / S**2 + 1 / SCAN_SIGMA**2) ** -0.5
    error = drawn - mean
    # Within four of their own standard errors, and 5 % for the steps.
    assert abs(float(error.mean())) < 4 * spread / math.sqrt(error.numel()) + 0.02 * spread
    assert abs(float(error.std()) / spread - 1) < 4 / math.sqrt(2 * error.numel()) + 0.05


def test_the_gradient_is_that_of_the_closed_form():
    shape = (1, 2, 30)
    x, y = volume_noise(shape, (0,)).requires_grad_(), volume_noise(shape, (1,))
    estimate = denoiser(shape).differentiable(x, 0.3, Condition(y, SCAN_SIGMA))
    (slope,) = torch.autograd.grad(estimate.sum(), x)
    precision = 1 / S**2 + 1 / 0.3**2 + 1 / SCAN_SIGMA**2
    torch.testing.assert_close(slope, torch.full(shape, 1 / 0.3**2 / precision))
