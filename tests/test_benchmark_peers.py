"""The corrections that the benchmark gives its peers: a peer made worse than it is would be an overclaim."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from methods import METHODS, rician_corrected
from rician_vst import RicianVST

from medrestore.physics.noise import add_rician

SIGMA = 2.0


def noisy(signal: float) -> np.ndarray:
    clean = np.full((60, 60, 60), signal, dtype=np.float32)
    return add_rician(clean, SIGMA, np.random.default_rng(0)).astype(np.float64)


@pytest.mark.parametrize("snr", [1, 2, 4, 10, 30])
def test_the_transform_stabilises_and_its_inverse_is_unbiased(snr):
    transform = RicianVST(SIGMA, 40 * SIGMA)
    stable = transform.forward(noisy(snr * SIGMA))
    assert stable.std() == pytest.approx(1, abs=0.12)
    restored = transform.inverse(np.full((1, 1, 1), stable.mean()))
    assert restored.item() == pytest.approx(snr * SIGMA, abs=0.06 * SIGMA)


@pytest.mark.parametrize("snr", [3, 5, 10])
def test_the_bias_correction_brings_the_mean_back(snr):
    mean = noisy(snr * SIGMA).mean(keepdims=True)
    corrected = rician_corrected(mean, SIGMA).item()
    assert abs(corrected - snr * SIGMA) < abs(mean.item() - snr * SIGMA) / 2


def test_every_peer_says_how_it_is_set():
    assert {"nlm", "tv", "ants", "bm4d"} <= METHODS.keys()
    assert all(method.settings and method.package for method in METHODS.values())
