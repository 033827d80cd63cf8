"""The structured report beside a derived series: the verdict, the statistics, and the images it is of."""

from __future__ import annotations

import sys
from dataclasses import replace

import pydicom
import pytest
from dicom_series import dicom_errors, write_series
from test_dicom_write import record_of

from medrestore.errors import ConfigError
from medrestore.io import read, write_dicom
from medrestore.io.dicom.derive.report import write_report

VERDICT = {
    "verdict": "FAIL",
    "causes": ["excursion"],
    "statistics": {"mean": 0.25, "colour": None, "excursion": 12.5},
}


def written(folder, verdict):
    """Return the report on a derived series, and the images of that series."""
    pytest.importorskip("highdicom")
    write_series(folder / "in")
    volume = read(folder / "in")
    record = replace(record_of(volume, sigma=5.0), verdict=verdict)
    write_dicom(volume, folder / "out", record)
    files = sorted((folder / "out").iterdir())
    write_report(files, record, folder / "report.dcm")
    return pydicom.dcmread(folder / "report.dcm"), [pydicom.dcmread(file) for file in files]


def items(data):
    """Yield every item of the content tree."""
    for item in data.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(report, meaning):
    (item,) = [
        item for item in items(report) if item.ConceptNameCodeSequence[0].CodeMeaning.endswith(meaning)
    ]
    return item


def test_the_report_has_the_verdict_its_figures_and_references_to_the_series(tmp_path):
    report, images = written(tmp_path, VERDICT)
    assert report.SOPClassUID.name == "Comprehensive SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (
        named(report, "Consistency of the result with its source").ConceptCodeSequence[0].CodeMeaning
        == "FAIL"
    )
    assert float(named(report, ": mean").MeasuredValueSequence[0].NumericValue) == 0.25
    assert float(named(report, ": excursion").MeasuredValueSequence[0].NumericValue) == 12.5
    assert not [item for item in items(report) if item.ConceptNameCodeSequence[0].CodeValue == "colour"]
    named_images = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(report)
        if "ReferencedSOPSequence" in item
    }
    assert named_images == {image.SOPInstanceUID for image in images}
    first = images[0]
    assert (report.PatientID, report.StudyInstanceUID) == (first.PatientID, first.StudyInstanceUID)
    assert report.SeriesInstanceUID != first.SeriesInstanceUID


def test_its_text_holds_nothing_of_the_header_but_patient_and_study(tmp_path):
    report, images = written(tmp_path, VERDICT)
    tree = "\n".join(str(item) for item in items(report))
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyID"):
        assert f"'{images[0].get(keyword)}'" not in tree, keyword


def test_without_a_verdict_it_says_so(tmp_path):
    report, _ = written(tmp_path, {"verdict": None, "reason": "no noise was taken out"})
    judged = named(report, "Consistency of the result with its source")
    assert judged.ConceptCodeSequence[0].CodeMeaning == "not given"


@pytest.mark.parametrize("verdict", [VERDICT, {"verdict": None}, {}])
def test_dciodvfy_finds_no_error(verdict, tmp_path):
    written(tmp_path, verdict)
    assert dicom_errors(tmp_path / "report.dcm") == []


def test_without_highdicom_it_is_refused_with_what_to_install(tmp_path, monkeypatch):
    write_series(tmp_path / "in")
    volume = read(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ConfigError, match=r"medrestore\[sr\]"):
        write_report(
            sorted((tmp_path / "in").iterdir()), record_of(volume, sigma=5.0), tmp_path / "report.dcm"
        )
    assert not (tmp_path / "report.dcm").exists()
