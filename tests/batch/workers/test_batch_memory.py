"""Want of memory: whether the system ended a process for it, and what is tried then."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny import CommandLine, model_folder, noisy, phantom, save

from medrestore.batch import Entry, Settings, State, find_cases, run_batch
from medrestore.batch.lock import _clear
from medrestore.batch.workers.client import Worker
from medrestore.batch.workers.failures import Attempt, Failure, Kind, next_attempt
from medrestore.batch.workers.main import _failure
from medrestore.diffusion import Condition
from medrestore.engine.machine.memory import REFUSED, out_of_memory_kills
from medrestore.errors import PluginError
from medrestore.plugin.contract import ContractDenoiser


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/slurm/job_7\n", "slurm/job_7/memory.events", "low 0\nmax 4\noom 1\noom_kill 3\n"),
        ("0::/outside/of/the/container\n", "memory.events", "oom_kill 3\n"),
        ("5:cpu:/a\n9:memory:/b\n", "memory/b/memory.oom_control", "under_oom 0\noom_kill 3\n"),
    ],
)
def test_kills_are_those_of_the_own_control_group(tmp_path, membership, file, text):
    (tmp_path / "cgroup").write_text(membership)
    path = tmp_path / "fs" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert out_of_memory_kills(tmp_path / "cgroup", tmp_path / "fs") == 3


def test_nobody_tells():
    assert out_of_memory_kills(Path("/nowhere"), Path("/nowhere")) == 0


def test_a_lock_that_another_run_took_meanwhile_stays(tmp_path):
    path = tmp_path / "lock-whole.json"
    path.write_text(json.dumps({"pid": 2}))
    _clear(path, json.dumps({"pid": 1}))
    assert json.loads(path.read_text()) == {"pid": 2}
    _clear(path, json.dumps({"pid": 2}))
    assert list(tmp_path.iterdir()) == []


JOB = {"root": "/data", "source": "a.nii", "out": "/out/a", "series": None, "case": "a"}


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_want_of_memory_is_told_from_other_errors(error):
    assert _failure(error, JOB)["kind"] == Kind.MEMORY
    assert _failure(RuntimeError("no kernel"), JOB)["kind"] == Kind.ERROR


def test_of_a_plugin_that_raised_the_log_says_where():
    def denoise(x, sigma, condition):
        return 1 / 0

    with pytest.raises(PluginError) as caught:
        ContractDenoiser(denoise, "plugin 'bad' (dist-bad 1.2)")(torch.ones(1, 1, 2, 2, 2), 1.0, _condition())
    found = _failure(caught.value, JOB)
    assert found["kind"] == Kind.REFUSED
    assert "ZeroDivisionError" in found["cause"]
    assert "in denoise" in found["log"]
    assert _failure(PluginError("declares nothing"), JOB)["log"] == ""


def _condition() -> Condition:
    return Condition(torch.ones(1, 1, 2, 2, 2), 0.1)


# --- what is tried where memory does not suffice ----------------------------------------------------------

HUNGRY = """
import json, resource, sys
from pathlib import Path
def taken():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[0])
before = taken()
for line in sys.stdin:
    job = json.loads(line)
    restore, out = job["restore"], Path(job["out"])
    with (Path(job["root"]).parent / "runs.txt").open("a") as stream:
        stream.write(json.dumps({"tile": restore["tile"], "max": restore["max_memory"]}) + "\\n")
    resource.setrlimit(resource.RLIMIT_AS, (before + restore["max_memory"], resource.RLIM_INFINITY))
    answer = {"case": job["case"], "event": "done", "facts": {}, "endings": [".json", ".nii.gz"]}
    try:
        work = bytearray(NEED)
    except MemoryError:
        answer = {**answer, "event": "failed", "kind": "memory", "cause": "memory did not suffice", "log": ""}
    else:
        out.with_name(out.name + ".nii.gz").write_bytes(b"x")
        out.with_name(out.name + ".json").write_text("{}")
    print(json.dumps(answer), flush=True)
