"""BIDS data sets: what of them is restored, and that the results are a data set of BIDS themselves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
from bids_data import CANARY, write
from tiny import CommandLine, noisy, phantom, save

from medrestore.batch.bids import metadata
from medrestore.batch.bids.derivative import begin_derivative
from medrestore.batch.bids.find import find_bids
from medrestore.batch.bids.names import Naming, parse_name
from medrestore.batch.bids.wanted import Wanted
from medrestore.errors import OutputError
from medrestore.io import atomic
from medrestore.types import Task

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def errors(folder: Path) -> tuple[set[str], set[str]]:
    """Return the codes of the errors and of the warnings that the validator finds."""
    if not VALIDATOR.exists():
        pytest.skip("bids-validator-deno is not installed")
    ran = subprocess.run(
        [VALIDATOR, "--format", "json", folder], capture_output=True, text=True, check=False, timeout=240
    )
    issues = json.loads(ran.stdout)["issues"]["issues"]
    found = {"error": set(), "warning": set()}
    for issue in issues:
        found.setdefault(issue["severity"], set()).add((issue["code"], issue.get("location", "")))
    return found["error"], {code for code, _ in found["warning"]}


@pytest.mark.parametrize("form", ["dicom", "mgz"])
@pytest.mark.usefixtures("formats_plugin")
def test_results_of_a_data_set_are_nifti(raw, tmp_path, monkeypatch, capsys, form):
    status, _, errors = CommandLine(monkeypatch, capsys)("batch", raw, "-o", tmp_path / "o", "--format", form)
    assert status == 2 and "images of a BIDS data set are NIfTI" in errors
    assert not (tmp_path / "o").exists()


def test_images_are_cases_and_the_plan_says_what_is_left_out(raw):
    for name in ("func/sub-02_task-rest_events.nii.gz", "fmap/sub-02_phasediff.nii.gz"):
        (raw / "sub-02" / name).parent.mkdir(exist_ok=True)
        save(raw / "sub-02" / name, phantom(8))
    found = find_bids(raw)
    assert [str(case.output) for case in found.cases] == [
        "sub-01/ses-a/anat/sub-01_ses-a_run-01_desc-denoised_T1w",
        "sub-01/ses-b/anat/sub-01_ses-b_desc-denoised_T2w",
        "sub-02/anat/sub-02_desc-denoised_FLAIR",
        "sub-02/func/sub-02_task-rest_desc-denoised_bold",
    ]
    assert {case.modality.value for case in found.cases} == {"MR"}
    assert found.left_out == {
        "phase, or real or imaginary part": 1,
        "mask": 1,
        "image of func that is events": 1,
        "image of fmap": 1,
        "folder of derivatives": 1,
    }


def test_entities_of_a_result_stand_in_the_order_of_bids():
    name = parse_name("sub-01_ses-a_acq-x_run-2_T1w")
    source = PurePosixPath("sub-01/ses-a/anat/sub-01_ses-a_acq-x_run-2_T1w.nii.gz")
    assert name is not None
    result = Naming(Task.SUPERRES, "0.8").result(source, name)
    assert result.name == "sub-01_ses-a_acq-x_run-2_res-0p8_desc-sr_T1w"
    assert parse_name("T1w_sub-01") is None and parse_name("sub-01_sub_T1w") is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_text('{"SkullStripped": true,}'), "it holds no JSON object"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    ],
)
@pytest.mark.parametrize("place", ["sub-02/anat/sub-02_FLAIR.json", "FLAIR.json"])
def test_an_image_with_a_sidecar_that_cannot_be_read_is_refused(raw, spoil, why, place):
    (raw / place).unlink(missing_ok=True)
    spoil(raw / place)
    refused = {case.source.name: case.refused for case in find_bids(raw).cases if case.refused}
    (text,) = refused.values()
    said = f"its file {place.replace('-02', '-*')}: cannot be read ({why})"
    assert list(refused) == ["sub-02_FLAIR.nii.gz"] and text.startswith(said)


@pytest.mark.parametrize("command", [("batch", "{}", "-o", "out"), ("bids", "{}", "out", "participant")])
def test_a_description_that_cannot_be_read_is_refused_by_name(raw, command, monkeypatch, capsys):
    (raw / "dataset_description.json").write_text("{")
    status, _, errors = CommandLine(monkeypatch, capsys)(*(one.format(raw) for one in command))
    assert status == 2 and f"{raw / 'dataset_description.json'}: cannot be read" in errors


def test_sidecars_are_inherited_from_the_top_down(raw):
    def stripped() -> list[bool]:
        anatomical = find_bids(raw, Wanted.parse(["datatype=anat"])).cases
        return [case.sidecar["SkullStripped"] for case in anatomical]

    assert stripped() == [False, False, True]  # of the first two nobody says it
    write(raw / "T1w.json", {"SkullStripped": True})
    assert stripped() == [True, False, True]
    write(raw / "sub-01/ses-a/sub-01_ses-a_T1w.json", {"SkullStripped": False})
    write(raw / "sub-01/sub-01_ses-b_T1w.json", {"SkullStripped": True})  # of another session
    assert stripped() == [False, False, True]
    write(raw / "sub-01/ses-a/sub-01_ses-a_run-01_T1w.json", {"SkullStripped": True})
    assert stripped() == [True, False, True]  # more entities than its neighbour
    write(raw / "sub-01/ses-a/anat/sub-01_ses-a_run-01_T1w.json", {"SkullStripped": False})
    assert stripped() == [False, False, True]
    (raw / "sub-01/ses-a/anat/sub-01_ses-a_run-01_T1w.json").unlink()
    assert stripped() == [True, False, True]


KILLED = """
import os, signal, sys
from pathlib import Path
from medrestore.batch.bids import derivative
from medrestore.io import atomic
atomic._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
derivative.begin_derivative(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_kill_while_the_data_set_is_described_leaves_nothing_for_long(raw, tmp_path):
    out = tmp_path / "out"
    ran = subprocess.run([sys.executable, "-c", KILLED, raw, out], check=False)
    assert ran.returncode == -signal.SIGKILL and len(list(out.iterdir())) == 1
    begin_derivative(raw, out)
    assert {path.name for path in out.iterdir()} == {"dataset_description.json", "README.md", ".bidsignore"}
    (out / ".0123abcd.dataset_description.json").touch()  # killed after the description was needed
    begin_derivative(raw, out)
    assert len(list(out.iterdir())) == 3


def test_shards_may_clear_away_what_another_is_writing(raw, tmp_path, monkeypatch):
    real, cleared = atomic._flush, []

    def flush(path: Path) -> None:
        if not cleared:
            cleared.append(path)
            path.unlink()
        real(path)

    monkeypatch.setattr(atomic, "_flush", flush)
    begin_derivative(raw, tmp_path / "out")
    assert cleared and len(list((tmp_path / "out").iterdir())) == 3


def test_results_are_named_after_what_the_model_does(raw, models, tmp_path, monkeypatch, capsys):
    thick = nib.Nifti1Image(noisy(phantom(16), 0.05)[..., ::4], np.diag([1.0, 1.0, 4.0, 1.0]))
    nib.save(thick, raw / "sub-02/anat/sub-02_FLAIR.nii.gz")
    status, said, heard = CommandLine(monkeypatch, capsys)(
        *("bids", raw, tmp_path / "out", "participant", "--model", models[Task.SUPERRES], "--dry-run"),
        *("--participant-label", "02", "--bids-filter", "datatype=anat"),
    )
    assert status == 0, heard
    assert "sub-02_res-iso_desc-sr_FLAIR" in "".join(said.split()) and "denoised" not in said


def test_the_keys_of_bids_are_in_the_reference():
    reference = Path(__file__).parents[3] / "docs/reference/sidecar.md"
    if not reference.exists():
        pytest.skip("needs the source tree")
    _, _, section = reference.read_text().partition("## BIDS")
    listed = set(re.findall(r"^\| `([A-Z]\w+)` \|", section, re.MULTILINE))
    assert listed == {"IntendedFor", *Naming(Task.SUPERRES).sidecar(PurePosixPath("a"))}
    carried = {
        key for line in section.splitlines() if line[:1] != "|" for key in re.findall(r"`([A-Z]\w+)`", line)
    }
    assert carried == {*metadata._NUMBERS, *metadata._WORDS, "TaskName"}


def test_the_folders_above_a_derivative_are_made(raw, tmp_path):
    begin_derivative(raw, tmp_path / "derivatives" / "medrestore")
    assert (tmp_path / "derivatives" / "medrestore" / "README.md").is_file()


@pytest.mark.parametrize(("place", "status"), [("out", 2), ("derivatives", 2), ("derivatives/x", 0)])
def test_results_do_not_lie_among_the_subjects(raw, models, monkeypatch, capsys, place, status):
    command = ("bids", raw, raw / place, "participant", "--dry-run", "--participant-label", "02")
    model = ("--model", models[Task.DENOISE])
    found, _, errors = CommandLine(monkeypatch, capsys)(*command, *model)
    assert found == status and ("expected one below its folder derivatives" in errors) == (status == 2)


def test_a_data_set_is_not_written_over(raw, tmp_path):
    with pytest.raises(OutputError, match="data set of its own"):
        begin_derivative(raw, raw)
    begin_derivative(raw, tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(OutputError, match="another data set"):
        begin_derivative(other, tmp_path / "out")


@pytest.mark.parametrize("task", [Task.DENOISE, Task.SUPERRES])
def test_results_are_a_valid_derivative(raw, models, tmp_path, monkeypatch, capsys, task):
    shutil.rmtree(raw / "sub-01")
    shutil.rmtree(raw / "sub-02/func")
    if task is Task.SUPERRES:
        image = nib.Nifti1Image(phantom(16)[:, :, ::4], np.diag([1.0, 1.0, 4.0, 1.0]))
        nib.save(image, raw / "sub-02/anat/sub-02_FLAIR.nii.gz")
    out = tmp_path / "out"
    status, said, heard = CommandLine(monkeypatch, capsys)(
        *("bids", raw, out, "participant", "--participant_label=02"),
        *("--task", task, "--model", models[task], "--force", "-q"),
    )
    assert status == 0, heard
    stem = "res-iso_desc-sr" if task is Task.SUPERRES else "desc-denoised"
    image = out / f"sub-02/anat/sub-02_{stem}_FLAIR.nii.gz"
    sidecar = json.loads(image.with_name(f"sub-02_{stem}_FLAIR.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-02/anat/sub-02_FLAIR.nii.gz"]
    assert sidecar["SkullStripped"] is True
    assert ("Resolution" in sidecar) == (task is Task.SUPERRES)
    found, warnings = errors(out)
    assert not found
    assert image.exists() and not warnings - EXPLAINED
    del sidecar["SkullStripped"]  # which has to be there: nobody may leave it out as unknown
    write(image.with_name(f"sub-02_{stem}_FLAIR.json"), sidecar)
    assert {code for code, _ in errors(out)[0]} == {"SIDECAR_KEY_REQUIRED"}
    for path in (path for path in out.rglob("*") if path.is_file() and path.suffix != ".gz"):
        assert CANARY.encode() not in path.read_bytes(), path
    assert CANARY not in said + heard


EXPLAINED = {
    "TOO_FEW_AUTHORS",  # whose they are is for those who publish them to say
    "JSON_KEY_RECOMMENDED",
    "SIDECAR_KEY_RECOMMENDED",  # of the scanner; they stay with the raw data set
}


@pytest.mark.slow
def test_batch_takes_a_data_set_for_one_and_goes_on_past_a_broken_image(
    raw, models, tmp_path, monkeypatch, capsys
):
    broken = raw / "sub-02/anat/sub-02_FLAIR.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    shutil.rmtree(raw / "sub-02/func")
    out = tmp_path / "out"
    status, _, heard = CommandLine(monkeypatch, capsys)(
        "batch", raw, "-o", out, "--model", models[Task.DENOISE], "--force", "-q"
    )
    assert status == 3, heard
    assert sorted(path.name for path in out.rglob("sub-*.nii.gz")) == [
        "sub-01_ses-a_run-01_desc-denoised_T1w.nii.gz",
        "sub-01_ses-b_desc-denoised_T2w.nii.gz",
    ]
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_labels_may_follow_one_option(raw, tmp_path, monkeypatch, capsys):
    status, said, heard = CommandLine(monkeypatch, capsys)(
        *("bids", raw, tmp_path / "out", "participant", "--participant_label", "01", "02"),
        *("--session-label", "b", "--dry-run"),
    )
    assert status == 0, heard
    assert "T2w" in said and "FLAIR" not in said and not (tmp_path / "out").exists()


def series(raw: Path) -> dict[str, Path]:
    """Add the series of another subject: of func, dwi and perf, with all that is said of them."""
    places = {
        "bold": "func/sub-03_task-rest_bold",
        "dwi": "dwi/sub-03_run-1_dwi",
        "asl": "perf/sub-03_asl",
        "m0scan": "perf/sub-03_m0scan",
    }
    found = {suffix: raw / "sub-03" / f"{place}.nii.gz" for suffix, place in places.items()}
    for number, (suffix, path) in enumerate(found.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        volumes = [noisy(phantom(16), 0.05, seed=10 * number + index) for index in range(2)]
        image = nib.Nifti1Image(volumes[0] if suffix == "m0scan" else np.stack(volumes, -1), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        if suffix != "m0scan":
            image.header["pixdim"][4] = 2.5
        nib.save(image, path)
    write(
        raw / "task-rest_bold.json",
        {
            "TaskName": "re st",
            "RepetitionTime": 2.5,
            "SliceTiming": [0.1] * 16,
            "PhaseEncodingDirection": "j-",
            "EchoTime": CANARY,  # no number, so it may be anything
            "MRAcquisitionType": CANARY,
            "Instructions": CANARY,
        },
    )
    (raw / "dwi.bval").write_text("0 1000\n")
    (raw / "dwi.bvec").write_text("9 9\n9 9\n9 9\n")
    found["dwi"].with_name("sub-03_run-1_dwi.bvec").write_text("0 1\n0 -0.5\n0 1e-3\n")
    found["asl"].with_name("sub-03_aslcontext.tsv").write_text("volume_type\ncontrol\nlabel\n")
    write(
        found["m0scan"].with_name("sub-03_m0scan.json"), {"IntendedFor": ["perf/sub-03_asl.nii.gz", CANARY]}
    )
    return found


def test_series_are_restored_with_what_is_said_of_their_volumes(raw, models, tmp_path, monkeypatch, capsys):
    series(raw)
    out, command = tmp_path / "out", CommandLine(monkeypatch, capsys)
    arguments = (raw, out, "participant", "--participant_label", "03", "--model", models[Task.DENOISE])
    status, _, heard = command("bids", *arguments, "--force", "-q")
    assert status == 0, heard
    home = out / "sub-03"
    bold = home / "func/sub-03_task-rest_desc-denoised_bold.nii.gz"
    assert nib.load(bold).shape == (16, 16, 16, 2)
    assert nib.load(bold).header.get_zooms()[3] == 2.5
    sidecar = json.loads(bold.with_name(bold.name.replace(".nii.gz", ".json")).read_text())
    measured = {
        "RepetitionTime": 2.5,
        "SliceTiming": [0.1] * 16,
        "PhaseEncodingDirection": "j-",
        "TaskName": "re st",
    }
    assert {key: sidecar.get(key) for key in (*measured, "EchoTime", "MRAcquisitionType")} == {
        **measured,
        "EchoTime": None,
        "MRAcquisitionType": None,
    }
    assert len(sidecar["volumes"]) == 2
    assert (home / "dwi/sub-03_run-1_dwi.bval").read_text() == "0 1000\n"
    assert (home / "dwi/sub-03_run-1_dwi.bvec").read_text() == "0 1\n0 -0.5\n0 1e-3\n"  # the closest one
    assert (home / "perf/sub-03_aslcontext.tsv").read_text().split() == ["volume_type", "control", "label"]
    m0scan = json.loads((home / "perf/sub-03_desc-denoised_m0scan.json").read_text())
    assert m0scan["IntendedFor"] == ["bids:raw:sub-03/perf/sub-03_asl.nii.gz"]
    found, warnings = errors(out)
    assert not found and not warnings - EXPLAINED
    for path in (path for path in out.rglob("*") if path.is_file() and path.suffix != ".gz"):
        assert CANARY.encode() not in path.read_bytes(), path
    # What lies beside a result belongs to it: done means that it is there, and from the same source.
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*.nii.gz")}
    (home / "dwi/sub-03_run-1_dwi.bval").unlink()
    (raw / "sub-03/perf/sub-03_aslcontext.tsv").write_text("volume_type\nlabel\ncontrol\n")
    assert command("bids", *arguments, "--force", "-q")[0] == 0
    assert (home / "dwi/sub-03_run-1_dwi.bval").exists()
    assert "label\ncontrol" in (home / "perf/sub-03_aslcontext.tsv").read_text()
    again = sorted(path.name for path, time in before.items() if path.stat().st_mtime_ns != time)
    assert again == ["sub-03_desc-denoised_asl.nii.gz", "sub-03_run-1_desc-denoised_dwi.nii.gz"]


def test_what_is_no_longer_true_of_resolved_slices_stays_behind(raw):
    series(raw)
    (case,) = find_bids(raw, Wanted.parse(["suffix=bold", "sub=03"]), Naming(Task.SUPERRES)).cases
    assert "SliceTiming" not in case.sidecar and case.sidecar["RepetitionTime"] == 2.5


@pytest.mark.parametrize("name", ["sub-03_run-1_dwi.bval", "sub-03_run-1_dwi.bvec", "sub-03_aslcontext.tsv"])
def test_text_beside_a_series_is_refused_and_not_copied(raw, name):
    found = series(raw)
    place = found["asl"] if name.endswith(".tsv") else found["dwi"]
    place.with_name(name).write_text(f"0 1000\n{CANARY}\n")
    refused = {case.source.name: case.refused for case in find_bids(raw).cases if case.refused}
    assert list(refused) == [place.name]
    assert Path(name).suffix in refused[place.name] and CANARY not in refused[place.name]


def test_options_of_other_bids_apps_are_taken_under_their_names(raw, models, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    query, work = tmp_path / "filter.json", tmp_path / "work"
    write(query, {"t2w": {"session": "a"}})
    command = CommandLine(monkeypatch, capsys)
    arguments = ("bids", raw, tmp_path / "out", "participant", "--participant_label", "01", "--dry-run")
    arguments += ("--model", models[Task.DENOISE])
    status, said, heard = command(
        *(*arguments, "--bids_filter_file", query, "-w", work, "--n_cpus", 1, "--mem", "4GB"),
        "--skip_bids_validation",
    )
    assert status == 0, heard
    assert "T1w" in said and "T2w" not in said
    assert Path(os.environ["XDG_CACHE_HOME"]) == Path(os.environ["TMPDIR"]) == work
    assert command(*arguments, "--n_cpus", 0)[0] == 2
    status, _, heard = command(*arguments, "--mem", "4")
    assert status == 2 and "expected an amount with its unit" in heard
    status, _, heard = command(*arguments, "-w", query)
    assert status == 2 and "cannot be worked in" in heard
