"""What a step of training is made of: its rate, the weights of levels, and the optimisers."""

from __future__ import annotations

import pytest
import torch

from medrestore.training.loop import LevelWeights, learning_rate
from medrestore.training.optim import Muon, make_optimisers, orthogonalise
from medrestore.training.recipe import LoopOptions


def test_the_rate_rises_holds_and_falls_to_zero():
    options = LoopOptions(steps=100, warmup=10, hold=0.4, rate=2e-3)
    rates = [learning_rate(step, options) for step in range(101)]
    assert rates[0] == pytest.approx(2e-4)
    assert rates[9:41] == pytest.approx([2e-3] * 32)
    assert rates[70] == pytest.approx(1e-3)
    assert rates[100] == pytest.approx(0, abs=1e-12)
    assert rates[40:] == sorted(rates[40:], reverse=True)


def test_the_rate_may_hold_from_the_first_step_to_the_last():
    options = LoopOptions(steps=10, warmup=0, hold=1.0, rate=2e-3)
    assert [learning_rate(step, options) for step in range(10)] == pytest.approx([2e-3] * 10)


def test_level_weights_make_levels_count_alike():
    weights = LevelWeights(decay=0.5)
    log_k = torch.log(torch.tensor([0.01, 0.2]))
    for _ in range(30):
        loss = torch.tensor([0.02, 0.8], requires_grad=True)
        weights(log_k, loss).backward()
    gradient = loss.grad * loss.detach()  # of the logarithm of each loss
    torch.testing.assert_close(gradient, torch.tensor([0.5, 0.5]), rtol=1e-3, atol=1e-3)
    assert (weights.mean == 1).sum() == len(weights.mean) - 2


@pytest.mark.parametrize("shape", [(16, 16), (8, 216), (32, 64)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    torch.manual_seed(1)
    matrix = torch.randn(shape) * torch.logspace(-1, 1, shape[0])[:, None]
    before = torch.linalg.svdvals(matrix)
    after = torch.linalg.svdvals(orthogonalise(matrix))
    assert before.max() / before.min() > 10
    assert 0.5 < after.min() < after.max() < 1.35


def test_muon_steps_against_the_gradient_by_the_size_that_adam_has():
    torch.manual_seed(0)
    for shape in ((8, 8, 3, 3, 3), (64, 2, 1, 1, 1)):  # wide, and tall
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape) * 1e-6  # whatever the scale of the gradient
        gradient = parameter.grad.clone()
        Muon([parameter], lr=0.01).step()
        assert (parameter.detach() * gradient).sum() < 0
        assert 0.1 < parameter.detach().square().mean().sqrt() / 0.01 < 0.4


def test_kernels_go_to_muon_and_everything_else_to_adam():
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3), torch.nn.Linear(3, 2))
    muon, adam = make_optimisers(network, 1e-3)
    assert [p.ndim for group in muon.param_groups for p in group["params"]] == [5]
    assert sorted(p.ndim for group in adam.param_groups for p in group["params"]) == [1, 1, 2]
