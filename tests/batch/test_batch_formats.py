"""A folder of scans of several formats beside each other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny import CommandLine, noisy, phantom, save

from medrestore.batch import find_cases
from medrestore.batch.find.lists import read_list
from medrestore.io import write
from medrestore.volume import Volume

pytestmark = pytest.mark.usefixtures("formats_plugin")

UNREAD = (".mnc", ".nii.bz2", ".par", ".tif")


@pytest.fixture
def cli(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def mgz(path: Path, seed: int = 0) -> None:
    nib.save(nib.MGHImage(noisy(phantom(24), 0.05, seed), np.eye(4)), path)


def analyze(path: Path, seed: int = 1) -> None:
    image = nib.AnalyzeImage(noisy(phantom(24), 0.05, seed), np.diag([-1.0, 1, 1, 1]))
    nib.save(image, path)


@pytest.fixture
def scans(tmp_path) -> Path:
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    save(folder / "a_T1w.nii.gz", noisy(phantom(24), 0.05, 2))
    mgz(folder / "b_T1w.mgz")
    analyze(folder / "sub" / "c_T1w.img")
    for suffix in (*UNREAD, ".rec", ".txt"):
        (folder / f"other{suffix}").write_bytes(b"other")
    (folder / "alone.img").write_bytes(bytes(100))
    return folder


def test_a_pair_is_one_case_and_its_content_that_of_both_files(scans):
    found = find_cases(scans)
    assert [(str(case.source), str(case.output), case.kind, len(case.files)) for case in found.cases] == [
        ("a_T1w.nii.gz", "a_T1w_restored", "nifti", 1),
        ("b_T1w.mgz", "b_T1w_restored", "mgz", 1),
        ("sub/c_T1w.hdr", "sub/c_T1w_restored", "analyze", 2),
    ]
    one, pair = found.cases[0], found.cases[2]
    assert one.content() == hashlib.sha256((scans / "a_T1w.nii.gz").read_bytes()).hexdigest()
    before = pair.content()
    for ending in (".hdr", ".img"):
        path = scans / "sub" / f"c_T1w{ending}"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert pair.content() != before
        path.write_bytes(whole)
    assert pair.content() == before


def test_images_that_nothing_reads_are_counted(scans):
    assert find_cases(scans).left_out == {
        **{f"image of a format that is not read ({ending})": 1 for ending in UNREAD},
        "file of voxels whose header is missing": 1,
    }


def test_of_two_scans_with_one_name_the_second_is_refused(scans):
    mgz(scans / "a_T1w.mgz")
    first, second, *_ = find_cases(scans).cases
    assert (first.source.name, first.refused) == ("a_T1w.mgz", "")
    assert second.refused == f"its result would have the name of that of case {first.id}"


def test_a_list_takes_every_format(scans):
    (scans / "list.csv").write_text("input,reference\nb_T1w.mgz,a_T1w.nii.gz\nsub/c_T1w.img,\nnone.mgz,\n")
    first, second, missing = read_list(scans / "list.csv").cases
    assert (first.kind, second.kind, len(second.files)) == ("mgz", "analyze", 2)
    assert missing.refused == "no such file"


def test_voxels_outside_of_the_folder_are_refused(scans, tmp_path):
    analyze(tmp_path / "out.img")
    (scans / "sub" / "c_T1w.img").unlink()
    (scans / "sub" / "c_T1w.img").symlink_to(tmp_path / "out.img")
    assert find_cases(scans).cases[-1].refused == "a file of its voxels lies outside of the folder"


@pytest.mark.parametrize(("form", "ending"), [(None, ".nii.gz"), ("mgz", ".mgz")])
def test_every_scan_is_restored_once(cli, scans, tmp_path, tiny_model, form, ending):
    out = tmp_path / "out"
    more = () if form is None else ("--format", form)
    command = ("batch", scans, "-o", out, "--model", tiny_model, *more)
    status, shown, errors = cli(*command)
    assert status == 0 and "3 done (0 before), 0 failed, of 3" in shown, errors
    for name, kind in (("a_T1w", "nifti"), ("b_T1w", "mgz"), ("sub/c_T1w", "analyze")):
        record = json.loads((out / f"{name}_restored.json").read_text())
        assert record["input"]["format"] == kind
        image = out / f"{name}_restored{ending}"
        assert record["output"]["path"] == image.name
        assert record["output"]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    notes = json.loads((out / "sub/c_T1w_restored.json").read_text())["findings"]
    assert any("Analyze does not say which side is left" in note["text"] for note in notes)
    status, shown, _ = cli(*command)
    assert status == 0 and "3 done (3 before)" in shown
    (out / f"b_T1w_restored{ending}").write_bytes(b"spoilt")
    status, shown, _ = cli(*command)
    assert status == 0 and "3 done (2 before)" in shown


def test_a_batch_in_a_format_that_is_not_written_does_not_start(cli, scans, tmp_path, tiny_model):
    command = ("batch", scans, "-o", tmp_path / "out", "--model", tiny_model, "--format", "analyze")
    status, _, errors = cli(*command)
    assert status == 2 and "no format that is written is called 'analyze'" in errors
    assert not (tmp_path / "out").exists()


def test_nrrd_and_metaimage_and_their_detached_headers_are_restored(cli, tmp_path, tiny_model):
    sitk = pytest.importorskip("SimpleITK", reason="needs SimpleITK")
    out, folder = tmp_path / "out", tmp_path / "scans"
    folder.mkdir()
    scan = Volume.from_array(noisy(phantom(24), 0.05), np.diag([1.0, 1, 1, 1]))
    for ending in ("nrrd", "mha", "nhdr", "mhd"):
        sitk.WriteImage(scan.to_sitk(), str(folder / f"{ending}_T1w.{ending}"), ending == "mhd")
    mgz(folder / "mgz_T1w.mgz")
    write(scan, folder / "nifti_T1w.nii")
    files = {case.kind: len(case.files) for case in find_cases(folder).cases}
    assert files == {"mgz": 1, "mha": 1, "mhd": 2, "nhdr": 2, "nifti": 1, "nrrd": 1}
    status, shown, errors = cli("batch", folder, "-o", out, "--model", tiny_model, "--format", "nrrd")
    assert status == 0 and "6 done (0 before), 0 failed, of 6" in shown, errors
    voxels = {path.stem: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in out.glob("*.nrrd")}
    first = voxels["nrrd_T1w_restored"]
    for ending in ("mha", "nhdr", "mhd", "nifti"):
        assert np.array_equal(voxels[f"{ending}_T1w_restored"], first)
