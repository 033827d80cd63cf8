"""The two-measurement preconditioning against closed forms."""

import math

import pytest
import torch
from torch import nn

from medrestore.diffusion import Condition, TwoMeasurementDenoiser, volume_noise
from medrestore.diffusion.precondition import combine, network_inputs

SHAPE = (1, 1, 8, 8, 8)
MU, S = 0.4, 0.25


class GaussianNetwork(nn.Module):
    """The optimal network for data N(MU, S^2): (E[x | m] - m) / k, from what a network is given."""

    def forward(self, inputs, levels):
        mean, k = inputs[:, :1], levels[:, 0].exp()[:, None, None, None, None]
        return k * (MU - mean) / (S**2 + k**2)


def test_mean_of_two_measurements_is_the_least_squares_one():
    x, y = torch.tensor(1.0), torch.tensor(3.0)
    mean, k = combine(x, torch.tensor(0.5), y, torch.tensor(1.0))
    assert mean.item() == pytest.approx((1.0 / 0.25 + 3.0 / 1.0) / (1 / 0.25 + 1))
    assert k.item() == pytest.approx((1 / 0.25 + 1) ** -0.5)


@pytest.mark.parametrize(("sigma", "scan_sigma"), [(math.inf, 0.1), (0.1, math.inf), (0.3, 0.1)])
def test_denoiser_is_the_posterior_mean_of_a_gaussian(sigma, scan_sigma):
    x, y = volume_noise(SHAPE, (0,)), volume_noise(SHAPE, (1,))
    got = TwoMeasurementDenoiser(GaussianNetwork())(x, sigma, Condition(y, scan_sigma))
    precision = 1 / S**2 + 1 / sigma**2 + 1 / scan_sigma**2
    want = (MU / S**2 + x / sigma**2 + y / scan_sigma**2) / precision
    assert torch.allclose(got, want, atol=1e-5)


def test_without_information_there_is_no_estimate():
    x = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="infinite"):
        TwoMeasurementDenoiser(GaussianNetwork())(x, math.inf, Condition(x, math.inf))


def test_target_has_unit_variance_at_every_pair_of_levels():
    clean = torch.rand(1, 1, 32, 32, 32)
    for sigma, scan_sigma in [(0.01, 0.1), (0.1, 0.1), (1.0, 0.1), (math.inf, 0.05), (0.05, math.inf)]:
        noise = volume_noise((2, *clean.shape), (7,))
        state = clean + (sigma * noise[0] if math.isfinite(sigma) else 0)
        scan = clean + (scan_sigma * noise[1] if math.isfinite(scan_sigma) else 0)
        levels = (torch.tensor([level]) for level in (sigma, scan_sigma))
        mean, k, _, _ = network_inputs(state, next(levels), scan, next(levels))
        assert ((clean - mean) / k).std().item() == pytest.approx(1, abs=0.02)


def test_noise_map_enters_voxel_by_voxel():
    x, y = volume_noise(SHAPE, (0,)), volume_noise(SHAPE, (1,))
    gain = torch.linspace(0.5, 2, 8).expand(SHAPE).contiguous()
    one = torch.ones(1)
    mean, k, inputs, levels = network_inputs(x, one * 0.3, y, one * 0.1, gain)
    for index in (0, 7):
        want, want_k = combine(x[..., index], one * 0.3, y[..., index], one * 0.1 * gain[0, 0, 0, 0, index])
        assert torch.allclose(mean[..., index], want, atol=1e-6)
        assert torch.allclose(k[..., index], want_k.expand_as(want), atol=1e-6)
    assert torch.allclose(inputs[:, 3:], gain.log())
    assert levels[0, 1].exp().item() == pytest.approx(0.1)
