"""Two cases in one process: one is restored while the other is read or written, and the process dies then.

Most tests give the batch a worker of a few lines of Python, a real process with a thread for each case; the
last ones kill the real one at a moment that is certain.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tiny import model_folder, noisy, phantom, save

from medrestore.batch import BatchOptions, Listener, Settings, State, find_cases, run_batch
from medrestore.batch.ledger import FOLDER
from medrestore.batch.workers.admission import MemoryGate, Need, QueuedCase, SerialExecutor
from medrestore.batch.workers.client import Worker
from medrestore.cli.batching import MODULE
from medrestore.errors import InputError
from medrestore.options import FileOptions, RestoreOptions

WORKER = """
import json, os, signal, sys, threading, time
from pathlib import Path
turn, tell, begun, floor, inside = threading.Lock(), threading.Lock(), set(), threading.Condition(), []
def work(job):
    alone = job.get("alone", False)
    with tell:
        print(json.dumps({"event": "stage", "case": job["case"], "stage": "wait", "share": 0}), flush=True)
    with floor:  # as the real one has it: nobody beside a case that is to be alone
        floor.wait_for(lambda: not inside if alone else True not in inside)
        inside.append(alone)
    try:
        enter(job)
    finally:
        with floor:
            inside.remove(alone)
            floor.notify_all()
def enter(job):
    name = Path(job["source"]).name
    def say(event, **more):
        with tell:
            print(json.dumps({"event": event, "case": job["case"], **more}), flush=True)
    def until(others):
        deadline = time.monotonic() + 20
        while len(begun) < others and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(begun) >= others
    say("stage", stage="read", share=0)
    voxels = (Path(job["root"]) / job["source"]).read_bytes()
    with (Path(job["root"]).parent / "runs.txt").open("a") as stream:
        stream.write(f"{name} {job.get('alone', False)} {job['restore'].get('tile')}\\n")
    out = Path(job["out"])
    half = out.with_name(f".0123abcd.{out.name}.nii.gz")
    half.write_bytes(b"half")
    begun.add(name)  # last: whoever waits for it may end the process at once
    if name.startswith("reads") and not job.get("alone"):
        until(2)
        print(f"about {sorted(begun)}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # it is another thread that the signal may reach first
    say("stage", stage="wait", share=0)
    with turn:
        say("stage", stage="restore", share=0.5)
        if name.startswith("pair") and not until(2):
            say("failed", kind="error", cause="nothing beside it", log="")
            return
        if name.startswith("segv") or (name.startswith("large") and not job.get("alone")):
            until(1 if job.get("alone") else 2)
            print(f"about {sorted(begun)}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV if name.startswith("segv") else signal.SIGKILL)
            time.sleep(60)
        if name.startswith("hang"):
            until(2)
            time.sleep(600)
        if name.startswith("long"):
            time.sleep(0.8)
    if name.startswith("stays") and not job.get("alone"):
        time.sleep(60)  # the other one ends the process
    half.unlink()
    out.with_name(out.name + ".nii.gz").write_bytes(voxels[::-1])
    out.with_name(out.name + ".json").write_text("{}")
    say("done", facts={"peak_bytes": 5}, endings=[".json", ".nii.gz"])
for line in sys.stdin:
    threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
"""


class Heard(Listener):
    def __init__(self) -> None:
        self.tries = []

    def retried(self, case, failure, how):
        self.tries.append((case.source.name, how))


@pytest.fixture
def run(tmp_path):
    """Run a batch over files of these names through both slots of one worker."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    scans, out = tmp_path / "in", tmp_path / "out"
    scans.mkdir()

    def go(*names, time_limit=None):
        for name in names:
            (scans / f"{name}.nii").write_bytes(name.encode() * 50)
        heard, worker = Heard(), Worker((sys.executable, script), time_limit=time_limit)
        cases = find_cases(scans).cases
        entries = run_batch(cases, out, Settings(), worker.slots(), BatchOptions(), heard)
        names_of = {case.id: case.source.name.removesuffix(".nii") for case in cases}
        assert not [path for path in out.rglob(".*") if path.name != FOLDER], "a temporary file is left"
        return {names_of[case]: entry for case, entry in entries.items()}, heard

    go.out = out
    go.runs = lambda: [tuple(line.split()) for line in (tmp_path / "runs.txt").read_text().splitlines()]
    return go


def test_one_case_is_read_while_another_is_restored(run):
    entries, _ = run("pair1", "pair2", "z")
    assert all((entry.state, entry.attempts) == (State.DONE, 1) for entry in entries.values())
    assert sorted(run.runs()) == [(f"{name}.nii", "False", "None") for name in ("pair1", "pair2", "z")]


def test_a_crash_is_counted_where_it_is_certain_whose_it_is(run):
    entries, heard = run("segv", "stays", "z")
    assert {name: (str(entry.state), entry.attempts) for name, entry in entries.items()} == {
        "segv": ("failed", 2),
        "stays": ("done", 1),
        "z": ("done", 1),
    }
    assert "SIGSEGV" in entries["segv"].cause and heard.tries == [("segv.nii", "as it was")]
    assert [alone for name, alone, _ in run.runs() if name == "segv.nii"] == ["False", "True", "True"]


def test_what_crashes_while_it_is_read_costs_the_one_that_is_restored_nothing(run):
    entries, heard = run("reads", "stays")
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.DONE, 1)}
    assert not heard.tries and [alone for _, alone, _ in run.runs()] == ["False"] * 2 + ["True"] * 2


