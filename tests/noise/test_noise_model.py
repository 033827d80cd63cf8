"""What `measure_noise` says of scans whose noise is known: level, band, colour, distribution, spikes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from medrestore.noise import Certainty, Distribution, NoiseModel, measure_noise, tissue
from medrestore.noise.spikes import HEIGHT, tallest
from medrestore.physics.kspace import apply_window, band_limit, fermi, fourier_frequencies

SIZE, SIGMA, SPACING = 64, 30.0, (1.0, 1.0, 1.0)
EDGE, WIDTH = 0.75, 0.07

WINDOWS = {
    "white": (None, None, None),
    "band": (band_limit(2 / 3), band_limit(2 / 3), None),
    "fermi": (fermi(EDGE, WIDTH),) * 3,
}


def head(shape=(SIZE,) * 3) -> np.ndarray:
    """A ball of three tissues, 600 to 1000, in dark air."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2) / 0.7
    inner, middle = 0.4 + 0.05 * np.sin(3 * x), 0.75 + 0.05 * np.cos(4 * y)
    tissue = np.select([radius < inner, radius < middle, radius < 1], [600.0, 1000.0, 800.0], 0.0)
    return ndimage.gaussian_filter(tissue, 1.0).astype(np.float32)


def complex_noise(shape, windows, rng) -> np.ndarray:
    """Noise of deviation `SIGMA` in either part, weighted in k-space."""
    spectrum = np.fft.fftn(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    for axis, window in enumerate(windows):
        if window is not None:
            place = [-1 if other == axis else 1 for other in range(3)]
            spectrum *= window(fourier_frequencies(shape[axis])).reshape(place)
    noise = np.fft.ifftn(spectrum)
    return SIGMA * noise / noise.real.std()


def complex_scan(kind="white", seed=0, shape=(SIZE,) * 3, strength=1.0) -> np.ndarray:
    """The head and noise through the same windows; the head `strength` times as bright."""
    clean = head(shape)
    for axis, window in enumerate(WINDOWS[kind]):
        clean = clean if window is None else apply_window(clean, window, axis)
    return strength * clean + complex_noise(shape, WINDOWS[kind], np.random.default_rng(seed))


def scan(kind="white", seed=0, shape=(SIZE,) * 3) -> np.ndarray:
    return np.abs(complex_scan(kind, seed, shape)).astype(np.float32)


def measured(array, repeats=()) -> NoiseModel:
    return measure_noise(array, SPACING, list(zip(repeats, repeats[1:], strict=False)))


def expected_correlation(window, band: float) -> float:
    """Correlation of neighbours on a grid that ends at `band`, of noise through a window that is known."""
    if window is None:
        return 0.0
    f = np.linspace(0, band, 2001)
    power = np.square(window(f))
    return float(np.sum(power * np.cos(np.pi * f / band)) / power.sum())


def check_colour(model: NoiseModel, kind: str) -> None:
    for axis, window in zip(model.axes, WINDOWS[kind], strict=True):
        assert axis.correlation == pytest.approx(expected_correlation(window, axis.band), abs=0.08)
        assert axis.size == round(axis.band * SIZE)


def check_level_and_colour(model: NoiseModel, kind: str) -> None:
    assert model.sigma == pytest.approx(SIGMA, rel=0.1)
    check_colour(model, kind)
    if kind == "fermi":
        # The window has no sharp end: less than a hundredth of the noise is beyond the one that is found.
        f = np.linspace(0, 1, 1001)
        power = np.square(fermi(EDGE, WIDTH)(f))
        assert all(power[f > axis.band].sum() < 0.01 * power.sum() for axis in model.axes)
    else:
        true = (2 / 3, 2 / 3, 1.0) if kind == "band" else (1.0, 1.0, 1.0)
        assert [axis.band for axis in model.axes] == pytest.approx(true, abs=0.03)


def test_the_tallest_sample_of_k_space_tells_stripes_from_noise_and_anatomy():
    cycles = np.array([9.4, -13.7, 17.2])  # no whole number, as in a part of a scan
    phase = np.tensordot(cycles, np.indices((SIZE,) * 3), axes=1) / SIZE
    noise = np.random.default_rng(1).standard_normal((48, 48, 48)).astype(np.float32)
    assert tallest(scan() + np.float32(30) * np.cos(2 * np.pi * phase).astype(np.float32)) > HEIGHT
    assert tallest(scan()) < HEIGHT
    assert 1 < tallest(noise) < 6
    assert tallest(np.zeros((20, 20, 20))) == 0


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_magnitude_is_read_in_air_and_tissue(kind):
    model = measured(scan(kind))
    check_level_and_colour(model, kind)
    assert model.distribution is Distribution.RICIAN
    assert (model.coils, model.source, model.certainty) == (1, "air and tissue", Certainty.SURE)
    assert model.air == pytest.approx(SIGMA, rel=0.1)
    assert model.tissue == pytest.approx(SIGMA, rel=0.2)
    assert model.spikes == ()


@pytest.mark.parametrize("kind", WINDOWS)
def test_real_values_are_gaussian(kind):
    model = measured(complex_scan(kind).real.astype(np.float32))
    check_level_and_colour(model, kind)
    assert (model.distribution, model.coils) == (Distribution.GAUSSIAN, 1)


@pytest.mark.parametrize("kind", WINDOWS)
def test_coils_that_were_combined_are_counted(kind):
    coils = [complex_scan(kind, seed, strength=0.5) for seed in range(4)]
    model = measured(np.sqrt(sum(np.abs(coil) ** 2 for coil in coils)).astype(np.float32))
    check_level_and_colour(model, kind)
    assert (model.distribution, model.coils) == (Distribution.NONCENTRAL_CHI, 4)


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_scan_without_background_is_read_in_tissue(kind):
    model = measured(np.where(head() > 400, scan(kind), 0))
    assert model.sigma == pytest.approx(SIGMA, rel=0.1)
    assert (model.source, model.air) == ("tissue", None)
    assert model.certainty is not Certainty.SURE
    check_colour(model, kind)


@pytest.mark.parametrize("height", [5.0, 30.0, 200.0])
def test_stripes_are_named_and_add_nothing_to_the_level(height):
    cycles = np.array([9, -13, 17])
    phase = np.tensordot(cycles, np.indices((SIZE,) * 3), axes=1) / SIZE
    model = measured(scan() + np.float32(height) * np.cos(2 * np.pi * phase).astype(np.float32))
    (spike,) = model.spikes
    assert list(np.sign(spike.cycles[2]) * np.array(spike.cycles)) == list(cycles)
    # A cosine has half its amplitude in either of its two samples.
    assert spike.share == pytest.approx(height / 2 / float(scan().mean()), rel=0.1)
    assert model.sigma == pytest.approx(measured(scan()).sigma, rel=0.01)


@pytest.mark.parametrize("kind", WINDOWS)
def test_a_series_of_real_values_is_read_in_its_differences(kind):
    repeats = np.stack([complex_scan(kind, seed).real.astype(np.float32) for seed in range(3)])
    model = measured(repeats[0], repeats)
    check_level_and_colour(model, kind)
    assert (model.source, model.certainty) == ("series", Certainty.SURE)


def test_the_level_has_the_units_of_the_voxels():
    model, scaled = measured(scan("fermi")), measured(7 * scan("fermi"))
    assert scaled.sigma == pytest.approx(7 * model.sigma, rel=1e-3)
    assert scaled.correlations == pytest.approx(model.correlations, abs=1e-3)


def test_whole_numbers_are_read_like_any_other():
    model = measured(np.rint(scan()).astype(np.int16))
    assert model.sigma == pytest.approx(SIGMA, rel=0.1)
    assert model.distribution is Distribution.RICIAN


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(48, 48, 48), (40, 40, 1), (1, 1, 1)])
@pytest.mark.parametrize("value", [0, 5, -3])
def test_a_scan_in_which_no_two_voxels_differ_has_no_noise(shape, value):
    array = np.full(shape, value, dtype=np.float32)
    for repeats in ((), [array] * 3):
        model = measured(array, repeats)
        assert model.sigma == pytest.approx(0, abs=1e-9)
        assert model.spikes == ()
        assert all(np.isfinite(model.correlations))


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 7, 64), (5, 64, 64), (64, 64, 12)])
def test_thin_scans_are_measured(shape):
    model = measured(scan(shape=shape))
    assert model.sigma == pytest.approx(SIGMA, rel=0.1)
    assert model.grid == shape
    assert model.certainty is not Certainty.SURE


