"""The command as a user runs it: killed, ended, on a full disk; and that nothing names a patient."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pydicom
import pytest
from dicom_series import write_series
from tiny import CommandLine, batch_command, mount_small, phantom, save, scan_folder

from medrestore.batch import Settings, State, find_cases
from medrestore.batch.ledger import FOLDER, last_entries
from medrestore.cli.batching import _model_hash
from medrestore.types import Modality

NAMES = ("a_T1w.nii.gz", "b_T1w.nii", "sub/c_T1w.nii.gz")


@pytest.fixture
def scans(tmp_path):
    return scan_folder(tmp_path / "scans", NAMES)


@pytest.fixture(scope="module")
def quiet(tiny_model, tmp_path_factory):
    """The images that a batch of the scans makes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("quiet")
    command = batch_command(scan_folder(folder / "scans", NAMES), "-o", folder / "out", "--model", tiny_model)
    subprocess.run([*command, "-q"], check=True)
    found = images(folder / "out")
    assert len(found) == 3
    return found


def images(out: Path) -> dict[str, bytes]:
    """The voxels and headers of all images; records have times in them."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.name.endswith((".nii.gz", ".dcm"))
    }


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_the_plan_is_printed_and_nothing_is_done(cli, scans, tiny_model, tmp_path):
    (scans / "head.nii").write_bytes((scans / "b_T1w.nii").read_bytes())
    status, text, _ = cli("batch", scans, "-o", tmp_path / "out", "--dry-run")
    assert status == 0 and not (tmp_path / "out").exists()
    assert "sub/c_T1w" in text and "mr-denoise" in text and "refused: several models" in text


def test_a_log_names_the_scan_beside_its_hash_or_the_hash_alone(cli, scans, tiny_model, tmp_path):
    command = ("batch", scans, "--model", tiny_model, "--include", "a_T1w*")
    status, _, errors = cli(*command, "-o", tmp_path / "named")
    assert status == 0 and re.search(r"1/1 [0-9a-f]{12} a_T1w\.nii\.gz done", errors)
    status, _, errors = cli(*command, "-o", tmp_path / "hidden", "--hide-names")
    assert status == 0 and re.search(r"1/1 [0-9a-f]{12} done", errors) and "a_T1w" not in errors


def test_a_folder_without_scans_is_refused(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, errors = cli("batch", tmp_path / "empty", "-o", tmp_path / "out")
    assert (status, "no scan to restore" in errors) == (2, True)
    status, _, errors = cli("batch", tmp_path / "none", "-o", tmp_path / "out")
    assert (status, "no such file or folder" in errors) == (2, True)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_bytes_of_a_quiet_run(scans, quiet, tiny_model, tmp_path):
    killed, mark = tmp_path / "killed", f"medrestore-test-{os.getpid()}"
    command = batch_command(scans, "-o", killed, "--model", tiny_model, "-q")
    # While it loads, with the folder taken, when a case is being written, when one is done, and two.
    moments = (
        lambda: (time.sleep(0.5), True),
        lambda: list(killed.glob(f"{FOLDER}/lock-*")),
        lambda: done(killed) or any(path.name != FOLDER for path in killed.rglob(".*")),
        lambda: len(done(killed)) >= 1,
        lambda: len(done(killed)) >= 2,
    )
    for has_come in moments:
        process = subprocess.Popen(command, env={**os.environ, "MARK": mark})
        while not has_come() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        settle(mark)
    before = done(killed)
    subprocess.run(command, check=True)
    assert images(killed) == quiet
    lines = [json.loads(line) for line in (killed / FOLDER / "ledger-whole.jsonl").read_text().splitlines()]
    finished = [line["case"] for line in lines if line["state"] == "done"]
    assert len(finished) == len(set(finished)) == 3 and before <= set(finished)
    assert not [path for path in killed.rglob(".*") if path.name != FOLDER]


def done(out: Path) -> set[str]:
    """The cases that a batch has done so far."""
    return {case for case, entry in last_entries(out).items() if entry.state is State.DONE}


def settle(mark: str) -> None:
    """Wait until the worker of a batch that was killed has gone as well: its input has ended."""
    deadline = time.monotonic() + 30
    while any(mark.encode() in said for said in environments()):
        assert time.monotonic() < deadline, "a worker outlives its batch"
        time.sleep(0.1)


def environments() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            yield path.read_bytes()


@pytest.mark.slow
def test_asked_to_end_it_ends_its_worker_and_gives_the_folder_free(scans, tiny_model, tmp_path):
    out, mark = tmp_path / "out", f"medrestore-term-{os.getpid()}"
    process = subprocess.Popen(
        batch_command(scans, "-o", out, "--model", tiny_model, "-q"),
        env={**os.environ, "MARK": mark},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob(f"{FOLDER}/lock-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode not in {0, 3} and b"Traceback" not in said
    settle(mark)
    assert not list(out.glob(f"{FOLDER}/lock-*"))


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_nothing_partial(scans, quiet, tiny_model, tmp_path):
    small = mount_small(tmp_path / "small", str(2 * sum(map(len, quiet.values())) // 3))
    try:
        stopped = subprocess.run(
            batch_command(scans, "-o", small / "out", "--model", tiny_model),
            capture_output=True,
            text=True,
            check=False,
        )
        assert stopped.returncode == 2, stopped.stderr
        assert "No space left on device" in stopped.stderr and "Traceback" not in stopped.stderr
        before = images(small / "out")
        for name in before:
            nib.load(small / "out" / name).get_fdata()
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        subprocess.run(batch_command(scans, "-o", small / "out", "--model", tiny_model, "-q"), check=True)
        after = images(small / "out")
        assert after == quiet and {name: after[name] for name in before} == before
    finally:
        subprocess.run(["umount", small], check=True)


CANARY = "Zq7Canary"


@pytest.mark.slow
def test_nothing_that_names_a_patient_is_written(scans, tiny_model, tmp_path):
    def plant(data, _=None):
        for element in data.iterall():
            if (
                element.VR in {"LO", "SH", "PN", "ST", "LT", "UT"}
                and element.keyword != "FrameOfReferenceUID"
            ):
                element.value = f"{CANARY}{element.tag:08x}"[:16]
        data.PatientName, data.PatientID = f"{CANARY}^Name", f"{CANARY}-1"
        return data

    write_series(scans / "series")
    for path in (scans / "series").glob("*.dcm"):
        pydicom.dcmwrite(path, plant(pydicom.dcmread(path)))
    cut = sorted((scans / "series").glob("*.dcm"))[2]
    shutil.copytree(scans / "series", scans / "gap")
    (scans / "gap" / cut.name).unlink()
    for path in (scans / "gap").glob("*.dcm"):
        other = pydicom.dcmread(path)
        other.SeriesInstanceUID += ".1"
        other.save_as(path)
    image = nib.load(scans / "b_T1w.nii", mmap=False)
    for field in ("descrip", "aux_file", "intent_name"):
        image.header[field] = CANARY.encode()
    nib.save(image, scans / "b_T1w.nii")
    (scans / "broken_T1w.nii").write_bytes((scans / "b_T1w.nii").read_bytes()[:2000])
    out = tmp_path / "out"
    ran = subprocess.run(
        batch_command(scans, "-o", out, "--model", tiny_model, "--force", "--format", "nifti"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 3, ran.stderr
    assert CANARY not in ran.stdout + ran.stderr
    written = [path for path in out.rglob("*") if path.is_file()]
    assert any(path.name == "series.nii.gz" for path in written), ran.stderr
    for path in written:
        data = path.read_bytes()
        if path.name.endswith(".nii.gz"):
            data = nib.load(path).header.binaryblock
        assert CANARY.encode() not in data and CANARY not in str(path), path
        assert str(scans).encode() not in data, path


def test_which_model_a_scan_has_is_not_read_in_the_process_of_the_batch(tmp_path):
    """A reader that dies there would take every scan with it; the hash is that of each model it may be."""
    save(tmp_path / "otto.nii", phantom(16))
    (case,) = find_cases(tmp_path).cases
    (tmp_path / "otto.nii").unlink()
    both = _model_hash(Settings())(case).split(" or ")
    assert both == [
        _model_hash(Settings())(replace(case, modality=one)) for one in (Modality.MR, Modality.CT)
    ]


def test_what_cannot_be_read_and_says_no_modality_names_no_file_either(scans, tmp_path):
    (scans / "otto.nii").write_bytes((scans / "b_T1w.nii").read_bytes()[:2000])
    out = tmp_path / "out"
    command = batch_command(scans, "-o", out, "--include", "otto.nii", "--hide-names", "--format", "nifti")
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 3, ran.stderr
    (entry,) = last_entries(out).values()
    assert entry.stage == "read" and "header declares" in entry.cause
    assert "otto" not in entry.cause + ran.stdout + ran.stderr and str(scans) not in entry.cause
