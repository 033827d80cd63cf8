"""The classical plugin through the commands: it restores, is judged, and says what it cannot do."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from tiny import CommandLine, noisy, phantom, save

CLEAN = phantom(32)


@pytest.fixture
def cli(monkeypatch, capsys, classical_plugin):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "head_T1w.nii", noisy(CLEAN, 0.05))


@pytest.fixture
def series(tmp_path):
    volumes = [noisy(CLEAN, 0.05, seed) for seed in range(8)]
    return save(tmp_path / "run_T1w.nii", np.stack(volumes, axis=-1))


def error(path) -> float:
    found = np.asarray(nib.load(path).dataobj)
    clean = CLEAN if found.ndim == 3 else CLEAN[..., None]
    return float(np.sqrt(np.mean(np.square(found - clean)[CLEAN > 200])))


def test_a_filter_restores_a_scan_and_is_judged(cli, scan, tmp_path):
    out = tmp_path / "out.nii.gz"
    assert cli("restore", scan, "-o", out, "--model", "classical/wavelet", "--noise", "5%", "-q")[0] == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["model"]["name"] == "classical/wavelet"
    assert record["verdict"]["verdict"]
    assert error(out) < 0.8 * error(scan)


def test_a_filter_draws_no_samples(cli, scan, tmp_path):
    asked = ("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", "classical/nlm")
    status, _, errors = cli(*asked, "--samples", "2")
    assert (status, "classical/nlm offers mean" in errors) == (2, True)
    status, _, errors = cli(*asked, "--interval", "0.9")
    assert status == 2


def test_a_method_of_series_restores_a_series_alone(cli, series, scan, tmp_path):
    asked = ("-o", tmp_path / "out.nii.gz", "--model", "classical/nordic")
    status, _, errors = cli("restore", series, *asked)
    assert (status, "pass --volumes joint" in errors) == (2, True)
    status, _, errors = cli("restore", scan, *asked, "--volumes", "joint")
    assert (status, "the scan has 1 volume" in errors) == (5, True)
    assert cli("restore", series, *asked, "--volumes", "joint", "-q")[0] == 0
    records = json.loads((tmp_path / "out.json").read_text())
    assert len(records) == 8
    assert all(record["noise"]["sigma"] == records[0]["noise"]["sigma"] for record in records)
    assert "series-mixed" in {one["code"] for one in records[0]["findings"]}
    assert error(tmp_path / "out.nii.gz") < 0.6 * error(series)


def test_a_batch_restores_the_series_and_goes_on_where_there_is_none(cli, series, scan, tmp_path):
    scans, out = tmp_path / "scans", tmp_path / "restored"
    scans.mkdir()
    for path in (series, scan):
        path.rename(scans / path.name)
    status, text, errors = cli("batch", scans, "-o", out, "--model", "classical/nordic", "--volumes", "joint")
    assert status == 3, errors
    assert "the scan has 1 volume" in text + errors
    assert (out / "run_T1w_restored.nii.gz").exists()
    assert not (out / "head_T1w_restored.nii.gz").exists()