"""
"""A worker that takes what it says, of a system that gives no more than `max_memory`."""


def starve(tmp_path, need: str, workers) -> tuple[Entry, list[dict[str, int]]]:
    """Restore a case that needs so many bytes; return its entry, and with what it was tried."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii").write_bytes(b"a")
    (tmp_path / "worker.py").write_text(HUNGRY.replace("NEED", need))
    settings = Settings(restore={"max_memory": 200_000_000})
    cases = find_cases(tmp_path / "in").cases
    (entry,) = run_batch(cases, tmp_path / "out", settings, workers((str(tmp_path / "worker.py"),))).values()
    return entry, [json.loads(line) for line in (tmp_path / "runs.txt").read_text().splitlines()]


needs_limit = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux limits address space")


@needs_limit
def test_a_case_that_runs_out_of_memory_is_tried_with_smaller_tiles(tmp_path):
    entry, runs = starve(
        tmp_path, "80 * (restore['tile'] or 512) ** 3", lambda module: [Worker((sys.executable, *module))]
    )
    assert (entry.state, entry.attempts) == (State.DONE, 3)
    assert [run["tile"] for run in runs] == [None, 160, 96]


@pytest.mark.usefixtures("dask_workers_are_loaded_once")
@needs_limit
def test_a_case_that_needs_more_than_its_share_has_all_of_it_alone(tmp_path):
    dask = pytest.importorskip("medrestore.batch.workers.dask")
    pytest.importorskip("distributed", reason="the extra `batch` is not installed")
    entry, runs = starve(
        tmp_path, "150_000_000", lambda module: dask.local_workers(module, 2, memory=200_000_000)
    )
    assert (entry.state, entry.attempts) == (State.DONE, 5)
    assert [run["max"] for run in runs] == [100_000_000] * 4 + [200_000_000]


@needs_limit
def test_what_needs_more_than_there_is_fails_in_the_end(tmp_path):
    entry, runs = starve(tmp_path, "10 ** 10", lambda module: [Worker((sys.executable, *module))])
    assert (entry.state, entry.attempts, entry.cause) == (State.FAILED, 4, "memory did not suffice")
    assert [run["tile"] for run in runs] == [None, 160, 96, 64]


PLANNER = Failure(Kind.REFUSED, f"8 x 8 x 8 voxels take 2.00 GB, and 1.00 {REFUSED} (--max-memory)")


@pytest.mark.parametrize(
    ("last", "failure", "crowd", "then"),
    [
        (Attempt(None), PLANNER, 2, Attempt(None, True, 2)),  # it has tried all tiles
        (Attempt(None), PLANNER, 1, None),
        (Attempt(None, True, 2), PLANNER, 2, None),
        (Attempt(100), PLANNER, 1, Attempt(96, False, 2)),
        (Attempt(64, False, 4), PLANNER, 2, Attempt(64, True, 5)),
        (Attempt(64), Failure(Kind.MEMORY, ""), 1, None),
        (Attempt(None, False, 2), Failure(Kind.CRASH, ""), 2, None),
        (Attempt(96, False, 1), Failure(Kind.CRASH, ""), 2, Attempt(96, False, 2)),
        (Attempt(None), Failure(Kind.REFUSED, "no scan"), 2, None),
        (Attempt(None), Failure(Kind.TIME, ""), 2, None),
    ],
)
def test_what_is_tried_next(last, failure, crowd, then):
    found = next_attempt(last, failure, crowd=crowd, tries=2)
    assert (None if found is None else found[0]) == then


@pytest.mark.slow
def test_what_the_planner_refuses_a_worker_is_restored_alone(tmp_path, monkeypatch, capsys):
    """In the environment of this test, which a process that is forked would not have."""
    pytest.importorskip("distributed", reason="the extra `batch` is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "a_T1w.nii.gz", noisy(phantom(24), 0.05))
    asked = ("batch", tmp_path / "in", "-o", tmp_path / "out", "--model", model_folder(tmp_path / "tiny"))
    cli = CommandLine(monkeypatch, capsys)
    # A process that restores has more than 250 MB before it has a scan, and less than 1000.
    status, _, said = cli(*asked, "--workers", 4, "--max-memory", "1GB")
    assert status == 0 and "tried again with no other case beside it" in " ".join(said.split())
