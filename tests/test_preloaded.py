"""Programs that tests start are processes of their own, whether they are forked or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded import PROGRAMS, Cold

CLI = [sys.executable, *next(how for how, module in PROGRAMS.items() if module == "medrestore.cli")]
WORKER = [sys.executable, "-m", "medrestore.processes", "medrestore.batch.workers.main"]


def start(command, **options):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, **pipes, **options)


def run(*words, **options):
    return subprocess.run([*CLI, *words], capture_output=True, text=True, check=False, **options)


def parts(pid):
    """The parent, the group and the session of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:4]]


def is_forked(pid):
    return b"preloaded.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("session", [False, True])
def test_it_is_forked_and_is_a_child_in_its_own_or_our_session(session):
    with start(WORKER, start_new_session=session) as worker:
        assert is_forked(worker.pid)
        ours = [worker.pid, worker.pid] if session else [os.getpgid(0), os.getsid(0)]
        assert parts(worker.pid) == [os.getpid(), *ours]
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        assert worker.communicate() == (b"", b"")  # nothing holds its streams


def test_streams_folder_arguments_and_status_are_those_of_the_program(tmp_path):
    (tmp_path / "scans").mkdir()
    said = [run("batch", "scans", "-o", "out", cwd=tmp_path) for _ in range(2)]
    assert [(one.returncode, one.stdout) for one in said] == 2 * [(2, "")]
    assert {"no scan to restore" in one.stderr for one in said} == {True}


def test_plugins_of_a_program_are_those_of_its_environment(tmp_path):
    dist = tmp_path / "seen_by_one-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: seen-by-one\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[medrestore]\nseen_by_one = seen_by_one\n")
    (tmp_path / "seen_by_one.py").write_text("")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert "seen_by_one" in run("plugins", env={**os.environ, "PYTHONPATH": paths}).stdout
    assert "seen_by_one" not in run("plugins").stdout


@pytest.mark.parametrize("how", ["variable", "Cold"])
def test_a_program_that_is_looked_at_is_started_with_python(how):
    environment = {**os.environ, "MARK": "one"} if how == "variable" else None
    popen = Cold if how == "Cold" else subprocess.Popen
    with popen(WORKER, stdin=subprocess.PIPE, env=environment) as worker:
        assert not is_forked(worker.pid)
        worker.kill()
