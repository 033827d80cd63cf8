"""The end of the band, read in lines of voxels through tissue."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.noise.band import line_spectra, measured_grid, sharp_edge
from medrestore.physics.kspace import apply_window, band_limit

SIDE = 72


def brain(side: int = SIDE) -> np.ndarray:
    """Folds of 60 and 100 that fill the field of view, as a crop without air."""
    rough = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((side,) * 3), 2.5, mode="wrap")
    return ndimage.gaussian_filter(np.where(rough > 0, 100.0, 60.0), 0.6).astype(np.float32)


def scanned(clean: np.ndarray, band: float, level: float) -> np.ndarray:
    """The magnitude with complex noise of `level`, zero-filled along two axes."""
    white = np.random.default_rng(0).standard_normal((2, *clean.shape))
    noise = white[0] + 1j * white[1]
    spectrum = np.fft.fftn(clean + level * noise)
    frequencies = np.abs(2 * np.fft.fftfreq(clean.shape[0]))
    spectrum[frequencies > band] = 0
    spectrum[:, frequencies > band] = 0
    return np.abs(np.fft.ifftn(spectrum)).astype(np.float32)


@pytest.mark.parametrize("level", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("band", [0.5, 2 / 3, 0.85])
def test_the_band_of_a_crop_without_air_is_found_to_a_sample_however_weak_the_noise(band, level):
    grids = measured_grid(scanned(brain(), band, level))
    samples = 2 * int(band * SIDE / 2) + 1
    for grid in grids[:2]:
        assert samples <= grid.size <= samples + 1
    assert grids[2].size == SIDE


def test_a_quarter_of_the_frequencies_is_found_in_long_axes():
    grids = measured_grid(scanned(brain(128), 0.25, 1.0))
    assert [abs(grid.size - 33) <= 1 for grid in grids[:2]] == [True, True]
    assert grids[2].size == 128


@pytest.mark.parametrize("side", [26, 40, SIDE])
@pytest.mark.parametrize("blur", [0.0, 1.0, 2.0])
def test_smooth_anatomy_has_no_sharp_end(side, blur):
    clean = ndimage.gaussian_filter(brain(), blur)[:side, :side, :side]
    noisy = clean + np.random.default_rng(1).standard_normal(clean.shape)
    assert [sharp_edge(power) for power in line_spectra(noisy)] == [None] * 3


def test_a_gentle_end_is_no_sharp_end():
    gentle = scanned(brain(), 1.0, 3.0)
    assert sharp_edge(line_spectra(apply_window(gentle, lambda f: np.exp(-((f / 0.6) ** 4)), 0))[0]) is None
    assert sharp_edge(line_spectra(apply_window(gentle, band_limit(0.6), 0))[0]) == pytest.approx(
        0.6, abs=0.03
    )


def test_voxels_that_do_not_vary_have_no_end():
    grids = measured_grid(np.full((48, 48, 48), 7.0, dtype=np.float32))
    assert [grid.edge for grid in grids] == [None] * 3
