"""The benchmarks of coloured noise: their simulation, their estimators, their pages."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import fft, ndimage
from tiny import save

from benchmarks.denoise import colour, colour_tables, methods
from benchmarks.noise import run as noise
from benchmarks.noise import tables as noise_tables
from medrestore.physics.kspace import lag_correlations
from medrestore.physics.mr_colour import COLOURS, simulate, spectrum

SIGMA = 5.0
MACHINE = {"date": "2026-01-01", "cpu": "one", "cores": 2, "threads": "1", "system": "Linux", "python": "3"}


def head(size: int = 40) -> np.ndarray:
    """A ball of tissue in air."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size),) * 3, indexing="ij", sparse=True)
    ball = 100 * (sum(axis**2 for axis in axes) < 0.6) + 40 * (axes[0] > 0) * (sum(a**2 for a in axes) < 0.2)
    return ndimage.gaussian_filter(ball.astype(np.float32), 0.7)


def drawn(name: str, size: int = 40):
    return simulate(head(size), COLOURS[name], SIGMA, np.random.default_rng(0))


@pytest.mark.parametrize("name", COLOURS)
def test_the_level_is_that_after_the_window(name):
    draw = simulate(np.zeros((64,) * 3, np.float32), COLOURS[name], SIGMA, np.random.default_rng(1))
    assert draw.noise.std() == pytest.approx(SIGMA, rel=0.01)
    assert draw.noisy.dtype == draw.clean.dtype == np.float32
    # The magnitude of noise alone: both channels have the level.
    assert np.sqrt(np.mean(np.square(draw.noisy)) / 2) == pytest.approx(SIGMA, rel=0.01)


@pytest.mark.parametrize("name", COLOURS)
def test_the_spectrum_holds_the_variance_and_is_that_of_the_noise(name):
    shape = (36, 40, 44)
    psd = spectrum(shape, COLOURS[name], SIGMA)
    assert psd.sum(dtype=np.float64) / psd.size**2 == pytest.approx(SIGMA**2, rel=1e-4)
    zeros = np.zeros(shape, np.float32)
    draws = [simulate(zeros, COLOURS[name], SIGMA, np.random.default_rng(seed)).noise for seed in range(8)]
    power = np.mean([np.square(np.abs(fft.fftn(draw))) for draw in draws], axis=0)
    inside = psd > 1e-3 * psd.max()
    assert np.mean(power[inside] / psd[inside]) == pytest.approx(1, rel=0.02)
    assert power[~inside].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize("name", ["band-0.9", "band-0.8", "filled-1.5", "filled-2"])
def test_scan_and_noise_end_at_the_band(name):
    size, draw = 60, drawn(name, 60)
    for axis, part in enumerate(COLOURS[name].band):
        for image in (draw.noise, draw.clean.astype(np.float64)):
            power = np.square(np.abs(fft.fft(image, axis=axis)))
            along = power.mean(axis=tuple(other for other in range(3) if other != axis))
            beyond = np.abs(fft.fftfreq(size)) * 2 > part + 1e-9
            # A magnitude of ringing that was negative has a little beyond.
            assert along[beyond].sum() < 1e-3 * along.sum()
            if image is draw.noise:
                assert along[~beyond].min() > 0.3 * along[~beyond].mean()


def test_every_colour_comes_from_the_same_white_noise():
    white, hann = drawn("white"), drawn("hann")
    assert np.corrcoef(white.noise.ravel(), hann.noise.ravel())[0, 1] > 0.5
    np.testing.assert_allclose(white.clean, np.abs(head()), atol=1e-3)
    assert lag_correlations(white.noise) == pytest.approx((0, 0, 0), abs=0.02)
    assert min(lag_correlations(hann.noise)[:2]) > 0.5


def test_a_middle_is_cut_out_of_everything():
    draw = drawn("white")
    part = draw.cut((slice(10, 20),) * 3)
    for name in ("noisy", "clean", "noise"):
        np.testing.assert_array_equal(getattr(part, name), getattr(draw, name)[10:20, 10:20, 10:20])
    assert part.sigma == draw.sigma


