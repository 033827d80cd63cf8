"""`medrestore restore`: checks before it runs, whole files or none, a record beside the image."""

from __future__ import annotations

import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from tiny import SUPERRES, CommandLine, model_folder, noisy, phantom, save

import medrestore
from medrestore.cli import progress as progress_module
from medrestore.cli.progress import Meter, Pace, duration, magnitude
from medrestore.errors import OutputError
from medrestore.job import run as restoring
from medrestore.job import write as writing
from medrestore.provenance import RunRecord, sha256_file

DRAW = ("--steps", 2, "--sampler", "euler")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "head_T1w.nii.gz", np.rint(noisy(phantom(24), 0.05)).astype(np.int16))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results" / "out.nii.gz"


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_image_and_record(cli, scan, out, model):
    status, table, progress = cli("restore", scan, "-o", out, "--model", model)
    assert status == 0, progress
    assert left_in(out.parent) == ["out.json", "out.nii.gz"]
    record = RunRecord.from_json(out.with_name("out.json").read_text())
    assert record.input.sha256 == sha256_file(scan)
    assert record.output["sha256"] == sha256_file(out)
    assert record.output == {
        "path": "out.nii.gz",
        "sha256": sha256_file(out),
        "dtype": "float32",
        "clipped_voxels": 0,
    }
    assert record.settings["modality"] == "MR"
    assert set(record.timings) == {"read", "load_model", "prepare", "network", "measure", "write"}
    assert record.model.sha256 == sha256_file(model / "model.safetensors")
    assert record.metrics["result"]["psnr"] == {
        "value": None,
        "reason": "no reference",
        "definition": record.metrics["result"]["psnr"]["definition"],
    }
    before, after = nib.load(scan), nib.load(out)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)
    expected = medrestore.restore(
        medrestore.read(scan), medrestore.RestoreOptions(model=str(model), device="cpu")
    )
    np.testing.assert_array_equal(after.get_fdata(dtype=np.float32), expected.volume.array)
    for text in ("tiny on ", "tissue, ", "absent: no reference", "network"):
        assert text in table
    assert "voxels/s" in progress
    assert "\r" not in progress


def test_a_reference_gives_scores_in_table_and_record(cli, scan, out, model, tmp_path):
    clean = save(tmp_path / "clean.nii.gz", phantom(24))
    status, table, _ = cli("restore", scan, "-o", out, "--model", model, "--reference", clean)
    assert status == 0
    found = json.loads(out.with_name("out.json").read_text())["metrics"]
    before, after = (found[where]["psnr"]["value"] for where in ("input", "result"))
    assert f"{before:.2f} -> {after:.2f}" in table
    assert "in the mask" in found["result"]["psnr"]["definition"]


def test_a_scan_that_is_its_own_reference_hides_no_score_of_the_result(cli, scan, out, model):
    status, table, _ = cli("restore", scan, "-o", out, "--model", model, "--reference", scan)
    assert status == 0
    found = json.loads(out.with_name("out.json").read_text())["metrics"]
    assert found["input"]["psnr"]["reason"] == "identical"
    assert f"- -> {found['result']['psnr']['value']:.2f}" in table


def test_a_verdict_that_is_not_good_is_printed_and_strict_ends_with_status_4(cli, out, model, tmp_path):
    scan = save(tmp_path / "large.nii.gz", noisy(phantom(48), 0.05))
    status, table, messages = cli("restore", scan, "-o", out, "--model", model, "--strict")
    assert status == 4
    record = RunRecord.from_json(out.with_name("out.json").read_text())
    assert record.judgement == "FAIL"  # the network is untrained
    assert "FAIL; consistency cannot exclude" in table
    assert "Warning: verdict FAIL, the result does not agree with the scan: " in messages


def test_where_no_verdict_is_given_the_reason_is_printed(cli, scan, out, model):
    status, table, _ = cli("restore", scan, "-o", out, "--model", model, "--noise", "0")
    assert status == 0
    assert "not given: no noise was taken out" in table


def test_quiet_prints_nothing(cli, scan, out, model):
    assert cli("restore", scan, "-o", out, "--model", model, "--quiet") == (0, "", "")
    assert out.exists()


