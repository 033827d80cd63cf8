"""Whether the system ended a process for want of memory, as its control group tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrestore.batch.lock import _clear
from medrestore.engine.memory import out_of_memory_kills


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
