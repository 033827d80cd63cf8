"""Trained weights as a teacher: their estimate of a patch seen otherwise, put back where it belongs."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from medrestore.diffusion.precondition import network_inputs
from medrestore.engine.sampling.ensemble import View
from medrestore.training.teacher import draw_view, taught_target

SUBSETS = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
SHAPE = (2, 1, 6, 7, 8)


def told(seed: int = 0) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """A batch: one patch with a state and one for the posterior mean."""
    generator = torch.Generator().manual_seed(seed)
    clean, noisy, image = torch.randn(3, *SHAPE, generator=generator)
    gain = 0.5 + torch.rand(SHAPE, generator=generator)
    state, scan = torch.tensor([0.2, math.inf]), torch.tensor([0.1, 0.3])
    noisy[1] = 0
    return clean, (noisy, state, image, scan, gain, torch.ones(2, 4))


class Local(torch.nn.Module):
    """Looks at nothing but the voxel itself: every view shows it the same."""

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return inputs.sum(1, keepdim=True) + levels.sum(1).view(-1, 1, 1, 1, 1)


class Ramp(torch.nn.Module):
    """Answers with the place in the patch along the first axis."""

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        del levels
        return torch.arange(6.0).view(6, 1, 1).expand_as(inputs[:, :1])


@pytest.mark.parametrize(("turned", "moved"), list(product(SUBSETS, SUBSETS)))
def test_the_estimate_is_put_back_and_what_is_out_of_sight_stays_clean(turned, moved):
    clean, state = told()
    mean, k, inputs, levels = network_inputs(*state)
    estimate = mean + k * Local()(inputs, levels)
    target = taught_target(clean, state, Local(), [View(turned, moved), View()], 0.75)
    expected = torch.lerp(clean, estimate, 0.75)
    for axis in moved:  # the last plane of the scan is not seen by the first view
        last = expected.narrow(axis + 2, SHAPE[axis + 2] - 1, 1)
        last[0] = clean.narrow(axis + 2, SHAPE[axis + 2] - 1, 1)[0]
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        (View(), [0, 1, 2, 3, 4, 5]),
        (View(turned=(0,)), [5, 4, 3, 2, 1, 0]),
        (View(moved=(0,)), [1, 2, 3, 4, 5, None]),
        (View(turned=(0,), moved=(0,)), [4, 3, 2, 1, 0, None]),
    ],
)
def test_the_teacher_sees_the_patch_turned_around_and_moved(view, seen):
    clean, state = told()
    mean, k, _, _ = network_inputs(*state)
    target = taught_target(clean, state, Ramp(), [view, view], 1.0)
    for x, place in enumerate(seen):
        expected = clean if place is None else mean + k * place
        torch.testing.assert_close(target[:, :, x], expected[:, :, x])


def test_every_view_is_drawn_and_slices_are_not_moved_across():
    rng = np.random.default_rng(0)
    assert len({draw_view(rng) for _ in range(1000)}) == 64
    assert {view.moved for view in (draw_view(rng, 2) for _ in range(300))} == {(), (0,), (1,), (0, 1)}