def test_a_folder_as_output_names_the_file_after_the_scan(cli, scan, out, model):
    status, table, _ = cli("restore", scan, "-o", out.parent, "--model", model)
    assert status == 0
    assert left_in(out.parent) == ["head_T1w_restored.json", "head_T1w_restored.nii.gz"]
    assert "head_T1w_restored.nii.gz" in table


def test_std_and_trajectory(cli, scan, out, model, tmp_path):
    steps = tmp_path / "steps"
    arguments = ("--samples", 2, *DRAW, "--save-std", "--save-trajectory", steps, "--seed", 4)
    status, table, errors = cli("restore", scan, "-o", out, "--model", model, *arguments)
    assert status == 0, errors
    assert left_in(out.parent) == ["out.json", "out.nii.gz", "out_std.nii.gz"]
    record = RunRecord.from_json(out.with_name("out.json").read_text())
    std = out.with_name("out_std.nii.gz")
    assert record.output["std"] == {"path": std.name, "sha256": sha256_file(std)}
    assert (record.seed, record.output["trajectory"]) == (4, "steps")
    assert "2 samples of 2 steps (euler), seed 4" in table
    index = json.loads((steps / "index.json").read_text())["steps"]
    assert [(step["sample"], step["step"]) for step in index] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert index[0]["sigma"] > index[1]["sigma"] > 0
    files = {step[kind] for step in index for kind in ("state", "estimate")}
    assert {"sample0_step00.nii.gz", "sample1_step01_estimate.nii.gz"} < files
    assert left_in(steps) == sorted({*files, "index.json"})
    assert not [name for name in left_in(tmp_path) if name.startswith(".")]
    finals = [nib.load(steps / f"sample{n}_step01.nii.gz").get_fdata() for n in (0, 1)]
    np.testing.assert_allclose(nib.load(std).get_fdata(), np.std(finals, axis=0, ddof=1), atol=0.01)


def test_an_earlier_result_is_replaced_only_on_request(cli, scan, out, model, tmp_path):
    steps = tmp_path / "steps"
    command = ("restore", scan, "-o", out, "--model", model, "-q", "--save-trajectory", steps)
    assert cli(*command, "--samples", 2, *DRAW)[0] == 0
    before = {path: path.read_bytes() for path in (*out.parent.iterdir(), *steps.iterdir())}
    status, _, errors = cli(*command, "--samples", 1, *DRAW)
    assert status == 2
    assert "exists already; pass --overwrite" in errors
    assert {path: path.read_bytes() for path in (*out.parent.iterdir(), *steps.iterdir())} == before
    assert cli(*command, "--samples", 1, *DRAW, "--seed", 8, "--overwrite")[0] == 0
    assert not [name for name in left_in(steps) if name.startswith("sample1")]  # of the first run
    assert out.with_name("out.json").read_bytes() != before[out.with_name("out.json")]


def test_a_result_in_a_folder_is_called_as_a_link_to_the_scan_is(cli, scan, out, model, tmp_path):
    """Data sets of DataLad are links to files that are called by their hash."""
    stored = scan.rename(tmp_path / "MD5E-s12--abc.nii.gz")
    link = tmp_path / "sub-01_T1w.nii.gz"
    link.symlink_to(stored.name)
    status, _, errors = cli("restore", link, "-o", out.parent, "--model", model, "-q")
    assert status == 0, errors
    assert left_in(out.parent) == ["sub-01_T1w_restored.json", "sub-01_T1w_restored.nii.gz"]


def test_the_json_beside_a_scan_is_read_and_never_written(cli, scan, model):
    beside = scan.with_name("head_T1w.json")
    beside.write_text('{"EchoTime": 0.003}')
    command = ("restore", scan, "-o", scan.with_name("head_T1w.nii"), "--model", model, "-q", "--overwrite")
    status, _, errors = cli(*command)
    assert status == 2
    assert "head_T1w.json: is read in this run" in errors
    assert beside.read_text() == '{"EchoTime": 0.003}'
    assert not scan.with_name("head_T1w.nii").exists()


