"""What is done to clean patches: blur of a given width, and lesions in tissue."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.training.contrast import DARK, random_blur, random_lesions
from medrestore.training.corpus import Corpus
from medrestore.training.degrade import Degraded
from medrestore.training.patches import PatchSampler
from medrestore.training.recipe import AugmentationOptions


def half_tissue(size: int = 40) -> np.ndarray:
    """Tissue of 0.6 in one half, air in the other."""
    patch = np.zeros((size, size, size), dtype=np.float32)
    patch[: size // 2] = 0.6
    return patch


def test_blur_has_the_widths_that_are_asked_for():
    point = np.zeros((25, 25, 25), dtype=np.float32)
    point[12, 12, 12] = 1
    found = []
    for seed in range(60):
        blurred = random_blur(point, (0.8, 1.6), np.random.default_rng(seed))
        assert blurred.sum() == pytest.approx(1, abs=1e-4)
        for axis in range(3):
            line = blurred.sum(axis=tuple({0, 1, 2} - {axis}))
            found.append(np.sqrt(np.sum(line * (np.arange(25) - 12) ** 2)))
    assert 0.75 < min(found) < 0.9
    assert 1.4 < max(found) < 1.65  # the Gaussian is cut off at three deviations


def test_lesions_are_small_bright_and_dark_and_in_tissue():
    clean = half_tissue()
    brighter, darker, sizes = 0, 0, []
    for seed in range(20):
        change = random_lesions(clean, np.random.default_rng(seed)) - clean
        assert not change[26:].any()  # none begins in air, and the largest reaches five voxels
        brighter += int((change > 0.02).sum())
        darker += int((change < -0.02).sum())
        labels, count = ndimage.label(np.abs(change) > 0.02)
        assert 1 <= count <= 40
        sizes += np.bincount(labels.ravel())[1:].tolist()
        assert 0 < np.mean(change[:20] != 0) < 0.4
    assert min(brighter, darker) > 0.2 * max(brighter, darker)
    assert np.median(sizes) < 4 / 3 * np.pi * 4**3


def test_lesions_change_neither_their_input_nor_the_sign_of_the_scan():
    clean = half_tissue()
    before = clean.copy()
    made = random_lesions(clean, np.random.default_rng(0))
    np.testing.assert_array_equal(clean, before)
    assert made.min() >= 0
    air = np.full((16, 16, 16), DARK / 2, dtype=np.float32)
    np.testing.assert_array_equal(random_lesions(air, np.random.default_rng(0)), air)


@pytest.mark.parametrize(("probability", "changed"), [(0.0, 0), (1.0, 8)])
def test_the_sampler_puts_lesions_where_the_options_say_so(probability, changed):
    corpus = Corpus([np.full((20, 20, 20), 0.6, dtype=np.float32)], [], ())
    options = AugmentationOptions(tone_curve=0, bias_field=0, scale=0, lesions=probability)

    def degrade(clean, place, rng):
        return Degraded(clean, np.ones_like(clean), 0.1)

    batch = PatchSampler(corpus, 16, options, degrade).batch(8, (1, 2))
    assert sum(patch.std() > 0 for patch in batch.clean.numpy()) == changed
