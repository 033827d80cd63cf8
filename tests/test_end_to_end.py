"""The shipped weights on the middle of the sample scans: from the command line to files, and better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from samples import small_samples
from tiny import CommandLine

from medrestore.io import read
from medrestore.provenance import RunRecord, sha256_file

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "medrestore" / "builtin" / "models" / "mr-denoise" / "model.safetensors"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.exists(), reason="the shipped model is not trained yet: no weights"),
]


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return small_samples(tmp_path_factory.mktemp("samples") / "data")


def test_a_noisy_scan_is_restored_by_default(cli, samples, tmp_path):
    clean, noisy = samples / "colin27_crop.nii.gz", samples / "colin27_crop_rician5.nii.gz"
    out = tmp_path / "restored.nii.gz"
    status, table, errors = cli("restore", noisy, "-o", out, "--modality", "MR", "--reference", clean)
    assert status == 0, errors
    record = RunRecord.from_json((tmp_path / "restored.json").read_text())
    assert record.model.name.endswith("/mr-denoise")
    assert record.model.sha256 == sha256_file(WEIGHTS)
    assert record.output["sha256"] == sha256_file(out)
    assert record.noise["fraction"] == pytest.approx(0.05, rel=0.15)
    before, after = record.metrics["input"], record.metrics["result"]
    assert after["psnr"]["value"] > before["psnr"]["value"] + 5
    assert after["ssim"]["value"] > before["ssim"]["value"]
    # What was taken out is as strong as the noise, and neighbours in it know little of each other.
    assert 0.8 < record.noise["std_over_sigma"] < 1.1
    assert abs(record.noise["neighbour_correlation"]) < 0.2
    assert f"-> {after['psnr']['value']:.2f}" in table

    status, text, errors = cli("metrics", out, clean, "--json")
    assert status == 0, errors
    (volume,) = json.loads(text)["volumes"]
    assert volume["psnr"]["value"] == pytest.approx(after["psnr"]["value"], abs=1e-3)


def test_a_dicom_series_is_restored_by_default(cli, samples, tmp_path):
    series = samples / "dicom_rician5"
    status, _, errors = cli("restore", series, "-o", tmp_path, "-q")
    assert (status, errors) == (0, "")
    out = tmp_path / "dicom_rician5_restored"
    before, after = read(series), read(out)
    assert len(list(out.glob("*.dcm"))) == after.shape[2] == before.shape[2]
    assert after.geometry.allclose(before.geometry)
    record = RunRecord.from_json((tmp_path / "dicom_rician5_restored.json").read_text())
    assert (record.input.format, record.settings["modality"]) == ("dicom", "MR")
    assert record.output["series"]["sha256"] == after.source.sha256
    removed = np.std(before.array - after.array) / record.noise["sigma"]
    assert 0.8 < removed < 1.1
    assert not record.sentences
