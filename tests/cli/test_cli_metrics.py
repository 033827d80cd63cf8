"""`medrestore metrics`: values with their definitions, on one grid only."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from tiny import CommandLine, noisy, phantom, save

from medrestore.metrics import head_mask


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def pair(tmp_path):
    clean = phantom(24)
    return save(tmp_path / "image.nii", noisy(clean, 0.05)), save(tmp_path / "clean.nii", clean)


def values(cli, *arguments):
    status, out, errors = cli("metrics", *arguments, "--json")
    assert status == 0, errors
    (volume,) = json.loads(out)["volumes"]
    return volume


def arrays(pair):
    return [nib.load(path).get_fdata() for path in pair]


def expected_psnr(pair, inside, data_range):
    image, clean = arrays(pair)
    return 10 * np.log10(data_range**2 / np.mean((image - clean)[inside] ** 2))


def test_the_default_is_the_head_and_the_range_of_the_reference(cli, pair):
    _, clean = arrays(pair)
    found = values(cli, *pair)
    assert found["psnr"]["value"] == pytest.approx(expected_psnr(pair, head_mask(clean), np.ptp(clean)), 1e-5)
    assert list(found) == ["psnr", "ssim", "mae", "rmse"]
    assert f"{head_mask(clean).sum()} of {clean.size} voxels" in found["psnr"]["definition"]


def test_all_voxels_and_a_range_of_ones_own(cli, pair):
    found = values(cli, *pair, "--mask", "all", "--data-range", 1000)
    assert found["psnr"]["value"] == pytest.approx(expected_psnr(pair, ..., 1000.0), 1e-5)
    assert "data range 1000, over all" in found["psnr"]["definition"]


def test_a_mask_of_ones_own(cli, pair, tmp_path):
    inside = np.zeros((24, 24, 24), dtype=np.uint8)
    inside[8:16, 8:16, 8:16] = 1
    mask = save(tmp_path / "mask.nii", inside)
    found = values(cli, *pair, "--mask", mask, "--data-range", 800)
    assert found["psnr"]["value"] == pytest.approx(expected_psnr(pair, inside > 0, 800.0), 1e-5)


def test_definitions_stand_beside_the_values(cli, pair):
    status, table, _ = cli("metrics", *pair)
    assert status == 0
    row = next(line for line in table.splitlines() if line.startswith("SSIM"))
    assert "Gaussian window 11 voxels wide with sigma 1.5 voxels" in row


def test_a_value_that_cannot_be_had_says_why(cli, pair):
    status, table, _ = cli("metrics", pair[1], pair[1])
    assert status == 0
    assert "absent: identical" in table


@pytest.mark.parametrize("swap", ["image", "mask"])
def test_another_grid_is_refused(cli, pair, tmp_path, swap):
    other = save(tmp_path / "other.nii", phantom(24), spacing=1.1)
    arguments = (other, pair[1]) if swap == "image" else (*pair, "--mask", other)
    status, table, errors = cli("metrics", *arguments)
    assert (status, table) == (2, "")
    assert "other.nii: on another grid than" in errors
    assert "voxels of 1.1 x 1.1 x 1.1 mm" in errors


def test_a_series_against_one_reference(cli, pair, tmp_path):
    series = save(tmp_path / "series.nii", np.stack([noisy(phantom(24), 0.02), phantom(24)], axis=-1))
    status, table, _ = cli("metrics", series, pair[1])
    assert status == 0
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["0"] * 4 + ["1"] * 4
    status, _, errors = cli("metrics", pair[0], series)
    assert status == 2
    assert "a series of 2 volumes" in errors


def test_a_data_range_must_be_positive(cli, pair):
    found = values(cli, *pair, "--data-range", 0)
    assert found["psnr"]["value"] is None
    assert "data_range must be a positive number" in found["psnr"]["reason"]


def test_padding_of_ct_is_no_part_of_the_range_whatever_the_file_is_called(cli, tmp_path):
    clean = phantom(24) - 1000
    clean[:4] = -3024
    plain = [save(tmp_path / name, voxels) for name, voxels in (("a.nii", clean + 5), ("b.nii", clean))]
    named = [save(tmp_path / name, voxels) for name, voxels in (("a_ct.nii", clean + 5), ("b_ct.nii", clean))]
    said = values(cli, *named)
    assert values(cli, *plain, "--modality", "CT") == said
    assert values(cli, *plain)["psnr"]["value"] > said["psnr"]["value"] + 1
