"""What Rician noise does to averages of magnitudes, and how that is undone."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.physics.mr_noise import add_rician, rice_moments, rician_expectation, signal_of_expectation

SIGMA = 2.0


@pytest.mark.parametrize("snr", [0, 1, 2, 5, 30])
def test_the_expectation_is_that_of_drawn_noise(snr):
    drawn = add_rician(np.full((80, 80, 80), snr * SIGMA, np.float32), SIGMA, np.random.default_rng(0))
    mean = rician_expectation(np.float32(snr * SIGMA), SIGMA)
    assert float(mean) == pytest.approx(float(drawn.mean(dtype=np.float64)), abs=0.01 * SIGMA)


def test_the_signal_of_an_expectation_is_the_signal():
    signal = np.linspace(0, 40 * SIGMA, 4001, dtype=np.float32)
    found = signal_of_expectation(rician_expectation(signal, SIGMA), SIGMA)
    assert np.abs(found - signal)[signal > SIGMA].max() < 2e-3 * SIGMA
    assert np.abs(found - signal).max() < 0.05 * SIGMA  # the expectation hardly rises there


def test_less_than_noise_alone_is_no_signal():
    assert signal_of_expectation(np.array([0.0, SIGMA], np.float32), SIGMA).max() == 0


def test_noise_that_varies_is_heeded():
    signal, sigma = np.full((3, 4), 6.0, np.float32), np.linspace(1, 4, 12, dtype=np.float32).reshape(3, 4)
    expected = rician_expectation(signal, sigma)
    assert np.diff(expected.ravel()).min() > 0
    assert np.allclose(signal_of_expectation(expected, sigma), signal, atol=0.02)


def test_the_moments_of_a_signal_far_above_the_noise_are_those_of_gaussian_noise():
    mean, deviation = rice_moments(np.array([9.9e3, 1.1e4, 1e5, 1e12]))
    assert mean == pytest.approx([9.9e3, 1.1e4, 1e5, 1e12])
    assert deviation == pytest.approx([1] * 4, abs=1e-6)