def test_what_medrestore_says_is_held_against_the_noise_on_the_grid_it_found():
    draw = drawn("filled-2", 64)
    axes = [SimpleNamespace(band=0.5), SimpleNamespace(band=0.5), SimpleNamespace(band=1.0)]
    said = {"certainty": "sure", "source": "air", "axes": axes, "correlations": (0.2, 0.2, 0.0)}
    found = noise.against_truth(SimpleNamespace(**said, grid=(32, 32, 64)), draw)
    assert found["band"] == [0.5, 0.5, 1.0] and found["correlations"] == [0.2, 0.2, 0.0]
    assert found["true_correlations"] == pytest.approx((0, 0, 0), abs=0.05)
    # On the grid of the scan the same noise is correlated.
    whole = noise.against_truth(SimpleNamespace(**said, grid=(64, 64, 64)), draw)
    assert min(whole["true_correlations"][:2]) > 0.5


def test_medrestore_is_measured_by_its_model_of_the_noise():
    found = noise.estimate(noise.ESTIMATORS["ours"].load(), drawn("white", 48), (1.0,) * 3)
    assert found["ratio"] == pytest.approx(1, abs=0.15)
    assert {"certainty", "source", "band", "true_correlations", "seconds"} <= found.keys()


def test_an_estimator_that_fails_says_why_and_stops_nothing():
    def broken(voxels, spacing):
        raise ValueError("no luck")

    draw = drawn("white")
    assert noise.estimate(broken, draw, (1.0,) * 3) == {"error": "no luck"}
    assert noise.estimate("not installed", draw, (1.0,) * 3) == {"error": "not installed"}
    found = noise.estimate(lambda voxels, spacing: 4.0, draw, (1.0,) * 3)
    assert found["ratio"] == pytest.approx(4.0 / SIGMA)


def test_the_spectrum_is_told_to_its_filter_alone(monkeypatch):
    told = {}
    monkeypatch.setattr(colour, "run_method", lambda task, method, scan: told.setdefault(method, scan))
    truth = SimpleNamespace(affine=np.eye(4))
    for method in ("bm4d", "bm4d-psd"):
        colour.run_filter(method, truth, drawn("hann"), "hann", "")
    assert "psd" not in told["bm4d"] and told["bm4d-psd"]["psd"].shape == (40, 40, 40)
    assert "bm4d-psd" not in methods.METHODS  # or denoise.py would run it by default
    assert methods.Scan(**told["bm4d-psd"]).sigma == SIGMA


def volumes() -> list[dict]:
    about = {"name": "a", "shape": [4, 4, 4], "spacing_mm": [1, 1, 1], "minimum": 0, "maximum": 1, "p99": 1}
    return [about | {"head_fraction": 0.5, "sha256": "", "crop": ""}]


def fake(**setup: object) -> dict:
    kinds = {"good": {"title": "good", "package": "p", "settings": "s"}}
    kinds["bad"] = {"title": "bad", "package": "q", "settings": "t"}
    start = {"command": "python x", "seed": 0, "volumes": volumes(), "methods": kinds, "packages": {"p": "1"}}
    return start | MACHINE | setup


def test_the_page_of_estimators():
    about = {"volume": "a", "level": 5.0, "sigma": 5.0, "true_band": [0.5, 0.5, 1.0]}
    said = {"certainty": "sure", "source": "air", "band": [0.52, 0.5, 1.0], "correlations": [0.1, -0.0, 0.0]}
    runs = [
        about
        | {"colour": name, "title": "good", "method": "ours", "ratio": ratio, "seconds": 1.0}
        | said
        | {"true_correlations": [0.2, 0.0, -0.001]}
        for name, ratio in (("white", 1.02), ("hann", 0.7))
    ]
    runs += [about | {"colour": "white", "title": "bad", "method": "b", "ratio": 1.5, "seconds": 2.0}]
    runs += [about | {"colour": "hann", "title": "bad", "method": "b", "error": "no luck"}]
    maps = [
        {"volume": "a", "colour": "hann", "seed": seed, "level": 1 + seed % 2, "map": seed == 3}
        for seed in range(6)
    ]
    page = noise_tables.markdown({"setup": fake(map_side=96), "runs": runs, "false_maps": maps})
    assert "| good | 2 | 0.86 | 0.70 | 1.02 | 1 of 2 | 1.00 |" in page
    assert "| white | 5 % | **1.02** | 1.50 |" in page
    assert "| hann | 5 % | **0.70** | not measured |" in page
    assert "| sure | 2 |" in page
    assert "0.52, 0.50, 1.00 (0.50, 0.50, 1.00) | 0.10, 0.00, 0.00 (0.20, 0.00, 0.00)" in page
    assert "| a | hann | 6 | 1 | 0 | 1 |" in page
    assert "- bad, a, hann, 5 %: no luck" in page


