"""The benchmark of low-dose CT: its doses, its measures, its page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from tiny import save

from benchmarks.ct import run as ct
from medrestore.training import anatomy


def disc(size: int = 40, slices: int = 12) -> np.ndarray:
    x, y = np.meshgrid(*(np.arange(size) - size / 2 + 0.5,) * 2, indexing="ij")
    plane = np.where(np.hypot(x, y) < 0.45 * size, 50.0, -1000.0)
    return plane[:, :, None].repeat(slices, axis=2).astype(np.float32)


def test_a_quarter_of_the_dose_adds_what_the_scan_lacks():
    computed = ct.Truth("disc", disc(), (5.0, 5.0, 5.0))
    noise, other, _ = ct.low_dose(computed, 0.25, "soft", 10.0)
    tissue = ndimage.binary_erosion(disc() > 0, np.ones((5, 5, 1)))
    assert noise[tissue].std() == pytest.approx(20, rel=0.15)
    assert abs(np.corrcoef(noise[tissue], other[tissue])[0, 1]) < 0.1
    measured = ct.Truth("disc", disc(), (5.0, 5.0, 5.0), own=10.0)
    added, _, _ = ct.low_dose(measured, 0.25, "soft", 10.0)
    assert added[tissue].std() == pytest.approx(np.sqrt(3) * 10, rel=0.15)


def test_averaged_slices_are_thicker_and_have_less_noise(tmp_path):
    noisy = disc(64, 14) + np.random.default_rng(0).normal(0, 30, (64, 64, 14)).astype(np.float32)
    path = save(tmp_path / "scan.nii", noisy, spacing=1.5)
    whole, thick = ct.load(path, 1), ct.load(path, 4)
    assert whole.name == "scan.nii" and whole.voxels.shape == (64, 64, 14)
    assert thick.name == "scan.nii, 4 slices averaged" and thick.spacing == pytest.approx((1.5, 1.5, 6.0))
    inside = (slice(20, 44), slice(20, 44))
    np.testing.assert_allclose(thick.voxels[inside][..., 2], noisy[inside][..., 8:12].mean(axis=2), rtol=1e-3)
    assert whole.own == pytest.approx(30, rel=0.1)
    assert thick.own == pytest.approx(15, rel=0.15)


def test_the_spectrum_tells_coarse_noise_from_fine():
    white = np.random.default_rng(0).normal(size=(40, 40, 6))
    coarse = ndimage.gaussian_filter(white, (1.5, 1.5, 0))
    everywhere = np.ones(white.shape, dtype=bool)
    spacing = (1.0, 1.0, 1.0)
    power, smooth = ct.in_plane_power(white, everywhere), ct.in_plane_power(coarse, everywhere)
    fine = ct.mean_frequency(power, spacing)
    assert fine == pytest.approx(0.38, abs=0.03)
    assert ct.mean_frequency(smooth, spacing) < 0.5 * fine
    assert ct.mean_frequency(power, (0.5, 0.5, 1.0)) == pytest.approx(2 * fine, rel=0.01)
    shape = ct.radial(power, spacing)
    assert shape["cycles_per_mm"] == pytest.approx(np.arange(1, 9) / 16)
    assert shape["power"] == pytest.approx(np.ones(8), abs=0.3)
    falling = ct.radial(smooth, spacing)["power"]
    assert falling[0] > 4 and falling[-1] < 0.05
    nothing = ct.in_plane_power(white, ~everywhere)
    assert ct.mean_frequency(nothing, spacing) is None and ct.radial(nothing, spacing) is None


def test_bias_is_told_by_tissue():
    truth = ct.Truth("disc", disc(), (2.0, 2.0, 2.0))
    image = truth.voxels + np.where(truth.voxels > 0, 3, -2)
    found = ct.score(image.astype(np.float32), truth, truth.voxels)["bias"]
    assert found["soft tissue"] == pytest.approx(3, abs=0.01)
    assert found["air"] == pytest.approx(-2, abs=0.01)
    assert found["bone"] is None


def test_the_command_writes_a_page_and_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(anatomy, "torso", lambda rng: anatomy.Phantom(disc(72), (5.0, 5.0, 5.0)))
    monkeypatch.setattr(ct, "LABELS", tmp_path / "none")
    settings = ["--doses", "0.25", "--kernels", "soft", "--methods", "noisy,tv", "--out", str(tmp_path)]
    ct.main(["--quick", *settings])
    noisy, tv = json.loads((tmp_path / "ct-quick.json").read_text())["runs"]
    assert tv["psnr"] > noisy["psnr"] + 3
    assert tv["left_hu"] < noisy["left_hu"]
    page = (tmp_path / "ct-quick.md").read_text()
    assert "free of noise" in page and f"{tv['psnr']:.2f}" in page
    assert str(tmp_path) not in page
    for picture in ("ct-quick.png", "ct-quick-slices.png"):
        assert picture in page and (tmp_path / picture).stat().st_size > 5000
    assert len(tv["left_spectrum"]["power"]) == 8
