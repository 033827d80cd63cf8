"""The parts of a batch: the ledger, the lock, shards, causes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from medrestore.batch import Entry, Ledger, Settings, Shard, State
from medrestore.batch.ledger import FOLDER
from medrestore.batch.lock import hold, refuse_if_held
from medrestore.batch.roles import ExclusiveGate
from medrestore.batch.workers.failures import Kind, ended, smaller_tile
from medrestore.errors import ConfigError, OutputError

KEY = {"input": "i", "model": "m", "settings": "s"}


# --- the ledger ------------------------------------------------------------------------------------------


def test_the_ledger_is_read_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(Entry("aa", State.STARTED, KEY))
    assert ledger.last("aa") is None and not ledger.whose("aa", "", "") and ledger.whose("bb", "", "")
    ledger.add(Entry("aa", State.FAILED, KEY, cause="naïve"))
    ledger.add(Entry("aa", State.DONE, KEY, files={".json": "1"}, facts={"seconds": 2.5}))
    ledger.close()
    again = Ledger(tmp_path)
    assert again.last("aa") == ledger.last("aa")
    assert again.last("aa").files == {".json": "1"}


def test_a_line_that_was_cut_off_is_no_line_and_spoils_none(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(Entry("aa", State.DONE, KEY))
    ledger.close()
    path = tmp_path / FOLDER / "ledger-whole.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:40].replace(b"aa", b"bb"))
    again = Ledger(tmp_path)
    assert again.last("aa") is not None and again.last("bb") is None
    again.add(Entry("cc", State.DONE, KEY))
    again.close()
    assert Ledger(tmp_path).last("cc") is not None


@pytest.mark.parametrize("cause", ["one\u2028two", "M\udcfcller", "three\x85four"])
def test_odd_characters_of_a_cause_are_read_back(tmp_path, cause):
    ledger = Ledger(tmp_path)
    ledger.add(Entry("a", State.FAILED, KEY, cause=cause))
    ledger.close()
    assert Ledger(tmp_path).last("a").cause == cause


def test_shards_read_the_ledgers_of_each_other(tmp_path):
    one = Ledger(tmp_path, "1-of-2")
    one.add(Entry("aa", State.DONE, KEY))
    assert Ledger(tmp_path, "2-of-2").last("aa") is not None


def test_a_ledger_that_cannot_be_written_stops_before_anything(tmp_path):
    (tmp_path / FOLDER).write_text("a file, no folder")
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path)


# --- the lock --------------------------------------------------------------------------------------------

HOLD = (
    "import sys, time; from pathlib import Path; from medrestore.batch.lock import hold\n"
    "with hold(Path(sys.argv[1]), 'whole'):\n    print('held', flush=True); time.sleep(60)"
)


def test_the_second_run_is_told_who_holds_the_folder_and_a_dead_one_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"process {process.pid} on "), hold(tmp_path, "whole"):
            pass
        with hold(tmp_path, "1-of-2"):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with hold(tmp_path, "whole"):
        pass
    assert not list((tmp_path / FOLDER).iterdir())


def test_another_number_of_parts_is_another_run_on_the_same_cases(tmp_path):
    with hold(tmp_path, "1-of-2"), hold(tmp_path, "report"):
        for number, count in ((2, 2), (1, 2)):
            refuse_if_held(tmp_path, Shard(number, count).overlaps)
        for number, count in ((1, 1), (1, 3)):
            with pytest.raises(OutputError, match=f"process {os.getpid()} on "):
                refuse_if_held(tmp_path, Shard(number, count).overlaps)
    refuse_if_held(tmp_path, Shard().overlaps)


def test_a_lock_can_be_waited_for(tmp_path):
    with hold(tmp_path, "report"):
        with pytest.raises(OutputError, match=f"process {os.getpid()} on "), hold(tmp_path, "report", 0.3):
            pass
        over = threading.Timer(0.3, (tmp_path / FOLDER / "lock-report.json").unlink)
        over.start()
        with hold(tmp_path, "report", wait=60):
            assert over.finished.is_set()


def test_a_lock_that_another_run_has_taken_over_is_not_removed(tmp_path):
    lock = tmp_path / FOLDER / "lock-whole.json"
    with hold(tmp_path, "whole"):
        lock.unlink()
        lock.write_text("that of another")
    assert lock.read_text() == "that of another"


def test_processes_of_one_number_take_turns(tmp_path):
    held, errors = [], []

    def work():
        try:
            with hold(tmp_path, "report", wait=60):
                held.append(1)
                time.sleep(0.01)
                held.append(-1)
        except OutputError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert held == [1, -1] * 4


def test_a_file_system_without_hard_links_has_locks_too(tmp_path, monkeypatch):
    def refuse(*names):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    again, held = hold(tmp_path, "whole"), pytest.raises(OutputError, match=f"process {os.getpid()} on ")
    with hold(tmp_path, "whole"), held, again:
        pass
    assert not list((tmp_path / FOLDER).iterdir())


def test_the_lock_of_another_machine_is_respected(tmp_path):
    (tmp_path / FOLDER).mkdir()
    lock = {"host": "elsewhere", "pid": os.getpid(), "born": "1", "since": time.time()}
    (tmp_path / FOLDER / "lock-whole.json").write_text(json.dumps(lock))
    path = tmp_path / FOLDER / "lock-whole.json"
    with pytest.raises(OutputError, match="on elsewhere works on it since"), hold(tmp_path, "whole"):
        pass
    os.utime(path, (time.time() - 590, time.time() - 590))
    with pytest.raises(OutputError, match="on elsewhere"), hold(tmp_path, "whole"):
        pass
    os.utime(path, (time.time() - 610, time.time() - 610))  # its holder would have touched it
    with hold(tmp_path, "whole"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


# --- shards, settings, causes ----------------------------------------------------------------------------


def test_shards_share_the_cases_out():
    ids = [f"{number * 7919:012x}" for number in range(200)]
    parts = [[one for one in ids if Shard(number, 3).has(one)] for number in (1, 2, 3)]
    assert sorted(one for part in parts for one in part) == sorted(ids) and all(
        len(part) > 40 for part in parts
    )
    for text in ("0/2", "3/2", "1", "a/b", "1/0"):
        with pytest.raises(ConfigError, match="--shard"):
            Shard.parse(text)


def test_the_key_of_a_result_is_made_of_what_changes_it():
    base = Settings(restore={"seed": 0, "tile": None, "device": "cpu"})
    assert base.sha256() == Settings(restore={"seed": 0, "tile": 64, "device": "cuda"}).sha256()
    assert base.sha256() != Settings(restore={"seed": 1, "tile": None, "device": "cpu"}).sha256()
    assert base.sha256() != Settings(restore=base.restore, dtype="int16").sha256()
    assert base.sha256() != Settings(restore=base.restore, policy={"on_gap": "resample"}).sha256()


@pytest.mark.parametrize(
    ("status", "memory", "kind", "words"),
    [
        (7, False, Kind.CRASH, "exit code 7"),
        (-signal.SIGSEGV, False, Kind.CRASH, "SIGSEGV"),
        (-signal.SIGKILL, False, Kind.MEMORY, "most likely for want of memory"),
        (-signal.SIGKILL, True, Kind.MEMORY, "the system ended the worker for want of memory"),
    ],
)
def test_the_end_of_a_process_in_words(status, memory, kind, words):
    found, text = ended(status, 2_500_000_000, memory)
    assert found is kind and words in text and "2.5 GB" in text


def test_tiles_get_smaller_until_there_are_none():
    assert [smaller_tile(tile) for tile in (None, 160, 100, 64)] == [160, 96, 96, None]


def test_one_is_alone_in_the_room_or_all_are_together():
    room, inside, seen = ExclusiveGate(), [], []

    def work(alone: bool) -> None:
        with room.enter(alone=alone):
            inside.append(alone)
            time.sleep(0.02)
            seen.append((alone, len(inside)))
            inside.remove(alone)

    threads = [threading.Thread(target=work, args=(index % 3 == 0,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12 and all(count == 1 for alone, count in seen if alone)