@pytest.mark.parametrize("shape", [(64, 64, 1), (4, 4, 4), (30, 1, 1)])
def test_what_holds_too_little_is_answered_without_certainty(shape):
    model = measured(scan(shape=shape))
    assert np.isfinite(model.sigma)
    assert model.grid == shape
    assert model.certainty is Certainty.UNSURE


def test_what_is_said_can_be_recorded():
    model = measured(scan("fermi"))
    record = json.loads(json.dumps(model.as_json()))
    assert (record["distribution"], record["certainty"]) == ("rician", "sure")
    assert [axis["correlation"] for axis in record["axes"]] == list(model.correlations)
    assert [axis["size"] for axis in record["axes"]] == list(model.grid)


def test_another_level_changes_nothing_else():
    model = measured(scan())
    other = model.with_sigma(1.5)
    assert other.sigma == 1.5
    assert other.with_sigma(model.sigma) == model


def test_windows_are_sought_only_where_white_noise_fits_badly(monkeypatch):
    rng, sought = np.random.default_rng(0), []
    smooth = 500 + 3000 * ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 4)
    white = 20 * rng.standard_normal(smooth.shape)
    free = tissue._Fit.free
    monkeypatch.setattr(tissue._Fit, "free", lambda fit: (sought.append(1), free(fit))[1])
    found = tissue.read_tissue(tissue.block_power(smooth + white), (1.0, 1.0, 1.0))
    assert not found.coloured and found.sigma == pytest.approx(20, rel=0.1) and not sought
    found = tissue.read_tissue(
        tissue.block_power(smooth + 4 * ndimage.gaussian_filter(white, 0.7)), (1.0, 1.0, 1.0)
    )
    assert found.coloured and sought
