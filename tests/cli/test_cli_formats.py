"""Scans of other formats through every command; MGH stands for them, as nibabel reads it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny import CommandLine, noisy, phantom, save

pytestmark = pytest.mark.usefixtures("formats_plugin")


@pytest.fixture
def cli(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan(tmp_path) -> Path:
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    image = nib.MGHImage(noisy(phantom(24), 0.05), affine)
    nib.save(image, tmp_path / "head_T1w.mgz")
    return tmp_path / "head_T1w.mgz"


@pytest.mark.parametrize(
    ("out", "more", "made"),
    [
        ("x.mgz", (), "x.mgz"),
        ("x.mgh", ("--format", "MGZ"), "x.mgh"),
        ("x.nii", (), "x.nii"),
        ("", (), "head_T1w_restored.nii.gz"),
        ("", ("--format", "mgz"), "head_T1w_restored.mgz"),
        ("", ("--format", "nifti"), "head_T1w_restored.nii.gz"),
    ],
)
def test_a_result_is_written_as_is_asked(cli, scan, tiny_model, out, more, made):
    (results := scan.parent / "results").mkdir()
    status, _, errors = cli("restore", scan, "-o", results / out, "--model", tiny_model, "-q", *more)
    assert status == 0, errors
    stem = made.split(".", 1)[0]
    assert sorted(path.name for path in results.iterdir()) == sorted([made, f"{stem}.json"])
    record = json.loads((results / f"{stem}.json").read_text())
    assert (record["input"]["format"], record["output"]["path"]) == ("mgz", made)
    assert (record["output"]["dtype"], len(record["output"]["sha256"])) == ("float32", 64)
    assert np.allclose(nib.load(results / made).affine, nib.load(scan).affine, atol=1e-4)


def test_the_spread_of_samples_has_the_format_of_the_image(cli, scan, tmp_path, tiny_model):
    draw = ("--samples", 2, "--steps", 2, "--sampler", "euler", "--save-std", "--out-dtype", "int16")
    status, _, errors = cli("restore", scan, "-o", tmp_path / "x.mgz", "--model", tiny_model, "-q", *draw)
    assert status == 0, errors
    assert nib.load(tmp_path / "x.mgz").get_data_dtype() == np.dtype(">i2")
    assert nib.load(tmp_path / "x_std.mgz").shape == (24, 24, 24)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("-o", "{folder}", "--format", "nope"),
            "called 'nope'; expected dicom, both, nifti",
        ),
        (("-o", "{folder}", "--format", "analyze"), "no format that is written is called 'analyze'"),
        (("-o", "{folder}/x.nii", "--format", "mgz"), "is the name of a NIfTI file, and --format is mgz"),
        (("-o", "{folder}/x.mgz", "--format", "dicom"), "is no DICOM; a derived series takes"),
        (
            ("-o", "{folder}/x.hdr"),
            ".mgh, .mgz, .mha, .nii, .nii.gz or .nrrd, or is that",
        ),
        (("-o", "{folder}/x", "--format", "mgz"), "ends in .mgh or .mgz, or is that of a folder"),
        (
            ("-o", "{folder}/x.mgz", "--out-dtype", "float64"),
            "voxel type 'float64', expected 'input'",
        ),
        (("-o", "{folder}/x.mgz", "--series", "2"), "no DICOM, and so without a series"),
        (("-o", "{folder}/x.mgz", "--values", "philips"), "is no DICOM, which --values"),
        (("-o", "{folder}/head_T1w.mgz"), "is read in this run"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, scan, tiny_model, arguments, words):
    words_of = [str(one).format(folder=scan.parent) for one in arguments]
    status, _, errors = cli("restore", scan, "--model", tiny_model, "-q", *words_of)
    assert status == 2 and words in " ".join(errors.split()), errors
    assert [path.name for path in scan.parent.iterdir()] == ["head_T1w.mgz"]


def test_references_and_the_other_commands_read_it(cli, scan, tmp_path, tiny_model):
    truth = tmp_path / "truth.mgz"
    nib.save(nib.MGHImage(phantom(24), nib.load(scan).affine), truth)
    out = ("-o", tmp_path / "x.nii", "--reference", truth, "--model", tiny_model, "-q")
    assert cli("restore", scan, *out)[0] == 0
    assert json.loads((tmp_path / "x.json").read_text())["metrics"]["result"]["psnr"]["value"] > 0
    status, shown, _ = cli("metrics", scan, truth, "--mask", "all", "--json")
    assert status == 0 and json.loads(shown)["volumes"][0]["psnr"]["value"] > 0
    status, shown, _ = cli("noise", scan, "--json")
    assert status == 0 and json.loads(shown)["sigma"] > 0


def test_scan_says_which_files_other_formats_read(cli, scan, tmp_path):
    save(tmp_path / "a.nii", phantom(8))
    status, shown, _ = cli("scan", tmp_path)
    assert status == 0 and "2 files are no DICOM." in shown
    assert "1 read as mgz, such as" in shown and "1 read as nifti, such as" in shown
    found = json.loads(cli("scan", tmp_path, "--json")[1])["other_formats"]
    assert [(Path(one["file"]).name, one["format"]) for one in found] == [
        ("a.nii", "nifti"),
        ("head_T1w.mgz", "mgz"),
    ]
