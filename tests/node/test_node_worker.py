"""The worker where something comes between: an image, a full disk, other routes, a stop, no process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from node_program import until

pytest.importorskip("pynetdicom")

from medrestore.errors import OutputError
from medrestore.node import Destination, Ledger, Node, NodeOptions, Peer, Route, Routes, State, service
from medrestore.node import worker as worker_module
from medrestore.node.instance import Instance
from medrestore.node.spool import Spool
from medrestore.node.worker import Worker
from medrestore.processes import start

IMAGE = Instance("", "1.2", "1.2.1", "MR", "head", False, b"image", "digest")
ROUTE = Route("archive", "MR")


def routes_of(*routes: Route) -> Routes:
    return Routes((Peer("SENDER", "127.0.0.1"),), {"archive": Destination("127.0.0.1", 1, "ARCHIVE")}, routes)


@pytest.fixture
def options(tmp_path):
    return NodeOptions(port=0, host="127.0.0.1", spool=tmp_path / "spool", rest=0.01, retry=0.1)


class Bench:
    """A worker with a spool and a ledger, and a series of one image."""

    def __init__(self, options: NodeOptions, *routes: Route) -> None:
        self.spool, self.ledger = Spool(options.spool, 1 << 20), Ledger(options.spool / "ledger.sqlite")
        self.worker = Worker(options, routes_of(*routes), self.spool, self.ledger, send=lambda *_: "away")
        self.come()
        self.ledger.released("a")
        time.sleep(0.05)

    def come(self) -> None:
        self.spool.store(IMAGE.series, IMAGE.sop, IMAGE.content)
        self.ledger.stored(IMAGE, "a")

    def result(self) -> None:
        self.spool.result(IMAGE.series).mkdir()
        (self.spool.result(IMAGE.series) / "IM1.dcm").write_bytes(b"result")

    @property
    def series(self):
        return self.ledger.get(IMAGE.series)


@pytest.fixture
def bench(options):
    made = []

    def build(*routes: Route, **changes):
        made.append(Bench(replace(options, **changes), *routes))
        return made[-1]

    yield build
    for one in made:
        one.ledger.close()


@pytest.mark.parametrize("routes", [(ROUTE,), ()], ids=["route", "no route"])
def test_a_series_to_which_an_image_has_just_come_is_not_closed(bench, routes, monkeypatch):
    made = bench(*routes)
    rested = made.ledger.rested

    def late(*waits):
        found = rested(*waits)
        made.come()
        return found

    monkeypatch.setattr(made.ledger, "rested", late)
    made.worker.step()
    assert made.series.state is State.RECEIVING
    assert made.spool.has(IMAGE.series, IMAGE.sop)


def test_a_result_whose_route_is_gone_is_kept_for_the_next_start(bench):
    made = bench()
    made.result()
    made.ledger.move(IMAGE.series, State.RESTORED)
    made.worker.step()
    assert (made.series.state, made.series.reason) == (State.RESTORED, "its route is gone")
    assert not made.worker.step()
    assert list(made.spool.result(IMAGE.series).iterdir())
    made.ledger.recover()
    assert made.ledger.due(State.RESTORED)


def test_a_series_whose_route_is_gone_before_it_was_restored_fails_and_is_kept(bench):
    made = bench()
    made.ledger.move(IMAGE.series, State.QUEUED)
    made.worker.step()
    assert (made.series.state, made.series.reason) == (State.FAILED, "its route is gone")
    assert made.spool.has(IMAGE.series, IMAGE.sop)


def test_a_process_that_does_not_start_is_no_end_of_the_worker(bench, monkeypatch):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(worker_module, "start_child", refuse)
    monkeypatch.setattr(worker_module, "_MOMENT", 0.01)
    made = bench(ROUTE)
    made.worker.step()
    assert (made.series.state, made.series.attempts) == (State.QUEUED, 1)
    for _ in range(3):
        made.worker.step()
    assert made.series.state is State.FAILED


def test_a_process_that_cannot_be_talked_to_is_ended(bench, monkeypatch):
    started = []

    def sleeper():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(start([sys.executable, "-c", "import time; time.sleep(60)"], **pipes))
        return started[-1]

    monkeypatch.setattr(worker_module, "start_child", sleeper)
    monkeypatch.setattr(worker_module.json, "dumps", lambda _: 1 / 0)
    made = bench(ROUTE)
    made.worker.step()
    assert made.series.state is State.FAILED and "ZeroDivisionError" in made.series.reason
    assert started[0].returncode is not None


def test_a_process_that_is_interrupted_as_it_starts_is_no_failure_of_the_series(bench, monkeypatch):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    monkeypatch.setattr(worker_module, "start_child", lambda: start(["sh", "-c", "exit 1"], **pipes))
    monkeypatch.setattr(worker_module, "_MOMENT", 0.01)
    made = bench(ROUTE)
    made.worker.step()
    assert (made.series.state, made.series.attempts) == (State.QUEUED, 1)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), OSError(28, "full")])
def test_a_full_disk_does_not_end_the_node(options, monkeypatch, caplog, error):
    step, fails = Worker.step, [error, error]

    def full(worker):
        if fails:
            raise fails.pop()
        return step(worker)

    monkeypatch.setattr(Worker, "step", full)
    monkeypatch.setattr(service, "_PAUSE", 0.05)
    with Node(options, routes_of()) as node:
        node.spool.store(IMAGE.series, IMAGE.sop, IMAGE.content)
        node.ledger.stored(IMAGE, "a")
        node.ledger.released("a")
        until(lambda: node.ledger.get(IMAGE.series).state is State.IGNORED, 20)
        assert node.is_alive
    assert caplog.text.count("the spool or its ledger cannot be used") == 2


def test_a_stop_does_not_wait_for_the_end_of_a_delivery(options, monkeypatch):
    sending = []

    def send(destination, files, *, is_stopped, **_):
        sending.append(files)
        while not is_stopped():
            time.sleep(0.02)
        return "asked to stop"

    monkeypatch.setattr(service, "send", send)
    made = Bench(options, ROUTE)
    made.result()
    made.ledger.move(IMAGE.series, State.RESTORED)
    made.ledger.close()
    with Node(options, routes_of(ROUTE)) as node:
        until(lambda: bool(sending), 20)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    with Ledger(options.spool / "ledger.sqlite")._change() as base:
        assert base.execute("select state, attempts from series").fetchall() == [("restored", 0)]
    assert not node.is_alive


def test_a_ledger_that_is_damaged_is_said_and_the_spool_is_free_again(options):
    options.spool.mkdir()
    (options.spool / "ledger.sqlite").write_bytes(b"junk" * 500)
    for _ in range(2):
        with pytest.raises(
            OutputError, match=r"ledger\.sqlite: cannot be the ledger \(file is not a database"
        ):
            Node(options, routes_of())