def test_memory_that_suffices_for_one_makes_no_tile_smaller(run):
    entries, heard = run("large", "stays")
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.DONE, 1)}
    assert not heard.tries and {tile for *_, tile in run.runs()} == {"None"}
    assert ("large.nii", "True", "None") in run.runs()


def test_what_takes_too_long_is_ended_and_the_other_is_done_again(run):
    entries, _ = run("hang", "z", time_limit=3)
    assert "time limit of 3 s" in entries["hang"].cause
    assert (entries["z"].state, entries["z"].attempts) == (State.DONE, 1)


def test_the_time_of_another_does_not_count(run):
    entries, _ = run("long1", "long2", "long3", "long4", time_limit=1.5)
    assert all(entry.state is State.DONE for entry in entries.values())
    assert all(entry.facts["seconds"] < 1.5 for entry in entries.values())


def test_what_a_process_said_last_names_no_case_that_was_in_it(run):
    entries, _ = run("segv_otto", "stays_anna")
    log = entries["segv_otto"].log
    assert "about" in log and "anna" not in log and "otto" not in log


# --- who is let in ---------------------------------------------------------------------------------------


def queued(root, need, **job):
    options = FileOptions(restore=RestoreOptions(max_memory=1000))
    made = QueuedCase({"root": str(root), **job}, options, lambda: None)
    made.need = need
    return made


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (Need(100, 900), Need(100, 900), True),
        (Need(100, 900), Need(101, 900), False),
        (Need(101, 500), Need(1, 900), False),
        (Need(1, 1), None, False),
    ],
)
def test_two_are_together_where_the_memory_suffices_whichever_is_restored(tmp_path, first, second, together):
    check(queued(tmp_path, first), queued(tmp_path, second), together)


def test_one_that_is_to_be_alone_is_alone(tmp_path):
    small = Need(1, 1)
    check(queued(tmp_path, small, alone=True), queued(tmp_path, small), False)
    check(queued(tmp_path, small), queued(tmp_path, small, alone=True), False)
    (tmp_path / "sub").mkdir()
    check(queued(tmp_path, small), queued(tmp_path / "sub", small), False)


def test_one_whose_file_cannot_be_read_harms_no_other(tmp_path):
    """It is asked for its need by the other, which once failed with its error."""

    def unreadable() -> None:
        raise InputError("broken.nii: the file is truncated")

    broken = QueuedCase({"root": str(tmp_path)}, queued(tmp_path, None).options, unreadable)
    check(broken, queued(tmp_path, Need(1, 1)), False)
    check(queued(tmp_path, Need(1, 1)), broken, False)


def check(first: QueuedCase, second: QueuedCase, together: bool) -> None:
    gate, inside, here = MemoryGate(), threading.Event(), Path.cwd()

    def enter() -> None:
        with gate.enter(second, refused=lambda: None):
            inside.set()

    late = threading.Thread(target=enter)
    try:
        with gate.enter(first, refused=lambda: None):
            late.start()
            assert inside.wait(5 if together else 0.2) is together
        assert inside.wait(5)
        late.join()
        assert Path.cwd() == Path(second.job["root"])
    finally:
        os.chdir(here)


def test_work_is_done_on_the_thread_that_serves_and_its_errors_come_back():
    executor = SerialExecutor()
    server = threading.Thread(target=executor.serve, daemon=True)
    server.start()
    assert executor.take(threading.get_ident) == server.ident
    with pytest.raises(SystemExit):
        executor.take(sys.exit)
    assert executor.take(lambda: 3) == 3