def test_the_page_of_denoisers():
    about = {"volume": "a", "level": 5.0, "sigma": 5.0}
    runs = []
    for name, values in {"white": (30.0, 40.0), "hann": (31.0, None)}.items():
        for title, method, value in zip(("noisy", "good"), ("noisy", "ours-auto"), values, strict=True):
            run = about | {"colour": name, "title": title, "method": method}
            scores = {"psnr_head": value, "ssim_head": 0.9, "filter_s": 2.0, "notes": {"noise sigma": 6.0}}
            runs.append(run | ({"error": "no luck"} if value is None else scores))
    setup = fake(level=5.0, pictured=["white"], weights={"m": "abc"}, gains={"ramp": "from 0.5 to 2"})
    page = colour_tables.markdown({"setup": setup, "runs": runs}, "colour")
    assert "| white | 30.00 | **40.00** |" in page
    assert "| hann | **31.00** | not measured |" in page
    assert "| white |\n|---:|\n| 1.20 |" in page
    assert "    - ramp: from 0.5 to 2." in page
    assert "colour-slices.png" in page and "weights `abc` of m" in page
    assert "- good, a, hann: no luck" in page
    assert "| good | 2.0 |" in page


def test_the_command_for_estimators_writes_a_page_and_the_numbers(tmp_path):
    path = save(tmp_path / "scan.nii", head(), spacing=1.0)
    told = ["--crop", "0,32", "--colours", "white,filled-2", "--levels", "5", "--methods", "ours,skimage"]
    noise.main(["--volume", str(path), *told, "--false-maps", "2", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "noise.json").read_text())
    assert len(report["runs"]) == 8 and len(report["false_maps"]) == 4
    assert {run["volume"] for run in report["runs"]} == {"scan.nii", "scan.nii, middle 32"}
    assert all(run["sigma"] == report["runs"][0]["sigma"] for run in report["runs"])
    page = (tmp_path / "noise.md").read_text()
    assert "zero-filled x2 in plane" in page and "scikit-image" in page and str(tmp_path) not in page


def test_the_command_for_denoisers_writes_a_page_the_numbers_and_a_picture(tmp_path):
    path = save(tmp_path / "scan.nii", head(), spacing=1.0)
    told = ["--crop", "32", "--colours", "white,hann", "--methods", "noisy,tv", "--out", str(tmp_path)]
    colour.main(["--volume", str(path), *told])
    runs = json.loads((tmp_path / "colour.json").read_text())["runs"]
    score = {(run["colour"], run["method"]): run["psnr_head"] for run in runs}
    assert score["white", "tv"] > score["white", "noisy"] + 3
    # A filter that knows white noise alone keeps much of another colour.
    assert (
        score["Hann in plane", "tv"] - score["Hann in plane", "noisy"]
        < score["white", "tv"] - score["white", "noisy"]
    )
    page = (tmp_path / "colour.md").read_text()
    assert "Hann in plane" in page and str(tmp_path) not in page
    assert (tmp_path / "colour-slices.png").stat().st_size > 5000


def test_noise_that_varies_has_a_page_of_its_own(tmp_path):
    path = save(tmp_path / "scan.nii", head(), spacing=1.0)
    told = ["--crop", "32", "--colours", "hann", "--gain", "ramp,middle", "--methods", "noisy"]
    colour.main(["--volume", str(path), *told, "--out", str(tmp_path)])
    runs = json.loads((tmp_path / "colour-varying.json").read_text())["runs"]
    assert [run["colour"] for run in runs] == ["Hann in plane, ramp", "Hann in plane, middle"]
    assert abs(runs[0]["psnr_head"] - runs[1]["psnr_head"]) > 0.1
    page = (tmp_path / "colour-varying.md").read_text()
    assert "linear along the first axis" in page and "colour-varying-slices.png" in page


@pytest.mark.parametrize("program", [noise, colour])
@pytest.mark.parametrize("option", ["--colours", "--methods"])
def test_an_unknown_name_is_refused(program, option, capsys):
    with pytest.raises(SystemExit):
        program.parse([option, "puce"])
    assert "puce" in capsys.readouterr().err


def test_colin_is_cropped_and_other_volumes_are_not(tmp_path):
    other = tmp_path / "other.nii.gz"
    args = colour.parse(["--volume", "ch2.nii.gz", "--volume", str(other)])
    assert args.sizes == {"ch2.nii.gz": 96, "other.nii.gz": 0}
    args = colour.parse(["--volume", "ch2.nii.gz", "--volume", str(other), "--crop", "48"])
    assert set(args.sizes.values()) == {48}
