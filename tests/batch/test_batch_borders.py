"""What nobody foresaw is one bad case: in the process of the batch, in its plan, in its report; and time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_series import write_series
from preloaded import Cold
from tiny import CommandLine, batch_command, model_folder, scan_folder

from medrestore.batch import BatchOptions, Ledger, Settings, State, find_cases, run_batch
from medrestore.batch.find import cases as cases_module
from medrestore.batch.find.names import fingerprint
from medrestore.batch.ledger import last_entries
from medrestore.batch.plan import plan_case
from medrestore.batch.reporting import write_report
from medrestore.batch.workers import client
from medrestore.batch.workers.case_json import case_json, job_of, options_of
from medrestore.batch.workers.client import Success, Worker, default_limit
from medrestore.batch.workers.failures import Failure, Kind
from medrestore.batch.workers.process import PendingCase
from medrestore.cli import batching
from medrestore.errors import InputError, OutputError, unforeseen

SECRET = "Zwyxq"


class Quick:
    """A restorer that restores whatever it is given at once."""

    def run(self, job, watch=None):
        Path(f"{job['out']}.nii.gz").write_bytes(b"done")
        Path(f"{job['out']}.json").write_text("{}")
        return Success({}, (".json", ".nii.gz"))

    def stop(self):
        pass

    def close(self):
        pass


@pytest.fixture
def scans(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "bad", "z"):
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "in" / f"{name}.nii")
    return tmp_path / "in"


def states(entries, cases):
    names = {case.id: case.source.name for case in cases}
    return {names[case]: str(entry.state) for case, entry in entries.items()}


@pytest.mark.parametrize("error", [TypeError, ZeroDivisionError, RecursionError, MemoryError, UnicodeError])
@pytest.mark.parametrize("where", ["content", "model"])
def test_what_nobody_foresaw_in_the_process_of_the_batch_is_one_case(
    scans, tmp_path, monkeypatch, error, where
):
    def fail(case):
        if case.source.name == "bad.nii":
            raise error(SECRET)
        return "0" * 64

    options = BatchOptions(model_hash=fail) if where == "model" else BatchOptions()
    if where == "content":
        monkeypatch.setattr(cases_module.Case, "content", fail)
    cases = find_cases(scans).cases
    entries = run_batch(cases, tmp_path / "out", Settings(), [Quick()], options)
    assert states(entries, cases) == {"a.nii": "done", "bad.nii": "failed", "z.nii": "done"}
    (bad,) = (entry for entry in entries.values() if entry.state is State.FAILED)
    assert error.__name__ in bad.cause and "test_batch_borders.py, line" in bad.cause
    assert SECRET not in json.dumps([bad.cause, bad.log])
    # It may be mended: the next run looks again.
    monkeypatch.undo()
    again = run_batch(cases, tmp_path / "out", Settings(), [Quick()], BatchOptions())
    assert states(again, cases)["bad.nii"] == "done"


def test_a_result_that_is_gone_at_once_is_one_case(scans, tmp_path):
    class Hasty(Quick):
        def run(self, job, watch=None):
            answer = super().run(job, watch)
            if "bad" in job["source"]:
                Path(f"{job['out']}.nii.gz").unlink()
            return answer

    cases = find_cases(scans).cases
    entries = run_batch(cases, tmp_path / "out", Settings(), [Hasty()], BatchOptions())
    assert states(entries, cases) == {"a.nii": "done", "bad.nii": "failed", "z.nii": "done"}
    assert {entry.stage for entry in entries.values() if entry.state is State.FAILED} == {"write"}


@pytest.mark.parametrize("state", [State.STARTED, State.DONE])
def test_a_ledger_that_cannot_be_written_ends_the_batch(scans, tmp_path, monkeypatch, state):
    add = Ledger.add

    def full(self, entry):
        if entry.state is state:
            raise OSError(28, "no space left")
        add(self, entry)

    monkeypatch.setattr(Ledger, "add", full)
    with pytest.raises(OutputError, match="the ledger cannot be written"):
        run_batch(find_cases(scans).cases, tmp_path / "out", Settings(), [Quick()], BatchOptions())


def test_what_nobody_foresaw_in_a_plan_is_one_case(scans, monkeypatch):
    def fail(path):
        if path.name == "bad.nii":
            raise KeyError(SECRET)
        raise InputError("no scan")

    monkeypatch.setattr("medrestore.batch.plan.read_header", fail)
    plans = {case.source.name: plan_case(case, Settings()) for case in find_cases(scans).cases}
    assert plans["bad.nii"].refused.startswith("it cannot be planned (KeyError in test_batch_borders.py")
    assert SECRET not in plans["bad.nii"].refused and plans["a.nii"].refused == "no scan"


def test_dicom_that_cannot_be_planned_is_one_case_and_other_scans_go_on(scans, tmp_path, monkeypatch):
    def fail(*_):
        raise AttributeError(SECRET)

    write_series(scans / "series")
    monkeypatch.setattr(cases_module, "plan_dicom", fail)
    cases = find_cases(scans).cases
    entries = run_batch(cases, tmp_path / "out", Settings(), [Quick()], BatchOptions())
    assert states(entries, cases) == {"a.nii": "done", "bad.nii": "done", "z.nii": "done", "DICOM": "failed"}
    (bad,) = (entry for entry in entries.values() if entry.state is State.FAILED)
    assert "cannot be planned (AttributeError in" in bad.cause and SECRET not in bad.cause


def test_the_result_of_a_series_goes_into_no_folder_of_its_name(scans, tmp_path, monkeypatch):
    write_series(scans / "series")
    (case,) = (case for case in find_cases(scans).cases if case.series is not None)
    monkeypatch.chdir(scans)
    out = tmp_path / "out" / "series"
    out.mkdir(parents=True)
    job = {**case_json(case, Settings()), "out": str(out)}
    (out / ".DS_Store").touch()
    (out / "IM0001.dcm").touch()
    before = fingerprint(out)
    assert job_of(job, options_of(job)).paths.series == out  # what a file manager left is no part of it
    (out / ".DS_Store").unlink()
    assert fingerprint(out) == before
    (out / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds notes\.txt, which is no part of a series"):
        job_of(job, options_of(job))


def test_a_report_that_fails_takes_nothing_with_it(scans, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise IndexError(SECRET)

    monkeypatch.setattr(batching, "write_report", fail)
    monkeypatch.setattr(batching.Workers, "start", lambda self: [Quick()])
    monkeypatch.setattr(batching, "_model_hash", lambda settings: lambda case: "")
    monkeypatch.setattr(batching.signal, "signal", lambda *_: None)
    found = find_cases(scans)
    status = batching.execute(
        found, tmp_path / "out", Settings(), BatchOptions(), batching.Workers(), quiet=False
    )
    said = capsys.readouterr()
    assert status == 0 and "3 done" in said.out
    assert "the report is not up to date: this is a bug, IndexError in" in said.err and SECRET not in said.err


def test_an_error_without_a_trace_is_described_by_its_type():
    assert unforeseen(TypeError(SECRET)) == "TypeError"


SLEEPER = """
import json, sys, time
from pathlib import Path
def say(**event):
    print(json.dumps(event), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    say(event="stage", stage="read", share=0)
    if "predicted" in job:
        say(event="predicted", seconds=job["predicted"])
    say(event="stage", stage="restore", share=0.5)
    time.sleep(job["sleep"])
    say(event="done", facts={}, endings=[])
"""


def sleeping(tmp_path, time_limit=None, **job) -> Success | Failure:
    """The answer to a case that takes long."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    worker = Worker((sys.executable, str(tmp_path / "sleeper.py")), time_limit=time_limit)
    try:
        return worker.run(
            {"case": "c", "root": str(tmp_path), "source": "s", "out": str(tmp_path / "o"), **job}
        )
    finally:
        worker.stop()


def test_a_case_that_hangs_is_ended_though_no_limit_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LEAST_LIMIT", 1.0)
    answer = sleeping(tmp_path, sleep=600)
    assert isinstance(answer, Failure) and answer.kind is Kind.TIME
    assert answer.cause == "not done within the time limit of 1 s, and ended"
    answer = sleeping(tmp_path, sleep=600, predicted=0.1)
    assert answer.cause == "not done within the time limit of 2 s, and ended"


@pytest.mark.parametrize("changes", [{"predicted": 100.0}, {"time_limit": math.inf}])
def test_a_case_that_is_predicted_to_take_long_may_and_a_limit_may_be_lifted(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(client, "LEAST_LIMIT", 1.0)
    assert isinstance(sleeping(tmp_path, sleep=2.5, **changes), Success)


def test_the_default_limit_is_many_times_the_prediction_and_an_hour_at_least():
    assert default_limit(None) == default_limit(3.0) == 3600
    assert default_limit(1000.0) == 20_000


@pytest.mark.slow
def test_a_worker_tells_its_prediction(tmp_path, monkeypatch):
    heard = []
    put = PendingCase.put

    def spy(self, event):
        heard.append(event)
        put(self, event)

    monkeypatch.setattr(PendingCase, "put", spy)
    folder = scan_folder(tmp_path / "in", ["a.nii"])
    one = nib.load(folder / "a.nii")
    four = np.repeat(np.asarray(one.dataobj)[..., None], 2, axis=3)
    nib.save(nib.Nifti1Image(four, one.affine), folder / "a.nii")
    model = model_folder(tmp_path / "tiny")
    (case,) = find_cases(folder).cases
    settings = Settings(restore={"model": str(model), "device": "cpu", "force": True})
    worker = Worker((sys.executable, *batching.MODULE))
    job = {**case_json(case, settings), "out": str(tmp_path / "out"), "pictures": None}
    answer = worker.run(job)
    worker.close()
    assert isinstance(answer, Success), answer
    kinds = [event["event"] for event in heard if event]
    assert "predicted" in kinds and kinds.index("predicted") < kinds.index("done")


def test_a_dry_run_states_the_limit(tmp_path, monkeypatch, capsys):
    folder, model = scan_folder(tmp_path / "in", ["a.nii"]), model_folder(tmp_path / "tiny")
    run = CommandLine(monkeypatch, capsys)
    arguments = ("batch", folder, "-o", tmp_path / "out", "--dry-run", "--model", model, "--force")
    assert "ended after 20 times its predicted time, at the earliest after 1:00:00" in run(*arguments)[1]
    assert "a case is ended after 1:30" in run(*arguments, "--time-limit", "90")[1]
    assert "no case is ended for the time" in run(*arguments, "--time-limit", "inf")[1]


@pytest.mark.parametrize("single", [False, True])
def test_the_viewer_is_asked_for_in_each_page_or_beside_them(scans, tmp_path, monkeypatch, single):
    asked = []
    monkeypatch.setattr(batching, "write_report", lambda *_, single_files: asked.append(single_files))
    monkeypatch.setattr(batching.Workers, "start", lambda self: [Quick()])
    monkeypatch.setattr(batching, "_model_hash", lambda settings: lambda case: "")
    monkeypatch.setattr(batching.signal, "signal", lambda *_: None)
    options, workers = BatchOptions(single_file=single), batching.Workers()
    batching.execute(find_cases(scans), tmp_path / "out", Settings(), options, workers, quiet=True)
    assert asked == [single]


def test_half_a_viewer_that_a_killed_run_left_is_removed(scans, tmp_path):
    cases = find_cases(scans).cases
    run_batch(cases, tmp_path / "out", Settings(), [Quick()], BatchOptions())
    pages = tmp_path / "out/cases"
    pages.mkdir()
    names = (".0123abcd.niivue-01234567.js", f".0123abcd.{cases[0].id}.html", ".theirs.js")
    for name in names:
        (pages / name).write_text("half")
    write_report(tmp_path / "out", cases, "denoise")
    assert [(pages / name).exists() for name in names] == [False, False, True]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_scan_of_a_folder_goes_on_where_its_dicom_cannot_be_planned(scans, monkeypatch, capsys, form):
    def fail(*_):
        raise AttributeError(SECRET)

    monkeypatch.setattr("medrestore.io.dicom.plan.plan.plan_series", fail)
    write_series(scans / "series")
    status, said, errors = CommandLine(monkeypatch, capsys)("scan", scans, *form)
    assert status == 0 and "cannot be planned (AttributeError in test_batch_borders.py" in said
    assert "nifti" in said.lower() and SECRET not in said + errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom", "later"),
    [
        (signal.SIGINT, "group", 0.0),
        (signal.SIGTERM, "all", 0.0),
        (signal.SIGTERM, "group", 2.0),
        (signal.SIGINT, "all", 2.0),
    ],
)
def test_what_was_in_progress_when_a_batch_was_interrupted_has_not_failed(tmp_path, number, whom, later):
    """By a terminal, which asks the group; and by systemd or SLURM, which ask each process."""
    folder, out = scan_folder(tmp_path / "in", ["a.nii", "b.nii"], 32), tmp_path / "out"
    model = model_folder(tmp_path / "tiny")
    command = batch_command(folder, "-o", out, "--model", model, "--force", "--device", "cpu")
    running = Cold(command, start_new_session=True, stderr=subprocess.PIPE, text=True)

    def children() -> list[int]:
        lists = Path(f"/proc/{running.pid}/task").glob("*/children")
        return [int(pid) for path in lists for pid in path.read_text().split()]

    until = time.monotonic() + 120
    while not children():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    time.sleep(later)  # its worker has just begun, or is at work
    for pid in children() if whom == "all" else []:
        with contextlib.suppress(ProcessLookupError):  # it is just done
            os.kill(pid, number)
    os.killpg(running.pid, number)
    running.communicate(timeout=60)
    assert not [entry for entry in last_entries(out).values() if entry.state is State.FAILED]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {entry.state for entry in last_entries(out).values()} == {State.DONE}
