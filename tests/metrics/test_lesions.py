"""Virtual lesions: their volume, where they go, and what is counted as kept of them."""

from __future__ import annotations

import numpy as np
import pytest

from medrestore.metrics.lesions import Lesion, contrast_kept, scattered, sphere, with_lesions


@pytest.mark.parametrize("diameter", [3, 4, 5, 6.5, 9])
def test_a_sphere_has_its_volume_and_its_box_holds_all_of_it(diameter):
    parts = sphere(diameter)
    assert parts.sum() == pytest.approx(np.pi / 6 * diameter**3, rel=0.03)
    assert parts.shape == Lesion((20, 20, 20), diameter, 1.0).profile.shape
    np.testing.assert_array_equal(parts, parts[::-1, ::-1, ::-1])
    assert parts[len(parts) // 2, len(parts) // 2, len(parts) // 2] == 1


def test_lesions_are_added_and_the_image_is_left_as_it_was():
    image = np.full((24, 24, 24), 100, np.float32)
    lesions = [Lesion((6, 6, 6), 3, 10.0), Lesion((16, 16, 16), 5, -20.0)]
    changed = with_lesions(image, lesions)
    assert (image == 100).all()
    assert changed[6, 6, 6] == 110 and changed[16, 16, 16] == 80
    assert changed.sum() - image.sum() == pytest.approx(10 * sphere(3).sum() - 20 * sphere(5).sum(), rel=1e-4)
    assert contrast_kept(changed, image, lesions) == pytest.approx([1, 1])
    assert contrast_kept((changed + image) / 2, image, lesions) == pytest.approx([0.5, 0.5])
    assert contrast_kept(image, image, lesions) == [0, 0]


def test_places_lie_in_the_mask_apart_and_follow_the_seed():
    inside = np.zeros((30, 30, 30), bool)
    inside[5:25, 5:25, 5:25] = True
    found = scattered(inside, 8, 7, np.random.default_rng(1))
    assert len(found) == 8
    assert all(inside[at] for at in found)
    gaps = [np.abs(np.subtract(a, b)).max() for n, a in enumerate(found) for b in found[:n]]
    assert min(gaps) >= 7
    assert scattered(inside, 8, 7, np.random.default_rng(1)) == found
    assert scattered(inside, 8, 7, np.random.default_rng(2)) != found
    assert len(scattered(inside, 100, 15, np.random.default_rng(1))) < 100
    assert scattered(np.zeros_like(inside), 3, 5, np.random.default_rng(1)) == []
