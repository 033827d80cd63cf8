"""A node that is asked to end while it restores: by systemd, by a terminal, twice. Nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from dicom_series import write_series
from node_program import Program, free_ports, until
from tiny import model_folder

pytest.importorskip("pynetdicom")
from pynetdicom import AE, evt

from medrestore.node import Destination, State
from medrestore.node.transfer import send
from medrestore.processes import end, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc"),
]

ROUTES = """
[[peer]]
ae_title = "SENDER"
address = "127.0.0.1"

[destination.pacs]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}

[[route]]
modality = "MR"
model = "{model}"
destination = "pacs"
options = {{ force = true, device = "cpu" }}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


@pytest.fixture
def node(tmp_path, model):
    port, archive_port = free_ports(2)
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context("1.2.840.10008.5.1.4.1.1.4")
    archive = entity.start_server(
        ("127.0.0.1", archive_port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)]
    )
    (tmp_path / "routes.toml").write_text(ROUTES.format(port=archive_port, model=model))
    program = Program(tmp_path, port)
    program.start(cold=True)
    yield program
    with suppress(ProcessLookupError):
        os.killpg(program.process.pid, signal.SIGKILL)
    program.process.wait()
    archive.shutdown()


def begin(node, tmp_path):
    """Send a series, and wait until it is being restored."""

    def change(index, data):
        data.Rows = data.Columns = 16
        data.add_new("PixelData", "OW", bytes(2 * 16 * 16 - 2) + b"\1\2")

    write_series(tmp_path / "scan", change=change)
    files = sorted(map(str, (tmp_path / "scan").iterdir()))
    assert send(Destination("127.0.0.1", node.port, "MEDRESTORE"), files, "SENDER") == ""
    until(node.restoring)


# Every two of the three together: all eight would show no more, and take two minutes.
@pytest.mark.parametrize(
    ("number", "how", "later"),
    [
        (signal.SIGTERM, "ask_group", 0.0),
        (signal.SIGTERM, "ask_all", 1.5),
        (signal.SIGINT, "ask_group", 1.5),
        (signal.SIGINT, "ask_all", 0.0),
    ],
    ids=["TERM-group-0.0", "TERM-all-1.5", "INT-group-1.5", "INT-all-0.0"],
)
def test_a_series_that_is_restored_when_the_node_is_asked_to_end_is_restored_later(
    node, tmp_path, number, how, later
):
    begin(node, tmp_path)
    time.sleep(later)  # the process that restores has just begun, or is at work
    children = node.children()
    assert getattr(node, how)(number) == 0
    assert node.states()[0] in {State.QUEUED, State.RESTORED, State.SENT}
    assert "failed" not in node.log()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 20)
    node.start()
    until(lambda: node.states() == [State.SENT])


def test_being_asked_twice_is_an_orderly_stop_as_well(node, tmp_path):
    begin(node, tmp_path)
    for _ in range(5):
        os.kill(node.process.pid, signal.SIGINT)
        time.sleep(0.02)
    assert node.process.wait(60) == 0
    assert "Traceback" not in node.log()
    assert node.states()[0] in {State.QUEUED, State.RESTORED, State.SENT}


def test_a_child_that_somebody_ended_is_no_failure_of_the_series(node, tmp_path):
    begin(node, tmp_path)
    for pid in node.children():  # before it is deaf to this
        os.kill(pid, signal.SIGTERM)
    until(lambda: node.states() == [State.SENT])
    assert "failed" not in node.log()


def test_a_process_is_ended_with_what_it_has_started():
    program = start(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE)
    program.stdout.readline()
    assert os.getpgid(program.pid) == program.pid != os.getpgid(0)
    end(program)
    assert program.communicate(timeout=10) == (b"", None)  # nobody holds the pipe
    end(program)
