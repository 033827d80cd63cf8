"""`medrestore noise`: what is printed, what is refused, and the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_series import write_head, write_series
from test_startup import RUN, loaded
from tiny import CommandLine, model_folder, noisy, phantom, save

from medrestore import RestoreOptions, restore
from medrestore.cli import noise_picture
from medrestore.io import read_series
from medrestore.noise import measure_noise
from medrestore.noise.intensity import bright_level
from medrestore.physics.mr_noise import add_rician

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "scan_T1w.nii", noisy(phantom(48), 0.05))


def rows(table: str) -> dict[str, list[str]]:
    """Cells by the first of each row."""
    return {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.strip()}


def test_the_level_and_a_row_for_each_axis_are_printed(cli, scan):
    status, table, errors = cli("noise", scan)
    assert (status, errors) == (0, "")
    found = rows(table)
    (volume,) = read_series(scan)
    model = measure_noise(volume.array, volume.spacing)
    assert found["level"][0] == f"{model.sigma:.4g},"
    assert float(found["level"][1]) == pytest.approx(5, rel=0.1)
    assert "% of the 99th percentile" in table
    assert found["certainty"] == [str(model.certainty)]
    assert found["read"] == ["in", *model.source.split()]
    assert found["distribution"] == ["rician"]
    assert found["varies"] == ["not", "that", "it", "could", "be", "seen"]
    assert [found[name][2] for name in "ijk"] == ["48"] * 3
    assert [found[name][1] for name in "ijk"] == [str(size) for size in model.grid]
    assert "spike" not in table


def test_json_is_the_model_and_its_percentage_and_nothing_else(cli, scan, tmp_path):
    status, out, errors = cli("noise", scan, "--json", "--picture", tmp_path / "p.png")
    assert (status, errors) == (0, "")
    (volume,) = read_series(scan)
    model = measure_noise(volume.array, volume.spacing)
    expected = {**model.as_json(), "percent": 100 * model.sigma / bright_level(volume.array), "map": None}
    assert json.loads(out) == json.loads(json.dumps(expected))
    assert (tmp_path / "p.png").is_file()


def test_how_it_varies_is_what_a_restoration_is_told(cli, tmp_path):
    clean = phantom(72)
    gain = np.broadcast_to(np.linspace(0.5, 2, 72, dtype=np.float32)[:, None, None], clean.shape)
    sigma = np.float32(0.06 * np.percentile(clean, 99)) * gain
    scan = save(tmp_path / "scan_T1w.nii", add_rician(clean, sigma, np.random.default_rng(5)))
    status, table, errors = cli("noise", scan)
    assert (status, errors) == (0, "")
    status, out, _ = cli("noise", scan, "--json")
    printed = json.loads(out)
    low, high = printed["map"]["p5"], printed["map"]["p95"]
    assert f"varies         from {low:.2f} to {high:.2f} of the level in nine tenths of the tissue" in table
    assert low < 0.8 and high > 1.2
    model = str(model_folder(tmp_path / "model"))
    done = restore(read_series(scan)[0], RestoreOptions(model=model))
    assert printed["map"] == done.record.noise["map"]
    assert printed["sigma"] == done.record.noise["sigma"]


def test_how_weak_noise_varies_is_not_looked_for(cli, tmp_path):
    _, table, _ = cli("noise", save(tmp_path / "scan_T1w.nii", noisy(phantom(48), 0.003)))
    assert rows(table)["varies"] == ["not", "looked", "for", "below", "1%"]


def test_a_scan_that_does_not_say_what_it_is_is_taken_for_mr_with_a_warning(cli, scan, tmp_path):
    plain = scan.rename(tmp_path / "scan.nii")
    status, out, errors = cli("noise", plain, "--json")
    assert (status, errors) == (0, "Warning: the scan does not say its modality; taken for MR\n")
    assert cli("noise", plain, "--json", "--modality", "mr") == (0, out, "")
    assert cli("noise", plain, "--json", "--modality", "unknown") == (0, out, errors)


def test_ct_is_refused_unless_it_is_said_to_be_mr(cli, scan, tmp_path):
    named = scan.rename(tmp_path / "scan_ct.nii")
    status, out, errors = cli("noise", named)
    assert (status, out) == (2, "")
    assert "scan_ct.nii: a scan of CT, and the noise of MR is what is measured here" in errors
    assert "medrestore restore" in errors
    assert cli("noise", named, "--modality", "MR")[::2] == (
        0,
        "Warning: the scan says CT, --modality says MR\n",
    )
    status, _, errors = cli("noise", named, "--modality", "CT")
    assert (status, "a scan of CT" in errors) == (2, True)


def test_a_folder_of_dicom_files_is_read(cli, tmp_path):
    head = noisy(phantom(32), 0.05)
    write_head(tmp_path / "head", head)
    status, out, errors = cli("noise", tmp_path / "head", "--json")
    assert (status, errors) == (0, "")
    assert [axis["size"] for axis in json.loads(out)["axes"]] == [32, 32, 6]
    assert cli("noise", tmp_path / "head", "--json", "--series", 1) == (0, out, "")
    write_series(tmp_path / "ct", "CT")
    status, _, errors = cli("noise", tmp_path / "ct")
    assert (status, "a scan of CT" in errors) == (2, True)


def test_a_series_is_read_in_its_differences(cli, tmp_path):
    clean, rng = phantom(32) + 500, np.random.default_rng(0)
    volumes = [clean + 20 * rng.standard_normal(clean.shape) for _ in range(3)]
    series = save(tmp_path / "run_bold.nii", np.stack(volumes, axis=-1).astype(np.float32))
    status, table, _ = cli("noise", series, "--modality", "MR")
    assert status == 0
    found = rows(table)
    assert float(found["level"][0].rstrip(",")) == pytest.approx(20, rel=0.1)
    assert found["read"] == ["in", "series", "of", "3", "volumes"]
    assert found["certainty"] == ["sure"]


def test_spikes_and_coils_are_named(cli, tmp_path):
    clean, rng = phantom(64), np.random.default_rng(0)
    parts = [clean / 2 + 30 * (rng.standard_normal((2, 64, 64, 64)).T @ [1, 1j]).T for _ in range(4)]
    stripes = 100 * np.cos(2 * np.pi * np.arange(64) * 20 / 64)
    voxels = np.sqrt(sum(np.abs(part) ** 2 for part in parts)) + stripes
    status, table, _ = cli("noise", save(tmp_path / "scan_T1w.nii", voxels.astype(np.float32)))
    assert status == 0
    assert "noncentral-chi (sum of squares of 4 coils)" in table
    (line,) = [line for line in table.splitlines() if line.startswith("0, 0, 20 ")]
    assert line.split()[-1] == "times"


def test_a_scan_without_noise_has_a_level_of_nothing(cli, tmp_path):
    flat = save(tmp_path / "flat_T1w.nii", np.zeros((20, 20, 20), dtype=np.float32))
    status, out, errors = cli("noise", flat, "--json", "--picture", tmp_path / "flat.png")
    assert (status, errors) == (0, "")
    assert (json.loads(out)["sigma"], json.loads(out)["percent"]) == (0, None)
    status, table, _ = cli("noise", flat)
    assert (status, rows(table)["level"]) == (0, ["0"])
    assert rows(table)["air"] == ["alone", "-"]


def test_options_for_dicom_are_refused_for_nifti(cli, scan):
    status, _, errors = cli("noise", scan, "--on-gap", "resample")
    assert (status, "is no DICOM, which --values and --on-... are for" in errors) == (2, True)
    status, _, errors = cli("noise", scan, "--series", 1)
    assert (status, "no DICOM" in errors) == (2, True)
    status, _, errors = cli("noise", scan.with_name("nowhere.nii"))
    assert (status, "no such file" in errors) == (2, True)


def test_the_picture_is_a_png_and_replaces_nothing_unasked(cli, scan, tmp_path):
    picture = tmp_path / "spectra.png"
    status, table, errors = cli("noise", scan, "--picture", picture)
    assert (status, errors) == (0, "")
    assert picture.read_bytes().startswith(PNG)
    assert f"The spectra are in {picture}." in table
    picture.write_bytes(b"of somebody else")
    status, out, errors = cli("noise", scan, "--picture", picture)
    assert (status, out) == (2, "")
    assert "exists already and is left as it is" in errors
    assert picture.read_bytes() == b"of somebody else"
    assert cli("noise", scan, "--picture", picture, "--overwrite")[0] == 0
    assert picture.read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan_T1w.nii", "spectra.png"]


def test_a_picture_that_cannot_be_written_is_refused_before_the_scan_is_read(cli, tmp_path):
    nowhere = tmp_path / "scan.nii"
    for name, words in (("p.jpg", "ends in .png"), ("none/p.png", "does not exist; make it first")):
        status, _, errors = cli("noise", nowhere, "--picture", tmp_path / name)
        assert (status, words in errors) == (2, True)
    named = tmp_path / "scan.png"
    named.write_bytes(b"voxels")
    status, _, errors = cli("noise", named, "--picture", named, "--overwrite")
    assert (status, "is the scan, which no picture replaces" in errors) == (2, True)


def test_without_matplotlib_it_says_what_to_install(cli, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(noise_picture, "find_spec", lambda name: None)
    status, _, errors = cli("noise", scan, "--picture", tmp_path / "p.png")
    assert (status, "pip install 'medrestore[demo]'" in errors) == (2, True)
    assert cli("noise", scan)[0] == 0


def test_help_loads_nothing_heavy():
    assert loaded(RUN, "noise", "--help") == []
