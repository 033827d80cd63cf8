"""What can be asked of `medrestore batch`: the plan, which cases, shards; and folders that are read-only."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import CommandLine, batch_command, mount_small, scan_folder

from medrestore.batch.ledger import FOLDER
from medrestore.engine.cost import budget, calibration
from medrestore.job import forecast

NAMES = ("a_T1w.nii.gz", "b_T1w.nii", "b_ct.nii", "sub/c_T1w.nii.gz", "sub/d_T1w.nii.gz", "head.nii")


@pytest.fixture
def scans(tmp_path):
    return scan_folder(tmp_path / "scans", NAMES, size=16)


@pytest.fixture
def plan(monkeypatch, capsys, scans, tmp_path, tiny_model):
    """Print a plan; return the scans in it, and all that was said."""
    costs = calibration.Calibration(300_000_000, 150.0, 5000.0, 1e-3, 1e-4)
    monkeypatch.setattr(budget, "calibration", lambda *_: costs)
    # Known in any case: nothing here may depend on what an earlier test has measured and kept.
    monkeypatch.setattr(forecast, "is_known", lambda *_: True)
    cli = CommandLine(monkeypatch, capsys)

    def ask(*arguments: object) -> tuple[list[str], str]:
        said = ("batch", scans, "-o", tmp_path / "out", "--model", tiny_model, "--dry-run", *arguments)
        status, text, errors = cli(*said)
        assert status == 0, errors
        assert not (tmp_path / "out").exists()
        return [name for name in NAMES if re.search(rf"(?<!\w){re.escape(name)}\s", text)], text

    return ask


def test_the_plan_says_what_each_case_takes(plan):
    names, text = plan()
    assert names == list(NAMES)
    lines = {line.split()[1]: line for line in text.splitlines() if re.match(r"[0-9a-f]{12} ", line)}
    assert "16 x 16 x 16" in lines["a_T1w.nii.gz"] and "tiny" in lines["a_T1w.nii.gz"]
    assert "0.52 GB" in lines["a_T1w.nii.gz"] and "a_T1w_restored" in lines["a_T1w.nii.gz"]
    # 300 MB for the process and 220 for measuring the noise; 4096 voxels of 1.1 ms each, five times.
    assert "0:05" in lines["a_T1w.nii.gz"]
    assert "refused: the scan is CT, tiny is for MR" in lines["b_ct.nii"]
    assert "5 to restore, 1 refused; predicted for 5, one by one: 0:23, 0.52 GB of memory" in text


def test_the_plan_says_what_is_refused_and_what_is_left_out(plan, scans):
    (scans / "a_T1w.nii").write_bytes((scans / "b_T1w.nii").read_bytes())
    _, text = plan("--exclude", "sub/*")
    assert re.search(r"a_T1w\.nii\.gz .*name of that of case [0-9a-f]{12} a_T1w\.nii\s", text)
    assert not re.search(r"name of that of case [0-9a-f]{12} a_T1w", plan("--hide-names")[1])
    assert "left out: 2 filtered out" in text and "3 to restore, 2 refused" in text


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--include", "sub/*"), NAMES[3:5]),
        (("--include", "b*", "--include", "sub/*", "--exclude", "*d_*"), ("b_T1w.nii", "b_ct.nii", NAMES[3])),
        (("--only", "CT"), ("b_ct.nii",)),
        (("--only", "mr", "--exclude", "sub/*"), ("a_T1w.nii.gz", "b_T1w.nii")),
    ],
)
def test_cases_are_chosen_by_globs_and_by_modality(plan, arguments, names):
    assert plan(*arguments)[0] == list(names)


def test_shards_share_out_what_is_planned(plan):
    parts = [plan("--shard", f"{number}/3")[0] for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    assert max(len(part) for part in parts) < len(NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shard", "3/2"), "--shard is '3/2'"),
        (("--bids-filter", "acq=x"), "a filter of BIDS is for a BIDS data set"),
        (("--save-std",), "--save-std needs two samples"),
        (("--max-memory", "lots"), "max_memory is 'lots'"),
        (("--include", "none/*"), "no scan to restore: 6 filtered out"),
        (("--include", "none/*", "--dry-run"), "no scan to restore: 6 filtered out"),
        (("--model", "nobody"), "nobody"),
    ],
)
def test_what_cannot_start_ends_with_two(monkeypatch, capsys, scans, tmp_path, arguments, message):
    status, _, errors = CommandLine(monkeypatch, capsys)("batch", scans, "-o", tmp_path / "out", *arguments)
    assert status == 2 and message in " ".join(errors.split())
    assert not list(tmp_path.glob("out/**/*.nii*"))


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system that can be made read-only, even for root."""
    folder = mount_small(tmp_path / "disk", "16m")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def test_a_read_only_folder_stops_before_anything(monkeypatch, capsys, scans, disk, tiny_model):
    (disk / "out").mkdir()
    remount(disk, "ro")
    cli = CommandLine(monkeypatch, capsys)
    for out in (disk / "out", disk / "other"):
        status, _, errors = cli("batch", scans, "-o", out, "--model", tiny_model)
        assert status == 2 and "Read-only file system" in " ".join(errors.split())
        assert "Traceback" not in errors
    remount(disk, "rw")
    assert not list(disk.glob("out/*"))


@pytest.mark.slow
def test_a_part_that_is_read_only_stops_the_batch_and_it_goes_on(scans, disk, tiny_model, tmp_path):
    remount(disk, "ro")
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    subprocess.run(["mount", "--bind", disk, out / "sub"], check=True)
    asked = batch_command(scans, "-o", out, "--model", tiny_model, "--include", "*_T1w*")
    try:
        ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["umount", "--lazy", out / "sub"], check=True)
    said = " ".join(ran.stderr.split())
    assert ran.returncode == 2 and "cannot be written (Read-only file system)" in said, said
    assert "what is done is done, run the same command to go on" in said and "Traceback" not in said
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*_restored.nii.gz")}
    subprocess.run([*asked, "-q"], check=True)
    assert len(list(out.rglob("*_restored.nii.gz"))) == 4
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done
    assert not [path for path in out.rglob(".*") if path.name != FOLDER]


@pytest.mark.slow
def test_a_report_that_cannot_be_written_costs_no_result(scans, tiny_model, tmp_path):
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)  # no file can take this name
    ran = subprocess.run(
        batch_command(scans, "-o", out, "--model", tiny_model, "--include", "head.nii"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Warning: the report is not up to date" in ran.stderr and "Traceback" not in ran.stderr
    assert "1 done (0 before), 0 failed" in ran.stdout
    assert (out / "head_restored.nii.gz").is_file()
