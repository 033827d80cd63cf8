"""Voxels that are no number: refused, or given a value that is asked for, in every format."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from nifti_files import save
from tiny import CommandLine, noisy, phantom

from medrestore import files
from medrestore.errors import ConfigError, InputError
from medrestore.io import reading_findings
from medrestore.options import ReadPolicy

BAD = (np.nan, np.inf, -np.inf)


def with_holes(count: int = 3) -> np.ndarray:
    data = noisy(phantom(24), 0.05, 3).astype(np.float32)
    data.ravel()[:count] = [BAD[number % 3] for number in range(count)]
    return data


def test_without_the_option_the_message_names_it(tmp_path):
    save(tmp_path / "in.nii.gz", with_holes())
    with pytest.raises(
        InputError, match=r"3 of 13824 voxels are not finite \(1 NaN, 2 infinite\).*--nan-fill"
    ):
        files.read(tmp_path / "in.nii.gz")


@pytest.mark.parametrize("value", [0, -1024.0])
@pytest.mark.parametrize("name", ["in.nii", "in.nii.gz"])
def test_they_get_the_value_and_are_counted(tmp_path, name, value):
    save(tmp_path / name, with_holes())
    volume = files.read(tmp_path / name, policy=ReadPolicy(nan_fill=value))
    assert (volume.array[0, 0, :3] == value).all()
    known = np.isfinite(with_holes())
    assert np.array_equal(volume.array[known], with_holes()[known])
    (finding,) = reading_findings(volume)
    assert (finding.code, dict(finding.data)) == ("voxels-filled", {"voxels": 3, "value": float(value)})


def test_the_value_is_not_scaled_and_all_volumes_are_counted(tmp_path):
    image = nib.Nifti1Image(np.stack([with_holes(2), with_holes(1)], axis=-1), np.eye(4))
    image.header["scl_slope"], image.header["scl_inter"] = 2.0, 10.0
    with (tmp_path / "in.nii").open("wb") as stream:
        image.header.write_to(stream)
        stream.write(np.asarray(image.dataobj).tobytes(order="F"))
    first, second = files.read_series(tmp_path / "in.nii", policy=ReadPolicy(nan_fill=7))
    assert [first.array[0, 0, 0], second.array[0, 0, 0]] == [7, 7]
    assert first.array[5, 5, 5] == pytest.approx(2 * with_holes()[5, 5, 5] + 10)
    assert reading_findings(first)[0].data["voxels"] == 3


def test_a_number_too_large_for_float32_is_none_of_them(tmp_path):
    data = np.ones((4, 4, 4))
    data[1, 2, 3] = 1e300
    save(tmp_path / "in.nii", data)
    with pytest.raises(InputError, match="not finite"):
        files.read(tmp_path / "in.nii", policy=ReadPolicy(nan_fill=0))


def test_a_scan_without_any_has_no_finding(tmp_path):
    save(tmp_path / "in.nii", with_holes(0))
    assert reading_findings(files.read(tmp_path / "in.nii", policy=ReadPolicy(nan_fill=0))) == ()


@pytest.mark.usefixtures("formats_plugin")
def test_formats_of_plugins_do_it_too(tmp_path):
    nib.save(nib.MGHImage(with_holes(), np.eye(4)), tmp_path / "in.mgz")
    with pytest.raises(InputError, match="not finite"):
        files.read(tmp_path / "in.mgz")
    volume = files.read(tmp_path / "in.mgz", policy=ReadPolicy(nan_fill=5))
    assert (volume.array[0, 0, :3] == 5).all()
    assert reading_findings(volume)[-1].data["voxels"] == 3


@pytest.mark.parametrize("value", ["nan", np.inf, 1e39, "much"])
def test_a_value_that_no_voxel_can_have_is_refused(value):
    with pytest.raises(ConfigError, match="--nan-fill"):
        ReadPolicy(nan_fill=value)


@pytest.mark.parametrize("verb", ["restore", "batch"])
def test_it_is_in_the_sidecar(monkeypatch, capsys, tmp_path, tiny_model, verb):
    cli, scans = CommandLine(monkeypatch, capsys), tmp_path / "scans"
    scans.mkdir()
    save(scans / "head_T1w.nii", with_holes(), np.eye(4))
    scan = scans / "head_T1w.nii" if verb == "restore" else scans
    out = tmp_path / ("out.nii" if verb == "restore" else "out")
    status, _, errors = cli(verb, scan, "-o", out, "--model", tiny_model, "--nan-fill", "0")
    assert status == 0, errors
    record = tmp_path / "out.json" if verb == "restore" else out / "head_T1w_restored.json"
    found = {one["code"]: one["data"] for one in json.loads(record.read_text())["findings"]}
    assert found["voxels-filled"] == {"voxels": 3, "value": 0.0}
    image = record.with_suffix(".nii") if verb == "restore" else record.with_suffix(".nii.gz")
    assert np.isfinite(nib.load(image).get_fdata()).all()
