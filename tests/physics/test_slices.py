"""The slice operator: a measurement with its adjoint, and the projection onto what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.physics.slices import FWHM, SOFTNESS, SliceStack, upsample

STACKS = [
    SliceStack(24, 6, 4, 4, first=1.5),
    SliceStack(24, 12, 2, 1.6, softness=0.25, first=0.5),
    SliceStack(25, 7, 3.4, 3, softness=1.0, first=1.2),
    SliceStack(24, 4, 6, 7.2, softness=0.5, first=2.7),
]


@pytest.mark.parametrize("stack", STACKS)
def test_the_adjoint_is_the_transpose(stack: SliceStack) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, stack.planes)).astype(np.float32)
    y = rng.standard_normal((3, stack.slices)).astype(np.float32)
    assert np.vdot(stack.forward(x), y) == pytest.approx(np.vdot(x, stack.adjoint(y)), rel=1e-5)


@pytest.mark.parametrize("stack", STACKS)
def test_a_constant_stays_that_constant(stack: SliceStack) -> None:
    ones = np.ones(stack.planes, dtype=np.float32)
    np.testing.assert_allclose(stack.forward(ones), 1, atol=1e-6)
    np.testing.assert_allclose(stack.interpolate(np.ones(stack.slices, dtype=np.float32)), 1, atol=1e-6)


def test_boxcar_slices_of_whole_planes_are_block_means() -> None:
    x = np.random.default_rng(1).standard_normal((2, 24)).astype(np.float32)
    measured = SliceStack(24, 6, 4, 4, first=1.5).forward(x)
    np.testing.assert_allclose(measured, x.reshape(2, 6, 4).mean(axis=2), atol=1e-6)


@pytest.mark.parametrize("softness", SOFTNESS.values())
def test_the_width_is_that_at_half_maximum(softness: float) -> None:
    fine = 40
    row = SliceStack(400, 1, 400, 2 * fine, softness, first=199.5).matrix[0]
    width = np.count_nonzero(row > row.max() / 2)
    assert width == pytest.approx(2 * fine, rel=0.06)


def test_a_gaussian_profile_is_a_gaussian() -> None:
    row = SliceStack(81, 1, 81, 12, 1.0, first=40).matrix[0]
    positions = np.arange(81) - 40
    expected = np.exp(-0.5 * (positions * FWHM / 12) ** 2)
    np.testing.assert_allclose(row / row.max(), expected, atol=0.01)


@pytest.mark.parametrize("stack", STACKS)
def test_the_projection_reproduces_the_slices(stack: SliceStack) -> None:
    rng = np.random.default_rng(2)
    slices = stack.forward(rng.standard_normal((5, stack.planes)).astype(np.float32))
    guess = rng.standard_normal((5, stack.planes)).astype(np.float32)
    before = np.abs(stack.forward(guess) - slices).max()
    after = np.abs(stack.forward(stack.consistent(guess, slices)) - slices).max()
    assert after < 0.01 * before


@pytest.mark.parametrize("stack", STACKS)
def test_what_no_slice_shows_is_the_rest_of_what_the_slices_determine(stack: SliceStack) -> None:
    planes = np.random.default_rng(0).normal(size=(4, 5, stack.planes)).astype(np.float32)
    unseen = stack.unseen(planes)
    assert np.abs(unseen).std() > 0.1
    assert np.abs(stack.forward(unseen)).max() < 2e-3 * np.abs(stack.forward(planes)).max()
    determined = stack.forward(planes) @ np.linalg.pinv(stack.matrix).T
    np.testing.assert_allclose(planes - unseen, determined, atol=5e-3)


def test_with_noise_the_step_is_shorter_and_stays_between() -> None:
    stack = STACKS[0]
    guess, slices = np.zeros((1, 24), dtype=np.float32), np.ones((1, 6), dtype=np.float32)
    full = stack.consistent(guess, slices)
    part = stack.consistent(guess, slices, ridge=1.0)
    assert 0 < part.mean() < full.mean()


def test_upsampling_tells_the_model_where_the_slices_are() -> None:
    stack = STACKS[0]
    truth = np.sin(np.arange(24, dtype=np.float32) / 5)[None]
    told = upsample(stack.forward(truth), stack, noise=0.0)
    np.testing.assert_allclose(stack.forward(told.image), stack.forward(truth), atol=1e-3)
    assert told.gain.argmin() in {1, 2} and told.gain.argmax() in {3, 4, 7, 8, 11, 12, 0, 23}
    assert told.details[:3] == (2.0, 1.0, 0.0)
    assert upsample(stack.forward(truth), stack, noise=0.05).sigma > told.sigma
