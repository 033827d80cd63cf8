"""Programs that tests start are processes of their own, whether they are forked or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded import PROGRAMS

CLI = [sys.executable, *next(how for how, module in PROGRAMS.items() if module == "medrestore.cli")]
WORKER = [sys.executable, "-m", "medrestore.processes", "medrestore.batch.workers.main"]


def start(command, **options):
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen(command, **pipes, **options)


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
    said = [
        subprocess.run(
            [*CLI, "batch", "scans", "-o", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        for _ in range(2)
    ]
    assert [(one.returncode, one.stdout) for one in said] == 2 * [(2, "")]
    assert "no scan to restore" in said[0].stderr


def test_plugins_of_a_program_are_those_of_its_environment(tmp_path):
    named = {
        **os.environ,
        "MEDRESTORE_PLUGINS": "",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    dist = tmp_path / "seen_by_one-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: seen-by-one\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[medrestore]\nseen_by_one = seen_by_one\n")
    (tmp_path / "seen_by_one.py").write_text("")
    run = lambda **o: (
        subprocess.run([*CLI, "plugins"], capture_output=True, text=True, check=True, **o).stdout
    )
    assert "seen_by_one" in run(env=named)
    assert "seen_by_one" not in run()