def test_an_output_that_is_nothing_but_an_ending_is_refused(cli, scan, model, tmp_path):
    status, _, errors = cli("restore", scan, "-o", tmp_path / ".nii.gz", "--model", model, "-q")
    assert status == 2
    assert "is an ending without a name; expected NAME.nii.gz" in errors


def test_a_series_is_restored_volume_by_volume_with_one_model(cli, out, model, tmp_path, monkeypatch):
    loads = []
    load_model = restoring.load_model
    monkeypatch.setattr(restoring, "load_model", lambda *a: loads.append(a) or load_model(*a))
    flat = np.full((20, 20, 20), 3.0, dtype=np.float32)
    volumes = [noisy(phantom(20), 0.05), noisy(phantom(20), 0.10, seed=1), flat]
    scan = save(tmp_path / "run_T1w.nii", np.stack(volumes, axis=-1))
    clean = save(tmp_path / "clean.nii", phantom(20))
    arguments = ("--samples", 2, *DRAW, "--save-std", "--save-trajectory", tmp_path / "steps")
    status, table, errors = cli(
        "restore", scan, "-o", out, "--model", model, "--reference", clean, *arguments
    )
    assert status == 0, errors
    assert len(loads) == 1
    image, std = nib.load(out), nib.load(out.with_name("out_std.nii.gz"))
    assert image.shape == std.shape == (20, 20, 20, 3)
    np.testing.assert_array_equal(image.get_fdata()[..., 2], flat)
    assert std.get_fdata()[..., 1].mean() > std.get_fdata()[..., 0].mean() > 0
    assert not std.get_fdata()[..., 2].any()
    records = [RunRecord.from_json(json.dumps(r)) for r in json.loads(out.with_name("out.json").read_text())]
    assert [record.output["volume"] for record in records] == [0, 1, 2]
    assert {record.output["sha256"] for record in records} == {sha256_file(out)}
    assert records[1].noise["sigma"] > 1.5 * records[0].noise["sigma"]
    assert "returned as it came" in records[2].sentences[0]
    assert "returned as it came" in errors
    assert "volume000_sample0_step00.nii.gz" in left_in(tmp_path / "steps")
    assert len([line for line in table.splitlines() if " -> " in line]) == 3


def test_a_series_of_references_must_fit(cli, out, model, tmp_path):
    scan = save(tmp_path / "run_T1w.nii", np.stack([phantom(12)] * 3, axis=-1))
    clean = save(tmp_path / "clean.nii", np.stack([phantom(12)] * 2, axis=-1))
    status, _, errors = cli("restore", scan, "-o", out, "--model", model, "--reference", clean)
    assert status == 2
    assert "a series of 2 volumes, the scan has 3" in errors
    assert not left_in(out.parent)


def test_the_voxel_type_of_the_input(cli, scan, out, model):
    assert cli("restore", scan, "-o", out, "--model", model, "--out-dtype", "input")[0] == 0
    assert nib.load(out).get_data_dtype() == np.int16
    assert json.loads(out.with_name("out.json").read_text())["output"]["dtype"] == "int16"


def test_clipped_voxels_are_said(cli, scan, out, model):
    status, _, errors = cli("restore", scan, "-o", out, "--model", model, "--out-dtype", "uint8")
    assert status == 0
    record = json.loads(out.with_name("out.json").read_text())
    count = record["output"]["clipped_voxels"]
    assert 1000 < count <= np.count_nonzero(nib.load(out).get_fdata() == 255)
    assert f"{count} voxels did not fit into uint8" in record["findings"][-1]["text"]
    assert f"Warning: {count} voxels did not fit" in errors


