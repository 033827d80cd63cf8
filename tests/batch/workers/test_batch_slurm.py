"""Jobs of SLURM as workers: the scheduler is real, and so are the jobs; only the queue is a script."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from medrestore.batch import Settings, find_cases, run_batch
from medrestore.errors import ConfigError

SBATCH = """#!/bin/sh
# Runs what was to be queued, and prints the number of its process for that of the job.
for script; do :; done
cp "$script" "$(dirname "$0")/job.sh"  # as SLURM does: it is removed when this ends
setsid sh "$(dirname "$0")/job.sh" > "$(dirname "$0")/job.log" 2>&1 < /dev/null &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -TERM "-$job" 2> /dev/null; echo "$job" >> "$(dirname "$0")/cancelled"; done
exit 0
"""
WORKER = """
import json, sys
from pathlib import Path
for line in sys.stdin:
    job = json.loads(line)
    out = Path(job["out"])
    out.with_name(out.name + ".nii.gz").write_bytes((Path(job["root"]) / job["source"]).read_bytes()[::-1])
    out.with_name(out.name + ".json").write_text("{}")
    print(json.dumps({"event": "done", "facts": {}, "endings": [".json", ".nii.gz"]}), flush=True)
"""

jobqueue = pytest.importorskip("dask_jobqueue", reason="the extra `slurm` is not installed")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A folder with commands that are called like those of SLURM, first in the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_job_that_is_not_described_is_refused(queue):
    from medrestore.batch.workers.dask import cluster_workers

    with pytest.raises(ConfigError, match=r"set cores and memory below jobqueue\.slurm"):
        cluster_workers("slurm", ("-c", ""), None)


@pytest.mark.slow
def test_jobs_of_slurm_restore_and_are_cancelled_when_all_is_done(queue, tmp_path):
    import dask

    from medrestore.batch.workers.dask import cluster_workers

    scans = tmp_path / "in"
    scans.mkdir()
    for name in ("a", "b", "c"):
        (scans / f"{name}.nii").write_bytes(name.encode() * 50)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    with dask.config.set(
        {
            "jobqueue.slurm.cores": 4,
            "jobqueue.slurm.memory": "1GB",
            "jobqueue.slurm.python": sys.executable,
            "jobqueue.slurm.scheduler-options": {"dashboard_address": ":0", "host": "127.0.0.1"},
        }
    ):
        places = cluster_workers("slurm", (str(script),), None, jobs=1)
        assert len(places) == 1  # four cores for one case, not four cases
        entries = run_batch(find_cases(scans).cases, tmp_path / "out", Settings(), places)
    assert [str(entry.state) for entry in entries.values()] == ["done"] * 3
    assert (tmp_path / "out" / "c_restored.nii.gz").read_bytes() == b"c" * 50
    (job,) = (queue / "cancelled").read_text().split()
    deadline = time.monotonic() + 60
    while running(int(job)):
        assert time.monotonic() < deadline, "a job outlives its batch"
        time.sleep(0.2)


def running(job: int) -> bool:
    """Whether a process of that session is there still, and no zombie."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(session) == job and state != "Z":
            return True
    return False
