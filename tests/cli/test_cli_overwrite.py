"""What `--overwrite` takes away, what it never does, and names of files that are no UTF-8."""

from __future__ import annotations

import json
import os

import pytest
from dicom_series import left_in, write_head
from tiny import CommandLine, model_folder, noisy, phantom, save

from medrestore.io import read

DRAW = ("--samples", 2, "--steps", 2, "--sampler", "euler", "--save-std")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


@pytest.fixture
def restore(monkeypatch, capsys, model):
    """Runs `medrestore restore`; whatever it says, it must end well."""
    cli = CommandLine(monkeypatch, capsys)

    def run(*arguments: object) -> None:
        status, _, errors = cli("restore", *arguments, "--model", model, "--modality", "MR", "-q")
        assert status == 0, errors

    return run


def test_a_deviation_of_an_earlier_result_does_not_stay_beside_a_new_one(restore, tmp_path):
    scan = save(tmp_path / "scan.nii", noisy(phantom(16), 0.05))
    (tmp_path / "out").mkdir()
    restore(scan, "-o", tmp_path / "out" / "s.nii.gz", *DRAW)
    assert left_in(tmp_path / "out") == ["s.json", "s.nii.gz", "s_std.nii.gz"]
    restore(scan, "-o", tmp_path / "out" / "s.nii.gz", "--overwrite")
    assert left_in(tmp_path / "out") == ["s.json", "s.nii.gz"]


def test_a_series_makes_room_for_nifti_of_its_name(restore, tmp_path):
    write_head(tmp_path / "in", noisy(phantom(16), 0.05))
    (tmp_path / "out").mkdir()
    restore(tmp_path / "in", "-o", tmp_path / "out" / "r", *DRAW)
    assert left_in(tmp_path / "out") == ["r", "r.json", "r_std"]
    restore(tmp_path / "in", "-o", tmp_path / "out" / "r.nii.gz", "--overwrite")
    assert left_in(tmp_path / "out") == ["r.json", "r.nii.gz"]


def test_what_is_read_is_never_taken_away(restore, tmp_path):
    scan = save(tmp_path / "scan.nii", noisy(phantom(16), 0.05))
    first = tmp_path / "y.nii.gz"
    restore(scan, "-o", first)
    restore(first, "-o", tmp_path / "y.nii", "--overwrite")
    assert first.exists()
    assert read(first).shape == read(tmp_path / "y.nii").shape


@pytest.mark.parametrize("text", ["[3]", '["x"]', '{"volumes": 3}', '{"output": []}', "no json"])
def test_a_record_of_somebody_else_takes_nothing_away(restore, tmp_path, text):
    scan = save(tmp_path / "scan.nii", noisy(phantom(16), 0.05))
    (tmp_path / "s.json").write_text(text)
    (tmp_path / "s_std.nii.gz").write_text("of somebody else")
    restore(scan, "-o", tmp_path / "s.nii.gz", "--overwrite")
    assert (tmp_path / "s_std.nii.gz").read_text() == "of somebody else"


def test_a_name_that_is_no_utf8_loses_no_result(restore, tmp_path):
    scan = tmp_path / os.fsdecode(b"M\xfcller.nii")
    save(tmp_path / "scan.nii", noisy(phantom(16), 0.05)).rename(scan)
    restore(scan, "-o", tmp_path / "s.nii.gz")
    assert json.loads((tmp_path / "s.json").read_text())["input"]["path"] == str(scan)
