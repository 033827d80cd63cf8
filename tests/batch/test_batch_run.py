"""A batch from its first case to its last, with workers that crash, hang, run out of memory and are killed.

The tests give the batch a worker that is a few lines of Python, so that what it does is certain; it is a
real process all the same.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from medrestore.batch import BatchOptions, Listener, Settings, Shard, State, find_cases, run_batch
from medrestore.batch.ledger import FOLDER, last_entries
from medrestore.batch.reporting import write_report
from medrestore.batch.workers.client import Worker
from medrestore.errors import OutputError

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
def say(**event):
    print(json.dumps(event), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    say(event="stage", stage="read", share=0)
    name, tile = Path(job["source"]).name, job["restore"].get("tile")
    voxels = (Path(job["root"]) / job["source"]).read_bytes()
    log = Path(job["root"]).parent / "runs.txt"
    with log.open("a") as stream:
        stream.write(f"{name} {tile} {os.environ.get('MARK', '')}\\n")
    say(event="stage", stage="restore", share=0.5)
    if name.startswith("exit"):
        print("about to go", file=sys.stderr, flush=True)
        os._exit(7)
    if name.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("once") and log.read_text().count(name) == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("killed") and tile != 96:
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("vast") and log.read_text().count(name) < 5:
        say(event="failed", kind="memory", cause="memory did not suffice", log="")
        continue
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("full"):
        say(event="failed", kind="stop", cause="the disk is full", log="")
        continue
    if name.startswith("wordy"):
        say(event="failed", kind="error", cause="begin" + "x" * 100_000 + "end", log="y" * 100_000)
        continue
    if name.startswith("bad"):
        say(event="failed", kind="refused", cause="no scan", log="", peak_bytes=1)
        continue
    out = Path(job["out"])
    out.with_name(out.name + ".nii.gz").write_bytes(voxels[::-1])
    out.with_name(out.name + ".json").write_text("{}")
    say(event="done", facts={"peak_bytes": 5}, endings=[".json", ".nii.gz"])
"""


class Heard(Listener):
    def __init__(self) -> None:
        self.cases, self.tries = [], []

    def finished(self, case, entry, fresh):
        self.cases.append((case.source.name, str(entry.state), fresh))

    def retried(self, case, failure, how):
        self.tries.append((case.source.name, failure.cause, how))