def test_a_modality_may_be_given(cli, out, model, tmp_path):
    scan = save(tmp_path / "head.nii", noisy(phantom(16), 0.05))
    _, _, errors = cli("restore", scan, "-o", out, "--model", model)
    assert "Warning: the scan does not say its modality" in errors
    _, _, errors = cli("restore", scan, "-o", out, "--model", model, "--modality", "mr", "--overwrite")
    assert "Warning" not in errors
    named = save(tmp_path / "head_ct.nii", noisy(phantom(16), 0.05))
    status, _, errors = cli("restore", named, "-o", out, "--model", model, "--overwrite")
    assert status == 5
    assert "the scan is CT, tiny is for MR" in errors
    status, _, errors = cli("restore", named, "-o", out, "--model", model, "--modality", "MR", "--overwrite")
    assert status == 0
    assert "Warning: the scan says CT, --modality says MR" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "{results}/out.mgz"), "ends in .nii or .nii.gz"),
        (("-o", "{results}/none/out.nii"), "none does not exist; make it first"),
        (("-o", "{scan}", "--overwrite"), "is read in this run"),
        (("-o", "{out}", "--save-std", "--samples", 1), "--save-std needs two samples or more, and 1 will"),
        (("-o", "{out}", "--save-std", "--output", "sample"), "--save-std needs two samples"),
        (("-o", "{out}", "--save-trajectory", "{results}/t"), "--save-trajectory has nothing to save"),
        (
            ("-o", "{out}", "--samples", 1, "--save-trajectory", "{scan.parent}", "--overwrite"),
            "which is no part of a trajectory",
        ),
        (("-o", "{out}", "--samples", 1, "--save-trajectory", "{scan}"), "is a file, and a folder"),
        (("-o", "{out}", "--samples", 1, "--save-trajectory", "{out}"), "is an output too"),
        (("-o", "{out}", "--out-dtype", "int17"), "--out-dtype is 'int17'; expected one of float32, input"),
        (("-o", "{out}", "--noise", "much"), "noise is 'much'"),
        (("-o", "{out}", "--save-map", "null"), "so there is no null space; --interval 0.9"),
        (("-o", "{out}", "--output", "median"), "output is 'median'"),
        (("-o", "{out}", "--device", "cuda:77"), "device 'cuda:77' is not available"),
        (("-o", "{out}", "--model", "nonesuch"), "no model is named 'nonesuch'"),
        (("-o", "{out}", "--task", "superres", "--modality", "unknown"), "several models are for the task"),
        (("-o", "{out}", "--reference", "{scan.parent}/none.nii"), "none.nii: no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    cli, scan, out, model, *, arguments, message, monkeypatch
):
    monkeypatch.setattr(restoring, "restore", None)  # none of these comes so far
    before = scan.read_bytes()
    named = ("--task", "--model")
    chosen = () if any(name in arguments for name in named) else ("--model", model)
    filled = [str(a).format(results=out.parent, out=out, scan=scan) for a in arguments]
    status, table, errors = cli("restore", scan, *filled, *chosen)
    assert (status, table) == (2, "")
    assert errors.startswith("medrestore: ")
    assert message in errors
    assert "Traceback" not in errors
    assert not left_in(out.parent)
    assert scan.read_bytes() == before


def test_a_missing_scan_is_named(cli, out, tmp_path):
    status, _, errors = cli("restore", tmp_path / "none.nii", "-o", out)
    assert status == 2
    assert "none.nii: no such file or folder" in errors


@pytest.mark.parametrize("name", ["out.json", "out_std.nii.gz"])
def test_files_beside_the_image_are_not_replaced_either(cli, scan, out, model, name):
    out.with_name(name).write_text("precious")
    arguments = ("--save-std", "--samples", 2, *DRAW)
    status, _, errors = cli("restore", scan, "-o", out, "--model", model, *arguments)
    assert status == 2
    assert f"{name}: exists already" in errors
    assert left_in(out.parent) == [name]
    assert out.with_name(name).read_text() == "precious"