# --- the real one ----------------------------------------------------------------------------------------

CHILD = """
import os, signal, sys, threading, time
from pathlib import Path
from medrestore.batch.workers import main as worker
from medrestore.job import run as restoring
from medrestore.job import write as writing
where, killed = sys.argv[1], Path(sys.argv[2])
restore_all, read, write = restoring._restore_all, restoring._read, writing.write
calls, other = {"read": 0, "restore": 0}, threading.Event()
def slow_restore(*arguments):
    calls["restore"] += 1
    results = restore_all(*arguments)
    if not killed.exists() and calls["restore"] == (1 if where == "read" else 2):
        killed.write_text(str(other.wait(120)))
        if where == "hold":
            time.sleep(120)
        os.kill(os.getpid(), signal.SIGKILL)
    return results
def slow_read(job):
    calls["read"] += 1
    if where == "hold" and calls["read"] == 3:
        other.set()
    if where == "read" and calls["read"] == 2 and not killed.exists():
        other.set()
        time.sleep(120)
    return read(job)
def slow_write(*arguments, **more):
    report = write(*arguments, **more)
    if where == "write" and not killed.exists():
        other.set()
        time.sleep(120)
    return report
restoring._restore_all, restoring._read, writing.write = slow_restore, slow_read, slow_write
worker.main()
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """Scans, settings, and what one slot makes of them."""
    place = tmp_path_factory.mktemp("overlap")
    (place / "in").mkdir()
    for index, name in enumerate("abc"):
        save(place / "in" / f"{name}_T1w.nii.gz", noisy(phantom(24), 0.05, seed=index))
    model = model_folder(place / "tiny")
    settings = Settings(restore={"task": "denoise", "model": str(model)})
    worker = Worker((sys.executable, *MODULE))
    run_batch(find_cases(place / "in").cases, place / "out", settings, [worker])
    return place / "in", settings, images(place / "out")


def images(out):
    return {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["read", "write"])
def test_killed_with_two_cases_inside_nothing_is_lost_and_no_byte_differs(quiet, tmp_path, where):
    scans, settings, expected = quiet
    killed, out, heard = tmp_path / "killed", tmp_path / "out", Heard()
    worker = Worker((sys.executable, "-c", CHILD, where, killed))
    entries = run_batch(find_cases(scans).cases, out, settings, worker.slots(), BatchOptions(), heard)
    assert killed.read_text() == "True", "the second case was not inside"
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.DONE, 1)}
    assert not heard.tries and images(out) == expected and len(expected) == 3
    assert not [path for path in out.rglob(".*") if path.name != FOLDER]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    fresh = []
    heard.finished = lambda case, entry, is_fresh: fresh.append(is_fresh)
    again = Worker((sys.executable, "-c", "raise SystemExit('nothing is left to do')"))
    run_batch(find_cases(scans).cases, out, settings, again.slots(), BatchOptions(), heard)
    assert fresh == [False] * 3
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} == before


BATCH = """
import sys
from pathlib import Path
from medrestore.batch import Settings, find_cases, run_batch
from medrestore.batch.workers.client import Worker
scans, out, model, *child = sys.argv[1:]
worker = Worker((sys.executable, "-c", *child))
settings = Settings(restore={"task": "denoise", "model": model})
run_batch(find_cases(Path(scans)).cases, Path(out), settings, worker.slots())
"""


@pytest.mark.slow
def test_the_batch_killed_with_two_cases_inside_goes_on_where_it_was(quiet, tmp_path):
    scans, settings, expected = quiet
    held, out = tmp_path / "held", tmp_path / "out"
    arguments = [scans, out, settings.restore["model"], CHILD, "hold", held]
    process = subprocess.Popen([sys.executable, "-c", BATCH, *map(str, arguments)])
    try:
        deadline = time.monotonic() + 240
        while not held.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert held.read_text() == "True", "one is restored, another read"
    finally:
        process.kill()
        process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert len(done) == 1
    worker = Worker((sys.executable, *MODULE))
    entries = run_batch(find_cases(scans).cases, out, settings, worker.slots())
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.DONE, 1)}
    assert images(out) == expected
    (name,) = done
    assert (out / name).stat().st_mtime_ns == done[name], "done again"
    assert not [path for path in out.rglob(".*") if path.name != FOLDER]
