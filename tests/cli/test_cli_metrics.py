"""`medrestore metrics`: values with their definitions, on one grid only."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from tiny import CommandLine, noisy, phantom, save

from medrestore.metrics import (
    cjv,
    cnr,
    evaluate_without_reference,
    find_regions,
    head_mask,
    noise_power_spectrum,
)


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
    status, out, errors = cli("metrics", *pair, "--data-range", 0)
    assert (status, out) == (2, "")
    assert "data_range must be a positive number" in errors


def test_a_mask_must_have_voxels(cli, pair, tmp_path):
    empty = save(tmp_path / "empty.nii", np.zeros((24, 24, 24)))
    for arguments in ((*pair, "--mask", empty), (pair[0], "--air", empty)):
        status, out, errors = cli("metrics", *arguments)
        assert (status, out) == (2, "")
        assert f"{empty}: the mask selects no voxel" in errors


def test_voxels_without_a_number_are_filled_on_request(cli, pair, tmp_path):
    voxels = nib.load(pair[0]).get_fdata()
    voxels[0, 0, 0] = np.nan
    holed = save(tmp_path / "holed.nii", voxels)
    status, _, errors = cli("metrics", holed, pair[1])
    assert status == 2
    assert "--nan-fill 0" in errors
    assert values(cli, holed, pair[1], "--nan-fill", 0)["psnr"]["value"] > 20


def test_options_of_dicom_are_for_dicom(cli, pair):
    status, _, errors = cli("metrics", *pair, "--on-tilt", "resample")
    assert status == 2
    assert "is no DICOM" in errors


def test_padding_of_ct_is_no_part_of_the_range_whatever_the_file_is_called(cli, tmp_path):
    clean = phantom(24) - 1000
    clean[:4] = -3024
    plain = [save(tmp_path / name, voxels) for name, voxels in (("a.nii", clean + 5), ("b.nii", clean))]
    named = [save(tmp_path / name, voxels) for name, voxels in (("a_ct.nii", clean + 5), ("b_ct.nii", clean))]
    said = values(cli, *named)
    assert values(cli, *plain, "--modality", "CT") == said
    assert values(cli, *named, "--modality", "unknown") == said
    status, out, errors = cli("metrics", *plain, "--json")
    assert status == 0
    assert json.loads(out)["volumes"][0]["psnr"]["value"] > said["psnr"]["value"] + 1
    assert "--modality CT if they are padding" in errors


# Without a reference


def test_what_a_mask_leaves_of_the_head_is_no_air(cli, tmp_path):
    head = phantom(40)
    scan = noisy(head, 0.03)
    inner = ndimage.binary_erosion(head_mask(head), iterations=5)
    path, mask = save(tmp_path / "scan.nii", scan), save(tmp_path / "mask.nii", inner.astype(float))
    by_head, by_mask = values(cli, path)["restored"], values(cli, path, "--mask", mask)["restored"]
    assert by_mask["cjv"] != by_head["cjv"]
    air = re.compile(r"\d+ voxels of air")
    assert air.findall(by_mask["fber"]["definition"]) == air.findall(by_head["fber"]["definition"]) != []


@pytest.fixture
def restored(tmp_path):
    scan = noisy(phantom(40), 0.05)
    smooth = ndimage.gaussian_filter(scan, 0.7)
    return save(tmp_path / "restored.nii", smooth, 1.5), save(tmp_path / "scan.nii", scan, 1.5)


@pytest.fixture
def masks(tmp_path):
    """Masks of two tissues, air and a homogeneous region of `phantom(40)`, by name."""
    clean = phantom(40)
    found = {"grey": (clean > 540) & (clean < 660), "white": clean > 780, "air": clean < 1}
    found["region"] = np.zeros(clean.shape, dtype=bool)
    found["region"][12:28, 12:28, 12:28] = True
    return {name: save(tmp_path / f"{name}.nii", mask.astype(np.uint8), 1.5) for name, mask in found.items()}


def test_one_scan_is_judged_by_itself(cli, restored):
    found = values(cli, restored[0])
    assert list(found) == ["restored"]
    array = nib.load(restored[0]).get_fdata(dtype=np.float32)
    regions = find_regions(array, acquired=array, head=head_mask(array))
    expected = evaluate_without_reference(array, (1.5, 1.5, 1.5), regions, guide=array)
    assert found["restored"] == {name: asdict(value) for name, value in expected.items()}
    assert all(value["value"] is not None for value in found["restored"].values())


def test_before_and_after_in_the_same_masks_across_the_same_edges(cli, restored):
    result, scan = (nib.load(path).get_fdata(dtype=np.float32) for path in restored)
    found = values(cli, restored[0], "--before", restored[1])
    assert list(found) == ["before", "restored", "removed"]
    head = head_mask(result)
    regions = find_regions(result, acquired=scan, head=head)
    for where, array in (("before", scan), ("restored", result)):
        expected = evaluate_without_reference(array, (1.5,) * 3, regions, guide=result)
        assert found[where] == {name: asdict(value) for name, value in expected.items()}
    assert found["before"]["snr_2"]["value"] < found["restored"]["snr_2"]["value"]
    assert found["before"]["edge_width"]["value"] < found["restored"]["edge_width"]["value"]
    power = noise_power_spectrum(scan - result, (1.5,) * 3, mask=head)
    assert found["removed"]["noise_power"]["power"] == pytest.approx(list(power.power))
    assert found["removed"]["noise_frequency"]["value"] == pytest.approx(power.mean_frequency)


def test_before_and_after_stand_side_by_side(cli, restored):
    status, table, errors = cli("metrics", restored[0], "--before", restored[1])
    assert status == 0, errors
    assert table.splitlines()[0].split() == ["metric", "before", "restored", "removed", "definition"]
    found = values(cli, restored[0], "--before", restored[1])
    row = next(line for line in table.splitlines() if line.startswith("EFC"))
    both = [f"{found[where]['efc']['value']:.6g}" for where in ("before", "restored")]
    assert row.split()[1:3] == both
    assert "no segmentation of tissues" in table


def test_masks_of_ones_own(cli, restored, masks):
    tissues = ("--tissue", masks["grey"], "--tissue", masks["white"])
    found = values(cli, restored[1], *tissues, "--air", masks["air"], "--region", masks["region"])["restored"]
    array = nib.load(restored[1]).get_fdata(dtype=np.float32)
    grey, white, air, region = (nib.load(masks[name]).get_fdata() > 0 for name in masks)
    assert found["cnr"]["value"] == cnr(array, first=grey, second=white, air=air)
    assert found["cjv"]["value"] == cjv(array, first=grey, second=white)
    assert "grey.nii; " in found["cnr"]["definition"]
    assert "Otsu" not in found["cnr"]["definition"]
    power = noise_power_spectrum(array, (1.5,) * 3, mask=region)
    assert found["noise_frequency"]["value"] == power.mean_frequency
    assert found["noise_power"]["frequency"] == list(power.frequency)


def test_ct_has_contrast_and_sharpness_but_no_signal_from_zero(cli, tmp_path):
    body = noisy(phantom(40), 0.03) - 1000
    found = values(cli, save(tmp_path / "scan.nii", body), "--modality", "CT")["restored"]
    assert {name for name, value in found.items() if value["value"] is not None} == {
        "cnr",
        "cjv",
        "edge_width",
    }
    assert "negative" in found["efc"]["reason"]


def test_volumes_of_a_series_are_judged_one_by_one(cli, tmp_path):
    series = save(tmp_path / "series.nii", np.stack([noisy(phantom(24), 0.02, seed) for seed in (0, 1)], -1))
    status, table, _ = cli("metrics", series)
    assert status == 0
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["0"] * 9 + ["1"] * 9


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["clean.nii", "--before", "clean.nii"], "--before: for a scan without a REFERENCE"),
        (["clean.nii", "--tissue", "clean.nii", "--air", "clean.nii"], "--tissue, --air: for a scan"),
        (["--data-range", "5"], "--data-range is for PSNR and SSIM"),
        (["--tissue", "clean.nii"], "--tissue was given 1 times; expected two masks"),
        (["--tissue", "clean.nii", "--tissue", "clean.nii"], "clean.nii: several values beside 0"),
        (["--before", "other.nii"], "on another grid than"),
        (["--air", "other.nii"], "other.nii: on another grid than"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, pair, tmp_path, monkeypatch, arguments, reason):
    save(tmp_path / "other.nii", phantom(24), spacing=1.1)
    monkeypatch.chdir(tmp_path)
    status, table, errors = cli("metrics", "image.nii", *arguments)
    assert (status, table) == (2, "")
    assert reason in errors
