"""The models that come with the package: whole, as good as they were, and what the pages are of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import noisy, save

from medrestore import Modality, Volume, read, restore
from medrestore.engine import RestoreOptions, load_model
from medrestore.engine.intervals.calibration import FILE, LEVELS, find_calibration
from medrestore.engine.intervals.conformal import FEWEST
from medrestore.engine.machine.device import has_native_bfloat16
from medrestore.metrics import head_mask, psnr, ssim
from medrestore.plugin import Intensity, read_model_folder
from medrestore.provenance import sha256_file
from medrestore.training import anatomy, validate
from medrestore.training.recipe import SliceOptions
from medrestore.training.validate import UNSEEN, make_cases, make_ct_cases, psnr_of

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted((ROOT / "medrestore" / "builtin" / "models").glob("*/model.toml"))
PAGES = sorted((ROOT / "docs" / "benchmarks").glob("*.json"))
CROP = ROOT / "sample_data" / "colin27_crop.nii.gz"

WORTH = {"mr-denoise": 37.83, "mr-superres": 34.33, "ct-denoise": 35.32, "ct-superres": 51.21}
"""Mean PSNR in dB of what `cases` gives, as measured of the weights that are shipped."""


def shipped() -> dict[str, str]:
    """SHA-256 of the weights, by the name of the model."""
    return {f"medrestore/{path.parent.name}": read_model_folder(path.parent).sha256 for path in MODELS}


@pytest.mark.parametrize("folder", [path.parent for path in MODELS], ids=lambda folder: folder.name)
def test_a_model_is_whole_and_loads(folder):
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert sha256_file(folder / name) == digest
    model = load_model(RestoreOptions(model=folder.name, device="cpu"))
    assert model.ref.sha256 == sha256_file(folder / "model.safetensors")
    assert (folder / "model.safetensors").stat().st_size < 20e6


CALIBRATED = [path.parent for path in MODELS if (path.parent / FILE).exists()]


@pytest.mark.parametrize("folder", CALIBRATED, ids=lambda folder: folder.name)
def test_a_calibration_is_of_the_weights_that_are_shipped(folder):
    spec = read_model_folder(folder)
    found = find_calibration(folder.name, spec, None)
    assert found.population.subjects >= FEWEST
    assert found.ensemble == spec.ensemble
    low, high = found.ranges.noise
    assert low < high <= spec.noise[1]
    # Where a level is in doubt, less is read than there is: such scans may lie below what the model is for.
    assert low >= spec.noise[0] or found.in_doubt is not None
    widths = [np.diff(found.quantiles.at(level), axis=0).min() for level in LEVELS]
    assert widths[0] > 0 and widths == sorted(widths)


@pytest.mark.slow
def test_nine_in_ten_voxels_of_a_scan_that_set_nothing_are_covered():
    """More, in fact: an average of 27 scans is smoother than those of the calibration."""
    clean = read(CROP).array[32:96, 32:96, 32:96].astype(np.float32)
    scan = Volume.from_array(noisy(clean, 0.05, seed=5), modality=Modality.MR)
    result = restore(scan, RestoreOptions(model="mr-denoise", interval=0.9, device="cpu"))
    lower, upper = (result.maps[name].array for name in ("lower", "upper"))
    head = head_mask(clean)
    assert ((clean >= lower) & (clean <= upper))[head].mean() > 0.88
    assert (upper - lower)[head].mean() < 8 * float((result.volume.array - clean)[head].std())
    bound = result.record.intervals["bound"]
    where = {"data_range": float(np.ptp(clean)), "mask": head}
    assert bound["psnr"] < psnr(result.volume.array, clean, **where) < bound["psnr"] + 10
    assert bound["ssim"] < ssim(result.volume.array, clean, **where)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_of_the_weights_that_are_shipped(page):
    report = json.loads(page.read_text())
    # A page of several parts says of each how it was made.
    parts = [report] if "setup" in report else [part for part in report.values() if isinstance(part, dict)]
    for setup in (part.get("setup", {}) for part in parts):
        weights = setup.get("weights", {setup["model"]: setup["sha256"]} if "model" in setup else {})
        assert {name: shipped()[name] for name in weights} == weights


def middle(shape, side):
    """Return where the middle is: so many voxels of each axis, or all there are."""
    return tuple(slice(max(n // 2 - side // 2, 0), n // 2 + side // 2) for n in shape)


def cases(name, folder):
    """Validation cases that need no scan but those that come with the repository."""
    if name == "ct-denoise":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validate, "CT_SLICES", 16)
            return make_ct_cases([])
    computed = name == "ct-superres"
    whole = anatomy.torso(np.random.default_rng(UNSEEN)).hu if computed else read(CROP).array
    scans = [save(folder / "middle.nii", whole[middle(whole.shape, 64)])]
    if name == "mr-denoise":
        return make_cases(scans, Intensity.P99, colour=True)
    return make_cases(scans, Intensity.ATTENUATION if computed else Intensity.P99, SliceOptions())


@pytest.mark.slow
@pytest.mark.parametrize("name", WORTH)
def test_a_model_is_as_good_as_it_was(name, tmp_path):
    network = load_model(RestoreOptions(model=name, device="cpu", dtype="float32")).denoiser.denoiser.network
    scores = [psnr_of(network, case, bfloat16=False) for case in cases(name, tmp_path)]
    assert np.mean(scores) == pytest.approx(WORTH[name], abs=0.15)


def cropped(case):
    """Return the middle of a case."""
    box, made = middle(case.clean.shape, 80), case.degraded
    return replace(
        case, clean=case.clean[box], degraded=replace(made, scan=made.scan[box], gain=made.gain[box])
    )


@pytest.mark.slow
@pytest.mark.skipif(not has_native_bfloat16("cpu"), reason="needs a processor that computes in bfloat16")
def test_what_of_ct_denoise_stays_in_float32_is_enough(tmp_path):
    network = load_model(RestoreOptions(model="ct-denoise", device="cpu")).denoiser.denoiser.network
    case = cropped(cases("ct-denoise", tmp_path)[0])
    exact, rounded = (psnr_of(network, case, bfloat16=short) for short in (False, True))
    assert rounded == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
def test_texture_that_is_read_as_noise_stays_and_noise_goes():
    whole = read(CROP).array
    slices = whole[..., : whole.shape[2] // 6 * 6].reshape(*whole.shape[:2], -1, 6).mean(axis=3)
    affine = np.diag([1.0, 1.0, 6.0, 1.0])

    def restored(array):
        scan = Volume.from_array(np.ascontiguousarray(array, dtype=np.float32), affine, Modality.MR)
        return restore(scan, RestoreOptions(model="mr-denoise", force=True))

    alone = restored(slices)
    assert "noise-not-found" in {found.code for found in alone.record.findings}
    assert alone.record.verdict["verdict"] is None
    np.testing.assert_array_equal(alone.volume.array, slices.astype(np.float32))
    scan = noisy(slices, 0.02)
    with_noise = restored(scan)
    assert "noise-not-found" not in {found.code for found in with_noise.record.findings}
    before, after = (psnr(one, slices, data_range=255.0) for one in (scan, with_noise.volume.array))
    assert after > before + 3