@pytest.mark.parametrize("victim", ["sidecar", "write", "add"])
def test_a_failure_on_the_way_leaves_nothing(cli, scan, out, model, tmp_path, *, monkeypatch, victim):
    def fail(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    home = restoring.TrajectoryFolder if victim == "add" else writing
    monkeypatch.setattr(home, victim, fail)
    arguments = ("--samples", 2, *DRAW, "--save-std", "--save-trajectory", tmp_path / "steps")
    status, _, errors = cli("restore", scan, "-o", out, "--model", model, *arguments)
    assert status == 2
    assert "the disk is full" in errors
    assert not left_in(out.parent)
    assert left_in(tmp_path) == [scan.name, "results"]


def test_a_result_that_appears_meanwhile_is_not_replaced(cli, scan, out, model, monkeypatch):
    sidecar = writing.sidecar

    def another_run_ends(records: object, *more: object) -> str:
        out.with_name("out.json").write_text("theirs")
        out.write_text("theirs")
        return sidecar(records, *more)

    monkeypatch.setattr(writing, "sidecar", another_run_ends)
    status, _, errors = cli("restore", scan, "-o", out, "--model", model)
    assert status == 2
    assert "exists already" in errors
    assert left_in(out.parent) == ["out.json", "out.nii.gz"]
    assert out.read_text() == out.with_name("out.json").read_text() == "theirs"


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    screen, log = io.StringIO(), io.StringIO()
    for stream, terminal in ((screen, True), (log, False)):
        console = Console(file=stream, force_terminal=terminal, width=100)
        with Meter("Restoring x", console=console) as meter:
            pace = Pace()
            for done in range(1, 101):
                clock[0] += 1
                meter.update(done, 100, pace.text(done * 3_000_000, 300_000_000, "voxels"))
    assert "\x1b[" in screen.getvalue()
    lines = log.getvalue().splitlines()
    assert lines[0] == "Restoring x: 30 %, 3 M voxels/s, 1:10 left"
    assert [line.split()[2] for line in lines] == ["30", "60", "90", "100"]


@pytest.mark.parametrize(
    ("number", "text"), [(2_912_345, "2.91 M"), (999, "999"), (1000, "1 k"), (0.1234, "0.123")]
)
def test_magnitude(number, text):
    assert magnitude(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75.4, "1:15"), (11100, "3:05:00")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_thick_slices_are_resolved(cli, tmp_path):
    folder = model_folder(tmp_path / "superres", **SUPERRES)
    clean = phantom(24)
    nib.save(
        nib.Nifti1Image(clean.reshape(24, 24, 6, 4).mean(axis=3), np.diag([1, 1, 4, 1])), tmp_path / "s.nii"
    )
    truth = np.eye(4)
    truth[2, 3] = -1.5
    nib.save(nib.Nifti1Image(clean, truth), tmp_path / "truth.nii")
    status, out, err = cli(
        *("restore", tmp_path / "s.nii", "-o", tmp_path, "--model", folder, "--task", "superres"),
        *("--spacing", "1mm", "--slice-axis", "k"),
        *("--slice-profile", "slr", "--slice-thickness", 3.5, "--noise", 0, "--device", "cpu"),
        *("--reference", tmp_path / "truth.nii", "--samples", 2, "--steps", 1, "--save-std"),
    )
    assert status == 0, err
    for name in ("s_superres.nii.gz", "s_superres_std.nii.gz"):
        image = nib.load(tmp_path / name)
        assert image.shape == (24, 24, 24)
        np.testing.assert_allclose(image.affine, truth, atol=1e-6)
    record = RunRecord.from_json((tmp_path / "s_superres.json").read_text())
    assert (record.slices["profile"], record.slices["thickness_mm"]) == ("slr", 3.5)
    assert record.settings["spacing"] == "1mm"
    assert "4 mm apart along k, 3.5 mm thick (slr); now 1 mm, 4 times finer" in " ".join(out.split())
    assert "is not reproduced (RMS)" in " ".join(out.split())
    assert "PSNR in the head (dB)" in out


def test_a_reference_on_the_grid_of_the_slices_is_refused(cli, tmp_path):
    folder = model_folder(tmp_path / "superres", **SUPERRES)
    nib.save(nib.Nifti1Image(phantom(24)[:, :, ::4], np.diag([1, 1, 4, 1])), tmp_path / "s.nii")
    status, _, err = cli(
        *("restore", tmp_path / "s.nii", "-o", tmp_path / "o.nii", "--model", folder),
        *("--reference", tmp_path / "s.nii"),
    )
    assert status == 2
    assert "the result has (24, 24, 24)" in " ".join(err.split())
    assert not (tmp_path / "o.nii").exists()
