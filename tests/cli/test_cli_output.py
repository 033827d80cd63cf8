"""What is printed, where it cannot be; and what is said of a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import CommandLine, noisy, phantom, save

from medrestore.cli import OUT_OF_MEMORY, REPORT
from medrestore.job import run as restoring

COMMAND = [sys.executable, "-c", "from medrestore.cli import main; main()"]


@pytest.fixture
def scan(tmp_path):
    return save(tmp_path / "head_T1w.nii.gz", noisy(phantom(20), 0.05))


@pytest.mark.parametrize("output", ["full", "closed", "pipe"])
def test_a_result_that_is_written_is_a_success_whoever_hears_of_it(scan, tiny_model, tmp_path, output):
    out = tmp_path / "out.nii.gz"
    command = [*COMMAND, "restore", str(scan), "-o", str(out), "--model", str(tiny_model)]
    if output == "full":
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    elif output == "closed":
        line = " ".join(f"'{word}'" for word in command)
        done = subprocess.run(["sh", "-c", f"{line} >&-"], stderr=subprocess.PIPE, check=False)
    else:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
        os.close(write)
    assert done.returncode == 0, done.stderr.decode()
    assert out.exists() and out.with_name("out.json").exists()
    assert b"Traceback" not in done.stderr


def test_a_bug_is_a_traceback_with_a_request_to_report_it(monkeypatch, capsys, scan, tiny_model, tmp_path):
    def forget(*_: object, **__: object) -> None:
        raise KeyError("a name that nobody knows")

    monkeypatch.setattr(restoring, "read_volumes", forget)
    cli = CommandLine(monkeypatch, capsys)
    status, table, errors = cli("restore", scan, "-o", tmp_path / "out.nii", "--model", tiny_model)
    assert (status, table) == (1, "")
    assert "KeyError: 'a name that nobody knows'" in errors and REPORT in errors


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")]
)
def test_want_of_memory_is_no_bug(error, monkeypatch, capsys, scan, tiny_model, tmp_path):
    def fill(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(restoring, "read_volumes", fill)
    cli = CommandLine(monkeypatch, capsys)
    status, _, errors = cli("restore", scan, "-o", tmp_path / "out.nii", "--model", tiny_model)
    assert (status, errors.strip()) == (2, OUT_OF_MEMORY)


def test_a_warning_makes_a_status_of_its_own_on_request(monkeypatch, capsys, tiny_model, tmp_path):
    plain = save(tmp_path / "head.nii.gz", noisy(phantom(20), 0.05))
    cli = CommandLine(monkeypatch, capsys)
    command = ("restore", plain, "--model", tiny_model, "--noise", "5%")
    assert cli(*command, "-o", tmp_path / "a.nii.gz")[0] == 0
    status, _, errors = cli(*command, "-o", tmp_path / "b.nii.gz", "--strict")
    assert (status, (tmp_path / "b.nii.gz").exists()) == (4, True)
    assert "Warning: the scan does not say its modality" in errors
    assert cli(*command, "-o", tmp_path / "c.nii.gz", "--strict", "--modality", "MR")[0] == 0


@pytest.mark.parametrize("verb", ["noise", "metrics"])
def test_threads_are_limited_before_libraries_are_loaded(scan, verb):
    given = [str(scan)] * (2 if verb == "metrics" else 1)
    code = (
        "import os, sys; from medrestore.cli import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "import torch; print(os.environ['OMP_NUM_THREADS'], torch.get_num_threads())"
    )
    command = [sys.executable, "-c", code, verb, *given, "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 1"


def test_threads_of_a_restoration_are_put_back(monkeypatch, capsys, scan, tiny_model, tmp_path):
    import torch

    before, seen = torch.get_num_threads(), []
    restore_all = restoring._restore_all
    monkeypatch.setattr(
        restoring, "_restore_all", lambda *a: (seen.append(torch.get_num_threads()), restore_all(*a))[1]
    )
    cli = CommandLine(monkeypatch, capsys)
    out = tmp_path / "out.nii"
    assert cli("restore", scan, "-o", out, "--model", tiny_model, "--threads", before + 1)[0] == 0
    assert (seen, torch.get_num_threads()) == ([before + 1], before)
    assert np.isfinite(out.stat().st_size)
