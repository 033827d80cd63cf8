"""The report of a batch: its tables, its pages, and what the worker keeps for them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from medrestore.errors import ConfigError, OutputError
from medrestore.report import CaseRow, write

DONE = CaseRow(
    case="0a1b2c",
    name="sub-01/anat/T1w",
    status="done",
    model="medrestore/mr-denoise",
    task="denoise",
    modality="MR",
    shape=(20, 24, 16),
    spacing_mm=(1.0, 1.0, 2.0),
    noise=0.05,
    psnr=33.25,
    ssim=0.931,
    seconds=12.5,
    predicted_seconds=11.0,
    peak_bytes=2**30,
    predicted_peak_bytes=2**31,
    output="sub-01/anat/T1w.nii.gz",
)
FAILED = CaseRow(
    case="ffff01",
    name="sub-02/anat/T1w",
    status="failed",
    stage="network",
    cause="killed by signal 11\nlast line of the log",
    attempts=3,
)


def table(folder):
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_tables_have_the_failures_first_and_nothing_in_place_of_what_is_missing(tmp_path):
    assert write(tmp_path / "new", [DONE, FAILED], "A batch") == tmp_path / "new/report.html"
    failed, done = table(tmp_path / "new")
    assert (failed["case"], failed["psnr_db"], failed["seconds"]) == ("ffff01", "", "")
    assert (done["shape_y"], done["spacing_z_mm"], float(done["psnr_db"])) == ("24", "2.0", 33.25)
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    assert summary["counts"] == {"done": 1, "failed": 1, "skipped": 0}
    assert [case["peak_bytes"] for case in summary["cases"]] == [None, 2**30]
    assert list(summary["cases"][0]) == list(failed)


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_no_cell_of_the_csv_file_is_a_formula(name, tmp_path):
    write(tmp_path, [replace(DONE, name=name)], "A batch")
    assert table(tmp_path)[0]["name"] == f"'{name}"
    assert json.loads((tmp_path / "summary.json").read_text())["cases"][0]["name"] == name


@pytest.mark.parametrize("case", ["", "../up", "a/b", "a b", "-a", "x" * 101])
def test_an_id_that_cannot_name_a_page_is_refused(case):
    with pytest.raises(ConfigError, match="case id"):
        replace(DONE, case=case)


def test_a_value_that_is_no_number_is_missing(tmp_path):
    write(tmp_path, [replace(DONE, psnr=np.inf, ssim=np.nan)], "A batch")
    (row,) = table(tmp_path)
    assert (row["psnr_db"], row["ssim"]) == ("", "")


def test_two_cases_of_one_id_are_refused(tmp_path):
    with pytest.raises(OutputError, match="0a1b2c"):
        write(tmp_path, [DONE, replace(DONE, name="other")], "A batch")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write(tmp_path / "file", [DONE], "A batch")