@pytest.fixture
def run(tmp_path):
    """Run a batch over files of these names with `count` workers; what was tried is in `run.tried()`."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    scans, out = tmp_path / "in", tmp_path / "out"
    scans.mkdir()

    def go(*names, count=1, settings=None, time_limit=None, reference=None, cases=None, **options):
        for name in names:
            (scans / f"{name}.nii").write_bytes(name.encode() * 50)
        heard = Heard()
        workers = [
            Worker((sys.executable, script), time_limit=time_limit, environment={"MARK": str(mark)})
            for mark in range(count)
        ]
        cases = cases or [replace(case, reference=reference) for case in find_cases(scans).cases]
        entries = run_batch(cases, out, settings or Settings(), workers, BatchOptions(**options), heard)
        names_of = {case.id: case.source.name.removesuffix(".nii") for case in find_cases(scans).cases}
        return {names_of[case]: entry for case, entry in entries.items()}, heard

    go.scans, go.out = scans, out
    go.tried = lambda: [line.split()[0] for line in (tmp_path / "runs.txt").read_text().splitlines()]
    go.tiles = lambda: [line.split()[1] for line in (tmp_path / "runs.txt").read_text().splitlines()]
    return go


def test_one_bad_case_is_one_bad_case(run):
    entries, _ = run("a", "bad", "exit", "segv", "z")
    assert {name: str(entry.state) for name, entry in entries.items()} == {
        "a": "done",
        "bad": "failed",
        "exit": "failed",
        "segv": "failed",
        "z": "done",
    }
    assert entries["bad"].cause == "no scan"
    assert "exit code 7" in entries["exit"].cause and "SIGSEGV" in entries["segv"].cause
    assert entries["exit"].stage == "restore" and "about to go" in entries["exit"].log
    assert entries["exit"].facts["peak_bytes"] > 1_000_000
    assert (run.out / "z_restored.nii.gz").read_bytes() == (b"z" * 50)


def test_a_long_cause_is_cut_in_the_ledger_and_in_the_report(run):
    entries, _ = run("wordy")
    cause = entries["wordy"].cause
    assert len(cause) == 2000 and cause.startswith("begin") and cause.endswith("end")
    assert "98008 characters left out" in cause and len(entries["wordy"].log) == 20_000
    (kept,) = last_entries(run.out).values()
    assert kept.cause == cause
    write_report(run.out, find_cases(run.scans).cases, "denoise")
    (row,) = json.loads((run.out / "summary.json").read_text())["cases"]
    assert row["cause"] == cause


KILLED = """
import os, signal, sys
from pathlib import Path
from medrestore.batch import find_cases, reporting
from medrestore.io import atomic
real, left = atomic._flush, [int(sys.argv[3])]
def flush(path):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path)
atomic._flush = flush
reporting.write_report(Path(sys.argv[2]), find_cases(Path(sys.argv[1])).cases, "denoise")
"""


def test_a_kill_while_the_report_is_written_leaves_nothing_for_long(run):
    run("a", "bad")
    for after in (0, 1, 2, 3, 3):  # two summaries, a page, the other one with that there, the report
        killed = subprocess.run([sys.executable, "-c", KILLED, run.scans, run.out, str(after)], check=False)
        assert killed.returncode == -signal.SIGKILL
    write_report(run.out, find_cases(run.scans).cases, "denoise")
    assert not [path for path in run.out.rglob(".*") if path.name != FOLDER]
    assert len(list((run.out / "cases").iterdir())) == 2 and (run.out / "report.html").exists()


def test_a_crash_is_tried_once_more(run):
    entries, heard = run("once", "exit")
    assert (entries["once"].state, entries["once"].attempts) == (State.DONE, 2)
    assert (entries["exit"].state, entries["exit"].attempts) == (State.FAILED, 2)
    assert sorted((name, how) for name, _, how in heard.tries) == [
        ("exit.nii", "as it was"),
        ("once.nii", "as it was"),
    ]


def test_want_of_memory_is_met_with_smaller_tiles(run):
    entries, heard = run("killed")
    assert (entries["killed"].state, run.tiles()) == (State.DONE, ["None", "160", "96"])
    assert all("for want of memory" in cause for _, cause, _ in heard.tries)


def test_where_no_tile_is_small_enough_a_case_is_tried_alone(run):
    entries, heard = run("vast", "a", "b", "c", count=2)
    assert all(entry.state is State.DONE for entry in entries.values())
    assert [how for name, _, how in heard.tries if name == "vast.nii"] == [
        *(f"with tiles of {side} voxels" for side in (160, 96, 64)),
        "with no other case beside it",
    ]


def test_what_hangs_is_ended(run):
    entries, _ = run("hang", "z", time_limit=1)
    assert "time limit of 1 s" in entries["hang"].cause and entries["hang"].stage == "restore"
    assert entries["z"].state is State.DONE


def test_a_full_disk_stops_the_batch_and_the_same_call_goes_on(run):
    with pytest.raises(OutputError, match=r"the disk is full; .*run the same command to go on"):
        run("a", "full", "z")
    assert run.tried() == ["a.nii", "full.nii"]
    (run.scans / "full.nii").unlink()
    _, heard = run("z")
    assert set(heard.cases) == {("a.nii", "done", False), ("z.nii", "done", True)}


def test_scans_that_are_gone_stop_the_batch(run, tmp_path):
    run("a")
    cases = find_cases(run.scans).cases
    run.scans.rename(tmp_path / "unmounted")
    with pytest.raises(OutputError, match="the folder of the scans is gone"):
        run_batch(cases, run.out, Settings(), [Worker((sys.executable, "-c", ""))])
    assert len(last_entries(run.out)) == 1


# --- again -----------------------------------------------------------------------------------------------


def test_a_second_run_does_what_is_left_and_nothing_twice(run):
    run("a", "bad", "c")
    _, heard = run("d")
    assert sorted(heard.cases) == [
        ("a.nii", "done", False),
        ("bad.nii", "failed", False),
        ("c.nii", "done", False),
        ("d.nii", "done", True),
    ]
    assert run.tried() == ["a.nii", "bad.nii", "c.nii", "d.nii"]
    run(retry_failed=True)
    assert run.tried()[4:] == ["bad.nii"]


def test_what_changed_is_done_again(run):
    run("a", "b", "c")
    (run.scans / "a.nii").write_bytes(b"other")
    (run.out / "b_restored.nii.gz").write_bytes(b"spoilt")
    _, heard = run()
    assert sorted(heard.cases) == [("a.nii", "done", True), ("b.nii", "done", True), ("c.nii", "done", False)]
    _, heard = run(settings=Settings(restore={"seed": 1}))
    assert all(fresh for *_, fresh in heard.cases)
    _, heard = run(settings=Settings(restore={"seed": 1}), model_hash=lambda case: "others")
    assert all(fresh for *_, fresh in heard.cases)


def test_another_json_beside_a_scan_is_another_case(run):
    run("a", "b")
    for said in ('{"RepetitionTime": 2.0}', '{"RepetitionTime": 0.8}'):
        (run.scans / "a.json").write_text(said)
        _, heard = run()
        assert sorted(heard.cases) == [("a.nii", "done", True), ("b.nii", "done", False)]
    assert not any(fresh for *_, fresh in run()[1].cases)


def test_results_of_another_folder_are_not_replaced_and_a_scan_that_moved_is_known(run):
    run("a", "b")
    before = (run.out / "a_restored.nii.gz").read_bytes()
    other = run.scans.with_name("other")
    other.mkdir()
    (other / "a.nii").write_bytes(b"of another site")
    (other / "b.nii").write_bytes((run.scans / "b.nii").read_bytes())
    cases = find_cases(other).cases
    entries, heard = run(cases=cases)
    assert "that of another scan of this name, in another folder" in entries["a"].cause
    assert (run.out / "a_restored.nii.gz").read_bytes() == before
    assert ("b.nii", "done", False) in heard.cases
    entries, _ = run(cases=cases, overwrite=True, retry_failed=True)
    assert entries["a"].state is State.DONE


def test_another_truth_is_another_score(run, tmp_path):
    truth = tmp_path / "truth.nii"
    run("a")
    for voxels in (b"one", b"two"):
        truth.write_bytes(voxels)
        assert [fresh for _ in range(2) for *_, fresh in run(reference=truth)[1].cases] == [True, False]


def test_a_result_of_nobody_is_not_replaced(run):
    run.out.mkdir()
    (run.out / "a_restored.nii.gz").write_bytes(b"mine")
    entries, _ = run("a")
    assert "no batch made it" in entries["a"].cause
    entries, _ = run(retry_failed=True)
    assert "no batch made it" in entries["a"].cause
    assert (run.out / "a_restored.nii.gz").read_bytes() == b"mine"
    entries, _ = run(overwrite=True)
    assert entries["a"].state is State.DONE


def test_what_a_killed_run_left_is_cleared_away(run):
    run("a", "b")
    ledger = run.out / FOLDER / "ledger-whole.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(
        "".join(lines[:3])
    )  # killed after the second case was written and before it was entered
    (run.out / ".0123abcd.b_restored.nii.gz").write_bytes(b"half")
    _, heard = run()
    assert heard.cases == [("a.nii", "done", False), ("b.nii", "done", True)]
    assert sorted(path.name for path in run.out.iterdir()) == [
        FOLDER,
        *("a_restored.json", "a_restored.nii.gz", "b_restored.json", "b_restored.nii.gz"),
    ]


# --- side by side ----------------------------------------------------------------------------------------


def test_workers_share_the_cases_and_do_each_once(run):
    names = [f"case{number:02}" for number in range(20)]
    entries, _ = run(*names, count=3)
    assert all(entry.state is State.DONE for entry in entries.values()) and len(entries) == 20
    assert sorted(run.tried()) == [f"{name}.nii" for name in names]


def test_shards_do_each_case_once(run):
    names = [f"case{number:02}" for number in range(12)]
    for number in (2, 1):
        run(*names, shard=Shard(number, 2))
    assert sorted(run.tried()) == [f"{name}.nii" for name in names]
    _, heard = run()
    assert not any(fresh for *_, fresh in heard.cases)
