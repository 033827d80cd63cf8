"""`medrestore restore` with a DICOM series as its result."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_series import dicom_errors, left_in, spread_of, write_head, write_series
from test_dicom_read_others import converted, differing
from tiny import SUPERRES, CommandLine, model_folder, noisy, phantom, save, with_calibration

from medrestore.io import read, read_series
from medrestore.job import run as restoring
from medrestore.job import write as writing
from medrestore.provenance import RunRecord, sha256_file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan(tmp_path):
    """A small series of a noisy head."""
    write_head(tmp_path / "head", noisy(phantom(16), 0.05))
    return tmp_path / "head"


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def test_dicom_in_dicom_out(cli, scan, results, model):
    status, table, errors = cli("restore", scan, "-o", results, "--model", model)
    assert status == 0, errors
    assert left_in(results) == ["head_restored", "head_restored.json"]
    folder = results / "head_restored"
    assert left_in(folder) == [f"IM0000{n}.dcm" for n in range(1, 7)]
    back, before = read(folder), read(scan)
    assert back.geometry.allclose(before.geometry)
    assert not np.array_equal(back.array, before.array)
    record = RunRecord.from_json((results / "head_restored.json").read_text())
    series = record.output["series"]
    assert record.output["path"] == series["path"] == "head_restored"
    assert record.output["sha256"] == series["sha256"] == back.source.sha256
    uid = pydicom.dcmread(folder / "IM00001.dcm").SeriesInstanceUID
    assert (series["uid"], series["files"], series["clipped_voxels"]) == (uid, 6, 0)
    assert str(folder) in table.replace("\n", "")
    assert dicom_errors(folder / "IM00001.dcm") == []


def test_a_name_that_is_free_is_the_folder_and_a_rerun_replaces_it_on_request(cli, scan, results, model):
    out = results / "series"
    command = ("restore", scan, "-o", out, "--model", model, "-q")
    assert cli(*command)[0] == 0
    assert left_in(results) == ["series", "series.json"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    status, _, errors = cli(*command)
    assert status == 2
    assert "series: exists already; pass --overwrite" in errors.replace(".json", "")
    assert cli(*command, "--overwrite")[0] == 0
    assert left_in(results) == ["series", "series.json"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_nifti_beside_it_and_standard_deviations(cli, scan, results, model):
    draw = ("--samples", 2, "--steps", 2, "--sampler", "euler", "--save-std", "--format", "both")
    status, _, errors = cli("restore", scan, "-o", results / "a", "--model", model, *draw)
    assert status == 0, errors
    assert left_in(results) == ["a", "a.json", "a.nii.gz", "a_std", "a_std.nii.gz"]
    nifti, series = read(results / "a.nii.gz"), read(results / "a")
    assert nifti.geometry.allclose(series.geometry)
    np.testing.assert_allclose(series.array, nifti.array, atol=2.0)
    spread = spread_of(results / "a_std")
    np.testing.assert_allclose(spread, nib.load(results / "a_std.nii.gz").get_fdata(), atol=0.05)
    assert spread.mean() > 0
    output = json.loads((results / "a.json").read_text())["output"]
    assert (output["path"], output["dtype"], output["std"]["path"]) == ("a.nii.gz", "float32", "a_std.nii.gz")
    assert (output["series"]["path"], output["series"]["std"]["path"]) == ("a", "a_std")
    assert output["series"]["uid"] != output["series"]["std"]["uid"]


def test_the_verdict_is_a_structured_report_on_request(cli, scan, results, model):
    pytest.importorskip("highdicom")
    status, _, errors = cli("restore", scan, "-o", results / "a", "--model", model, "--sr")
    assert status == 0, errors
    assert left_in(results) == ["a", "a.json", "a_sr.dcm"]
    report, image = pydicom.dcmread(results / "a_sr.dcm"), pydicom.dcmread(results / "a/IM00001.dcm")
    assert (report.Modality, report.StudyInstanceUID) == ("SR", image.StudyInstanceUID)
    output = json.loads((results / "a.json").read_text())["output"]
    assert output["series"]["report"]["path"] == "a_sr.dcm"
    assert output["series"]["report"]["sha256"] == sha256_file(results / "a_sr.dcm")
    assert dicom_errors(results / "a_sr.dcm") == []
    assert cli("restore", scan, "-o", results / "a", "--model", model, "-q", "--overwrite")[0] == 0
    assert left_in(results) == ["a", "a.json"]  # an old report would seem to be of the new result


def test_a_structured_report_needs_a_series(cli, scan, results, model):
    status, _, errors = cli("restore", scan, "-o", results / "a.nii", "--model", model, "--sr")
    assert status == 2
    assert "--sr writes a report on a derived DICOM series" in errors
    assert left_in(results) == []


def test_what_no_slice_shows_is_a_series_too(cli, scan, results, tmp_path):
    model = model_folder(tmp_path / "slices", spacing_mm=[0.5, 3], **SUPERRES)
    slices = ("--task", "superres", "--spacing", 1.25, "--slice-thickness", 2.5)
    options = (*slices, "--save-map", "null", "--format", "both")
    status, _, errors = cli("restore", scan, "-o", results / "a", "--model", model, *options)
    assert status == 0, errors
    assert left_in(results) == ["a", "a.json", "a.nii.gz", "a_null", "a_null.nii.gz"]
    null = nib.load(results / "a_null.nii.gz").get_fdata()
    np.testing.assert_allclose(spread_of(results / "a_null"), null, atol=0.05)
    assert np.abs(null).max() > 1
    seen = null.reshape(*null.shape[:2], -1, 2).mean(axis=3)  # slices of two planes
    assert np.abs(seen).max() < 1e-3 * np.abs(null).max()
    for path in (results / "a_null").iterdir():
        assert dicom_errors(path) == []


def test_the_ends_of_intervals_are_series_too(cli, scan, results, tmp_path):
    model = with_calibration(model_folder(tmp_path / "tiny", spacing_mm=[0.5, 3]))
    options = ("--model", model, "--interval", 0.9, "--format", "both")
    status, _, errors = cli("restore", scan, "-o", results / "a", *options)
    assert status == 0, errors
    ends = ["a", "a_lower", "a_upper"]
    assert left_in(results) == sorted([*ends, "a.json", *(f"{name}.nii.gz" for name in ends)])
    output = json.loads((results / "a.json").read_text())["output"]
    for name in ("lower", "upper"):
        folder = results / f"a_{name}"
        spread = spread_of(folder)
        np.testing.assert_allclose(spread, nib.load(results / f"a_{name}.nii.gz").get_fdata(), atol=0.05)
        assert output["series"][name]["path"] == f"a_{name}"
        data = pydicom.dcmread(next(folder.iterdir()))
        assert data.ImageType[3] == name.upper()
        assert "NOT AN IMAGE OF THE PATIENT" in data.ImageComments
        assert "90% interval" in data.ImageComments
        for path in folder.iterdir():
            assert dicom_errors(path) == []
    lower, image, upper = (
        nib.load(results / f"{name}.nii.gz").get_fdata() for name in ("a_lower", "a", "a_upper")
    )
    assert (lower <= image).all()
    assert (image < upper).all()


def test_nifti_is_written_where_its_name_or_the_format_says_so(cli, scan, results, model):
    assert cli("restore", scan, "-o", results / "x.nii", "--model", model, "-q")[0] == 0
    assert cli("restore", scan, "-o", results, "--format", "nifti", "--model", model, "-q")[0] == 0
    assert left_in(results) == ["head_restored.json", "head_restored.nii.gz", "x.json", "x.nii"]


def test_thick_slices_become_thin_ones(cli, scan, results, tmp_path):
    model = model_folder(tmp_path / "superres", **{**SUPERRES, "spacing_mm": [0.5, 3]})
    command = ("--task", "superres", "--spacing", 1.25, "--model", model, "--force", "--format", "both")
    status, _, errors = cli("restore", scan, "-o", results, *command)
    assert status == 0, errors
    folder, nifti = results / "head_superres", read(results / "head_superres.nii.gz")
    back = read(folder)
    assert back.shape == (16, 16, 12)
    assert back.geometry.allclose(nifti.geometry, 1e-3)
    for path in folder.iterdir():
        assert dicom_errors(path) == []
        data = pydicom.dcmread(path)
        assert (data.SliceThickness, data.SpacingBetweenSlices) == (1.25, 1.25)
        assert data.DerivationCodeSequence[0].CodeMeaning == "Spatial resampling"
    (image,) = converted(folder, tmp_path / "nii").values()
    assert differing([back], image, tolerance=1e-3).size == 0  # the same grid, corner for corner
    record = RunRecord.from_json((results / "head_superres.json").read_text())
    assert record.slices["thickness_mm"] == 2.0  # as the headers say, and not the distance of 2.5 mm
    planes = [1.25 * k - 0.625 for k in range(12)]  # half a plane to either side of a slice 2.5 mm apart
    where = sorted(float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in folder.iterdir())
    np.testing.assert_allclose(where, np.add(40.0, planes), atol=1e-6)


def test_one_file_of_a_series(cli, scan, results, tmp_path):
    model = model_folder(tmp_path / "tiny", spacing_mm=[0.5, 3])
    file = scan / "s0.dcm"
    status, _, errors = cli("restore", file, "-o", results, "--model", model, "--force")
    assert status == 0, errors
    assert left_in(results) == ["s0_restored", "s0_restored.json"]
    assert left_in(results / "s0_restored") == ["IM00001.dcm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "{results}/out.mgz"), "or is that of a folder for DICOM files; pass --format dicom"),
        (("-o", "{results}/out.nii", "--format", "dicom"), "is the name of a NIfTI file"),
        (("-o", "{results}/none/out", "--format", "dicom"), "none does not exist; make it first"),
        (("-o", "{scan}"), "head, which is read in this run"),
        (("-o", "{scan}/out", "--format", "both"), "head, which is read in this run"),
        (("-o", "{results}", "--out-dtype", "int16"), "DICOM stores 16 bits"),
        (("-o", "{full}", "--overwrite"), "holds notes.txt, which is no part of a series"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    cli, scan, results, model, *, arguments, message, monkeypatch
):
    monkeypatch.setattr(restoring, "restore", None)
    full = results / "full" / "head_restored"
    full.mkdir(parents=True)
    (full / "notes.txt").write_text("precious")
    filled = [str(a).format(results=results, scan=scan, full=full.parent) for a in arguments]
    status, _, errors = cli("restore", scan, *filled, "--model", model)
    assert status == 2
    assert message in errors
    assert left_in(results) == ["full"]
    assert len(left_in(scan)) == 6


def test_a_scan_that_is_no_dicom_gives_no_series(cli, results, model, tmp_path):
    scan = save(tmp_path / "head_T1w.nii.gz", phantom(12))
    status, _, errors = cli("restore", scan, "-o", results, "--model", model, "--format", "dicom")
    assert status == 2
    assert "is no DICOM" in errors
    assert not left_in(results)


def test_a_source_without_uids_is_refused_before_it_is_restored(cli, results, model, tmp_path, monkeypatch):
    monkeypatch.setattr(restoring, "restore", None)

    def change(_, data):
        del data.StudyInstanceUID

    write_series(tmp_path / "bare", change=change)
    status, _, errors = cli("restore", tmp_path / "bare", "-o", results, "--model", model)
    assert status == 2
    assert "has no StudyInstanceUID" in errors


@pytest.mark.parametrize("victim", ["sidecar", "write_series"])
def test_a_failure_on_the_way_leaves_nothing(cli, scan, results, model, *, monkeypatch, victim):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, victim, fail)
    status, _, errors = cli("restore", scan, "-o", results / "a", "--format", "both", "--model", model)
    assert status == 2
    assert "No space left" in errors
    assert not left_in(results)


def test_a_4d_series_comes_back_as_one(cli, scan, results, model):
    for path in sorted(scan.iterdir()):
        data = pydicom.dcmread(path)
        data.TemporalPositionIdentifier, data.NumberOfTemporalPositions = 1, 2
        data.save_as(path)
        data.TemporalPositionIdentifier, data.SOPInstanceUID = 2, f"{data.SOPInstanceUID}.2"
        data.InstanceNumber += 6
        data.PixelData = (data.pixel_array // 2).tobytes()
        data.save_as(scan / f"later_{path.name}")
    draw = ("--samples", 2, "--steps", 2, "--sampler", "euler", "--save-std", "--format", "both")
    status, _, errors = cli("restore", scan, "-o", results / "a", "--model", model, *draw)
    assert status == 0, errors
    series, nifti = read_series(results / "a"), read_series(results / "a.nii.gz")
    assert [volume.source.details["label"] for volume in series] == [{"time": 1.0}, {"time": 2.0}]
    for one, other in zip(series, nifti, strict=True):
        assert one.geometry.allclose(other.geometry)
        np.testing.assert_allclose(one.array, other.array, atol=2.0)
    assert len(list((results / "a_std").iterdir())) == 12
    records = json.loads((results / "a.json").read_text())
    assert [record["output"]["series"]["files"] for record in records] == [12, 12]


def test_headers_are_read_once_to_plan_and_once_to_derive(cli, scan, results, model, monkeypatch):
    from medrestore.io.dicom.derive import source
    from medrestore.io.dicom.plan import plan

    planned, derived = [], []
    read_heads, header = plan.read_heads, source._header
    monkeypatch.setattr(plan, "read_heads", lambda path: planned.append(path) or read_heads(path))
    monkeypatch.setattr(source, "_header", lambda path: derived.append(path) or header(path))
    draw = ("--samples", 2, "--steps", 2, "--sampler", "euler", "--save-std")
    status, _, errors = cli("restore", scan, "-o", results / "a", "--model", model, *draw)
    assert status == 0, errors
    files = sorted(scan.iterdir())
    assert sorted(planned) == sorted(derived) == files
