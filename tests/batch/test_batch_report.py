"""`medrestore batch --sr`: a structured report beside every derived series, and where there is none."""

from __future__ import annotations

import pydicom
import pytest
from dicom_series import dicom_errors, left_in, write_head
from tiny import CommandLine, model_folder, noisy, phantom, save

from medrestore.batch import Settings, find_cases
from medrestore.batch.find.names import results, safe_path
from medrestore.batch.workers.case_json import case_json, job_of, options_of
from medrestore.errors import ConfigError
from medrestore.options import FileOptions, OutputRequest


@pytest.fixture
def cli(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scans(tmp_path):
    write_head(tmp_path / "in" / "head", noisy(phantom(16), 0.05))
    return tmp_path / "in"


def settings(**output):
    return Settings.of(FileOptions(output=OutputRequest(**output)))


def test_what_a_batch_sends_to_a_worker_asks_for_the_report(scans, tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    (case,) = find_cases(scans).cases
    monkeypatch.chdir(scans)
    (tmp_path / "out").mkdir()
    for asked in (True, False):
        job = {**case_json(case, settings(sr=asked)), "out": str(tmp_path / "out" / "a")}
        report = job_of(job, options_of(job)).paths.report
        assert report == (tmp_path / "out" / "a_sr.dcm" if asked else None)
    assert settings(sr=True).sha256() != settings(sr=False).sha256()  # a second run with it writes reports


def test_an_earlier_report_is_a_part_of_the_result(tmp_path):
    (tmp_path / "a_sr.dcm").write_bytes(b"")
    assert results(tmp_path / "a") == [tmp_path / "a_sr.dcm"]
    assert safe_path((tmp_path / "b_sr.dcm").relative_to(tmp_path)).name != "b_sr.dcm"


def test_a_report_is_refused_before_anything_runs_where_no_result_is_a_series(cli, tmp_path, scans):
    with pytest.raises(ConfigError, match="--sr writes a report on a derived DICOM series"):
        settings(sr=True, form="nifti")
    (tmp_path / "bids" / "sub-1" / "anat").mkdir(parents=True)
    save(tmp_path / "bids" / "sub-1" / "anat" / "sub-1_T1w.nii.gz", noisy(phantom(16), 0.05))
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "a", "BIDSVersion": "1.8.0"}')
    status, _, errors = cli("batch", tmp_path / "bids", "-o", tmp_path / "out", "--sr")
    assert status == 2
    assert "--sr writes a report on a DICOM series, and images of a BIDS data set are NIfTI" in errors


@pytest.mark.slow
def test_a_batch_writes_reports_and_names_the_scan_that_can_have_none(cli, scans, tmp_path):
    pytest.importorskip("highdicom")
    save(scans / "b_T1w.nii.gz", noisy(phantom(16), 0.05))
    model = model_folder(tmp_path / "tiny", spacing_mm=[0.5, 3])
    out = tmp_path / "out"
    status, said, errors = cli("batch", scans, "-o", out, "--model", model, "--sr")
    assert status == 3, errors
    assert "--sr writes a report on a derived DICOM series" in said + errors
    assert {"head", "head.json", "head_sr.dcm"} == {name for name in left_in(out) if name.startswith("head")}
    assert not list(out.glob("b_T1w*"))
    report = pydicom.dcmread(out / "head_sr.dcm")
    assert (report.Modality, report.ContentTemplateSequence[0].TemplateIdentifier) == ("SR", "1500")
    assert dicom_errors(out / "head_sr.dcm") == []
