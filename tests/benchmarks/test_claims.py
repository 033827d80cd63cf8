"""The shipped weights on crops: no harm to a clean scan, nothing made of nothing, small spheres kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import medrestore
from medrestore.engine import RestoreOptions, load_model, single
from medrestore.engine.models.find import find_model
from medrestore.engine.tasks.denoising import FAINT, share_taken
from medrestore.metrics import head_mask, reference_range
from medrestore.metrics.lesions import contrast_kept
from medrestore.noise.level import NoiseLevel
from medrestore.physics.mr_noise import add_rician
from medrestore.training import anatomy
from medrestore.types import Modality

ROOT = Path(__file__).resolve().parents[2]
CROP = ROOT / "sample_data" / "colin27_crop.nii.gz"


@pytest.fixture(autouse=True)
def not_tried_first(monkeypatch):
    """Every scan here is forced: whether a model explains it takes two runs more, and is tested elsewhere."""
    monkeypatch.setattr(single, "tried", lambda volume, admission, model, *, force: admission)


@pytest.fixture(scope="module")
def claims():
    from benchmarks.denoise import claims

    return claims


@pytest.fixture(scope="module")
def spheres():
    from benchmarks.ct import spheres

    return spheres


@pytest.fixture(scope="module")
def model():
    return load_model(RestoreOptions(model="medrestore/mr-denoise"), Modality.MR)


@pytest.fixture(scope="module")
def clean():
    return medrestore.read(CROP).array[:48, :48, :48].astype(np.float32)


def restored(voxels, model, **options):
    volume = medrestore.Volume.from_array(voxels, modality=Modality.MR)
    return medrestore.restore(volume, RestoreOptions(force=True, **options), model=model)


@pytest.mark.parametrize("level", [0.0, 0.003])
def test_a_clean_scan_comes_back_as_it_was(clean, model, level):
    scan = clean
    if level:
        sigma = np.float32(level * np.percentile(clean, 99))
        scan = add_rician(clean, sigma, np.random.default_rng(0))
    done = restored(scan, model)
    change = np.abs(done.volume.array - scan)[head_mask(clean)] / reference_range(clean)
    assert np.sqrt(np.square(change).mean()) < 0.002
    assert any("too weak" in note or "as it came" in note for note in done.record.sentences)


def test_what_is_taken_out_grows_with_the_noise_and_is_all_from_the_least_the_model_was_made_for():
    spec = find_model(RestoreOptions(model="medrestore/mr-denoise"), Modality.MR)[1]
    low = spec.noise[0]

    def share(fraction: float, method: str = "estimator") -> float:
        return share_taken(NoiseLevel(fraction, fraction, method), spec)[0]

    assert share(FAINT * low) == 0
    assert 0 < share(0.5 * low) < share(0.9 * low) < 1
    assert share(low) == share(0.1) == 1
    assert share(0.1 * low, "given") == 1


def test_a_share_is_a_blend_of_scan_and_result_and_the_record_says_so(clean, model):
    sigma = 0.004 * float(np.percentile(clean, 99))
    scan = add_rician(clean, np.float32(sigma), np.random.default_rng(0))
    part = restored(scan, model)
    whole = restored(scan, model, noise=float(part.record.noise["sigma"]))
    inside = whole.volume.array > 0  # elsewhere the result was cut off at zero
    taken, all_of_it = ((scan - done.volume.array)[inside] for done in (part, whole))
    ratio = float((taken * all_of_it).sum() / np.square(all_of_it).sum())
    assert 0 < ratio < 1
    np.testing.assert_allclose(taken, ratio * all_of_it, atol=2e-3 * float(clean.max()))
    assert f"{ratio:.0%} of what" in " ".join(part.record.sentences)
    assert "too weak" not in " ".join(whole.record.sentences)


@pytest.mark.parametrize("value", [0.0, 70.0])
def test_a_constant_comes_back(model, value):
    scan = np.full((32, 32, 32), value, dtype=np.float32)
    np.testing.assert_array_equal(restored(scan, model).volume.array, scan)


def test_nothing_coherent_is_made_of_noise_alone(model, claims):
    rng = np.random.default_rng(1)
    scan = add_rician(np.zeros((48, 48, 48), dtype=np.float32), np.float32(5), rng)
    for noise in ("auto", 5.0):
        result = restored(scan, model, noise=noise).volume.array
        assert claims.largest_blob(scan, 5) > 1000
        assert claims.largest_blob(result, 5) < 30
        assert result.std() < 0.3 * scan.std()


@pytest.mark.slow
def test_small_spheres_keep_their_contrast(model, claims, spheres):
    clean = medrestore.read(CROP).array[16:112, 16:112, 16:80].astype(np.float32)
    sigma = float(0.05 * np.percentile(clean, 99))

    def result(scan):
        noisy = add_rician(scan, np.float32(sigma), np.random.default_rng(4))
        return restored(noisy, model, noise=sigma).volume.array

    without = result(clean)
    for cnr in (3, 5):
        scan, placed = claims.with_spheres(clean, cnr * sigma)
        assert len(placed) >= 8
        assert {np.sign(one.contrast) for one in placed} == {-1, 1}
        kept = contrast_kept(result(scan), without, placed)
        assert 0.8 < np.mean(kept) < 1.2


def test_the_contrast_of_a_sphere_is_measured_as_it_was_put_in(claims, spheres):
    scan = np.full((48, 48, 48), 100, dtype=np.float32)
    with_them, placed = claims.with_spheres(scan, 20.0)
    assert {one.diameter for one in placed} == set(spheres.DIAMETERS)
    assert contrast_kept(with_them, scan, placed) == pytest.approx([1.0] * len(placed))
    half = scan + 0.5 * (with_them - scan)
    assert contrast_kept(half, scan, placed) == pytest.approx([0.5] * len(placed))


def test_a_blob_is_counted_over_faces_edges_and_corners(claims):
    image = np.zeros((9, 9, 9), dtype=np.float32)
    image[1, 1, 1] = image[2, 2, 2] = image[2, 2, 3] = 3
    image[7, 7, 7] = -3
    assert claims.largest_blob(image, 1.0) == 3
    assert claims.largest_blob(np.zeros_like(image), 1.0) == 0


@pytest.mark.slow
def test_the_benchmark_writes_its_page(claims, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SIZE", 56)
    monkeypatch.setattr(claims, "CLEAN_LEVELS", (0.0, 0.3))
    claims.main(["--volume", str(CROP), "--levels", "5", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "claims.json").read_text())
    assert report["harm"][0]["noise"] == 0
    assert len(report["spheres"]) == 12
    page = (tmp_path / "claims.md").read_text()
    assert "## Small spheres" in page
    assert str(CROP.parent) not in page


def test_what_a_ct_model_must_not_do_is_measured(claims, tmp_path, monkeypatch):
    from benchmarks.ct import claims as ct_claims

    shape = (48, 40, 24)
    x, y = np.meshgrid(*(np.linspace(-1, 1, n + 16) for n in shape[:2]), indexing="ij")
    plane = np.where(np.hypot(x, y) < 1.2, 50.0, -1000.0).astype(np.float32)
    body = anatomy.Phantom(plane[:, :, None].repeat(30, axis=2), (3.0, 3.0, 3.0))
    monkeypatch.setattr(anatomy, "torso", lambda rng: body)
    monkeypatch.setattr(ct_claims, "SHAPE", shape)
    monkeypatch.setattr(ct_claims, "CLEAN_LEVELS", (0.0, 3.0))
    ct_claims.main(["--out", str(tmp_path)])
    report = json.loads((tmp_path / "claims-ct.json").read_text())
    clean = report["harm"][0]
    assert clean["noise"] == 0 and clean["max"] < 3
    cases = {row["case"]: row for row in report["nothing"]}
    assert cases["air"]["std_out"] == 0 and cases["water"]["blob_out"] == 0
    assert all(row["blob_out"] < 30 for row in cases.values())
    rows = {(row["level"], row["cnr"], row["diameter"]): row for row in report["spheres"]}
    assert len(rows) == 2 * 3 * 4 and all(row["count"] for row in rows.values())
    large = [row["mean"] for (_, cnr, diameter), row in rows.items() if (cnr, diameter) == (5, 6)]
    assert all(0.7 < kept < 1.3 for kept in large)
    assert "medrestore/ct-denoise" in (tmp_path / "claims-ct.md").read_text()


def test_spheres_in_ct_have_the_contrast_that_is_asked_for(spheres, monkeypatch):
    from benchmarks.ct import claims as ct_claims

    tissue = np.full((40, 40, 30), 50, dtype=np.float32)
    tissue[:14] = -900
    scan, placed = ct_claims.with_spheres(tissue, 60.0)
    assert len(placed) > 4 and {np.sign(one.contrast) for one in placed} == {-1, 1}
    np.testing.assert_array_equal(scan[:14], tissue[:14])
    assert contrast_kept(scan, tissue, placed) == pytest.approx([1.0] * len(placed))


@pytest.mark.slow
def test_what_superres_must_not_do_is_measured(claims, tmp_path, monkeypatch):
    from benchmarks.superres import claims as superres_claims

    superres_claims.main(["--volume", str(CROP), "--quick", "--cases", "x2", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "claims-superres-quick.json").read_text())
    rows = {(row["contrast"], row["diameter"]): row for row in report["spheres"]}
    assert len(rows) == 2 * 4
    assert all(0.8 < rows[contrast, 6]["mean"] < 1.2 for contrast in (10, 30))
    peers = [[rows[contrast, diameter]["peer"] for diameter in (3, 4, 5, 6)] for contrast in (10, 30)]
    assert peers[0] == pytest.approx(peers[1], abs=1e-3)  # a spline is linear
    empty, constant, noise = report["nothing"]
    assert empty["std_out"] == 0 and constant["std_out"] < 0.1 and constant["blob_out"] < 10
    assert noise["std_in"] == pytest.approx(1, abs=0.05) and noise["blob_out"] < 30
    page = (tmp_path / "claims-superres-quick.md").read_text()
    assert "medrestore/mr-superres" in page and str(CROP.parent) not in page
