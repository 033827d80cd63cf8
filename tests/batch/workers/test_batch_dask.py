"""Several workers through Dask: on this machine and on a cluster, killed, interrupted, and gone.

The processes are real; what restores is a few lines of Python, so that what it does is certain. The last
tests run the command as a user would.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import CommandLine, batch_command, model_folder, phantom, save, scan_folder

from medrestore.batch import BatchOptions, Listener, Settings, State, find_cases, run_batch
from medrestore.batch.ledger import FOLDER
from medrestore.batch.workers import dask
from medrestore.batch.workers.dask_task import Order
from medrestore.errors import OutputError

distributed = pytest.importorskip("dask.distributed", reason="the extra `batch` is not installed")

pytestmark = pytest.mark.usefixtures("dask_workers_are_loaded_once")

WORKER = """
import json, os, signal, sys, time
from pathlib import Path
def say(**event):
    print(json.dumps({"case": job["case"], **event}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    name, restore = Path(job["source"]).name, job["restore"]
    log = Path(job["root"]).parent / "runs.txt"
    with log.open("a") as stream:
        stream.write(json.dumps({
            "name": name, "pid": os.getpid(), "dask": os.getppid(),
            "threads": os.environ.get("OMP_NUM_THREADS"), **restore
        }) + "\\n")
    say(event="stage", stage="restore", share=0.5)
    out, tries = Path(job["out"]), log.read_text().count(name)
    if name.startswith("orphan") and tries == 1:
        out.with_name(f".0123abcd.{out.name}.nii.gz").write_text("half")
        os.kill(os.getppid(), signal.SIGKILL)
        sys.exit(sys.stdin.read())  # as the real one, it ends with its input
    if name.startswith("killed") and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("exit"):
        os._exit(7)
    if name.startswith("hang"):
        time.sleep(600)
    if name.startswith("vast") and restore.get("max_memory") != 6000:
        say(event="failed", kind="memory", cause="memory did not suffice", log="")
        continue
    if name.startswith("slow"):
        time.sleep(0.5)
    voxels = (Path(job["root"]) / job["source"]).read_bytes()
    out.with_name(out.name + ".nii.gz").write_bytes(voxels[::-1])
    out.with_name(out.name + ".json").write_text("{}")
    say(event="done", facts={}, endings=[".json", ".nii.gz"])
"""


class Heard(Listener):
    def __init__(self) -> None:
        self.stages, self.tries = set(), []

    def stage(self, case, stage, share):
        self.stages.add((case.source.name, stage, share))

    def retried(self, case, failure, how):
        self.tries.append((case.source.name, failure.cause, how))


class Bench:
    """A folder of scans of these names, and what restores them."""

    def __init__(self, root: Path) -> None:
        self.scans, self.out = root / "in", root / "out"
        self.scans.mkdir()
        self.module = (str(root / "worker.py"),)
        (root / "worker.py").write_text(WORKER)
        self.heard = Heard()

    def run(self, workers, *names, settings=None, **options):
        for name in names:
            (self.scans / f"{name}.nii").write_bytes(name.encode() * 50)
        cases = find_cases(self.scans).cases
        entries = run_batch(
            cases, self.out, settings or Settings(), workers, BatchOptions(**options), self.heard
        )
        return {case.source.stem: entries[case.id] for case in cases}

    def runs(self) -> list[dict[str, object]]:
        log = self.scans.parent / "runs.txt"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def settle(pids: set[int]) -> None:
    """Wait until these processes have gone."""
    deadline = time.monotonic() + 60
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, f"{left} outlive the batch"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_of_this_machine_share_cases_and_threads(bench):
    names = ["slow1", "slow2", "slow3", "exit", "z"]
    entries = bench.run(dask.local_workers(bench.module, 2, devices=("cuda:0", "cuda:1")), *names)
    assert {name for name, entry in entries.items() if entry.state is State.DONE} == set(names) - {"exit"}
    assert "exit code 7" in entries["exit"].cause and entries["exit"].stage == "restore"
    assert (bench.out / "z_restored.nii.gz").read_bytes() == b"z" * 50
    runs = bench.runs()
    assert {run["threads"] for run in runs} == {str(max(1, len(os.sched_getaffinity(0)) // 2))}
    homes = {(run["dask"], run["device"]) for run in runs}
    assert len(homes) == 2 and {device for _, device in homes} == {"cuda:0", "cuda:1"}
    # One process for each worker, but for the one that ended twice.
    assert len({run["pid"] for run in runs}) == 4
    assert ("z.nii", "restore", 0.5) in bench.heard.stages
    settle({run[who] for run in runs for who in ("pid", "dask")})


def test_a_dask_worker_that_is_killed_costs_one_try_and_leaves_nothing(bench):
    entries = bench.run(dask.local_workers(bench.module, 2), "orphan", "a", "b", "killed")
    assert all(entry.state is State.DONE for entry in entries.values())
    assert [entries[name].attempts for name in ("orphan", "killed", "a", "b")] == [2, 2, 1, 1]
    assert {name: how for name, _, how in bench.heard.tries} == {
        "orphan.nii": "as it was",
        "killed.nii": "with tiles of 160 voxels",
    }
    assert not [path for path in bench.out.rglob(".*") if path.name != FOLDER]
    settle({run[who] for run in bench.runs() for who in ("pid", "dask")})


def test_nobody_else_can_reach_the_workers_of_this_machine(bench):
    workers = dask.local_workers(bench.module, 1)
    try:
        workers[0]._cluster.enter("", None)
        cluster = workers[0]._cluster._cluster
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        port = int(cluster.scheduler_address.rpartition(":")[2])
        wire = trusting.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        with wire, pytest.raises(ssl.SSLError, match="certificate"):
            wire.recv(1)
        page = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/info/main/workers.html"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page, timeout=30)
    finally:
        workers[0].close()


def test_memory_is_shared_but_by_the_case_that_is_alone(bench):
    workers = dask.local_workers(bench.module, 2, memory=6000)
    entries = bench.run(workers, "vast", "a", settings=Settings(restore={"max_memory": 6000}))
    assert entries["vast"].state is State.DONE and entries["a"].state is State.DONE
    given = [run["max_memory"] for run in bench.runs() if run["name"] == "vast.nii"]
    assert given == [3000, 3000, 3000, 3000, 6000]


def test_a_place_whose_case_has_ended_takes_nothing_back():
    class Ended:
        def result(self):
            return "answer"

        def cancel(self, *, force):
            raise AssertionError("a client that may be closed is asked to cancel what has ended")

    class Client:
        def submit(self, *_, **__):
            return Ended()

        def subscribe_topic(self, *_):
            pass

    (place,) = dask._Cluster(lambda: (Client(), None)).places(1, dict)
    assert place.run({"case": "a"}) == "answer"
    place.stop()


def test_several_workers_need_dask(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(dask, "find_spec", lambda _: None)
    save(tmp_path / "a_T1w.nii", phantom(8))
    asked = ("batch", tmp_path, "-o", tmp_path / "out", "--model", model_folder(tmp_path / "tiny"))
    cli = CommandLine(monkeypatch, capsys)
    status, _, errors = cli(*asked, "--workers", 2)
    assert status == 2 and "pip install 'medrestore[batch]'" in " ".join(errors.split())
    assert not (tmp_path / "out").exists()


def test_workers_that_do_not_start_stop_the_batch(bench, monkeypatch):
    def fail(count: int) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(dask, "_start_local", fail)
    with pytest.raises(OutputError, match=r"could not be started \(OSError: no more processes\)"):
        bench.run(dask.local_workers(bench.module, 2), "a", "b")


def test_nothing_is_started_where_all_is_done(bench, monkeypatch):
    bench.run(dask.local_workers(bench.module, 2), "a")
    monkeypatch.setattr(dask, "_start_local", lambda _: pytest.fail("started"))
    bench.run(dask.local_workers(bench.module, 2), "a")


# --- a cluster that is there ------------------------------------------------------------------------------


@pytest.fixture
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp://"
    ) as found:
        yield found


def test_workers_of_a_cluster_and_what_dask_is_told(bench, cluster, caplog):
    bench.scans = bench.scans.rename(bench.scans.with_name("Zq7Canary"))
    places = dask.cluster_workers(cluster.scheduler_address, bench.module, None)
    assert len(places) == 2
    keys, real = [], distributed.Client.submit

    def submit(self, task, order, *, key, **options):
        keys.append((key, repr(order)))
        return real(self, task, order, key=key, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed.Client, "submit", submit)
        entries = bench.run(places, "Zq7Canary_a", "exit", "z")
    assert sorted(str(entry.state) for entry in entries.values()) == ["done", "done", "failed"]
    ids = {case.id for case in find_cases(bench.scans).cases}
    assert {key.split("-")[1] for key, _ in keys} == ids == {said.split()[1] for _, said in keys}
    assert "Canary" not in caplog.text + str(keys) + str(cluster.scheduler.get_events("medrestore"))


def test_what_goes_wrong_on_a_dask_worker_quotes_nothing(bench, cluster, caplog):
    places = dask.cluster_workers(cluster.scheduler_address, (), None)
    for place in places:
        place._order = lambda job: Order({"case": job["case"], "Canary": 1}, ())
    entries = bench.run(places, "a")
    assert entries["a"].cause == "the Dask worker could not start the case (KeyError)"
    assert "Canary" not in caplog.text


def test_a_case_that_nobody_wants_any_more_is_ended(bench, cluster):
    places = dask.cluster_workers(cluster.scheduler_address, bench.module, None)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            bench.run(places, "hang")
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(bench.runs)
    (begun,) = bench.runs()
    places[0]._cluster._client.close()  # as when the batch is killed
    settle({begun["pid"]})
    thread.join()
    assert "scheduler of the cluster is gone" in str(failed[0])
    # The Dask worker is there still, and serves the next batch.
    (bench.scans / "hang.nii").unlink()
    entries = bench.run(dask.cluster_workers(cluster.scheduler_address, bench.module, None), "next")
    assert entries["next"].state is State.DONE


def wait_for(happened) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    names = ("a_T1w.nii.gz", "b_T1w.nii", "sub/Zq7Canary_T1w.nii.gz")
    return scan_folder(tmp_path_factory.mktemp("batch") / "scans", names)


@pytest.fixture(scope="module")
def one(scans, tiny_model, tmp_path_factory):
    """The images that one worker makes."""
    out = tmp_path_factory.mktemp("one") / "out"
    subprocess.run(batch_command(scans, "-o", out, "--model", tiny_model, "-q"), check=True)
    found = images(out)
    assert len(found) == 3
    return found


def marked(mark: str) -> set[int]:
    """The processes that have inherited a variable."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes() and alive(int(path.parent.name)):
                found.add(int(path.parent.name))
    return found


def restores(mark: str) -> bool:
    """Whether one of these processes has been started to restore."""
    for pid in marked(mark):
        with contextlib.suppress(OSError):
            if b"medrestore.batch.workers.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


@contextlib.contextmanager
def begun(scans: Path, out: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a batch with two workers; give it when a process that restores has started, with its mark."""
    mark = f"medrestore-dask-{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        batch_command(scans, "-o", out, "--model", model, "--workers", 2, "--hide-names"),
        env={**os.environ, "MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # It has yet to bring torch: the batch cannot be over before it is told to end.
        wait_for(lambda: restores(mark) or process.poll() is not None)
        yield process, mark
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def images(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.nii.gz"))}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ctrl-c", "terminate", "kill"])
def test_however_it_ends_no_process_is_left(scans, one, tiny_model, tmp_path, how):
    out = tmp_path / "out"
    with begun(scans, out, tiny_model) as (process, mark):
        if how == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)  # a terminal tells all of them
        elif how == "terminate":
            process.terminate()
        else:
            process.kill()
        _, said = process.communicate(timeout=120)
        wait_for(lambda: not marked(mark))
    assert process.returncode not in {0, 3}, said
    assert "Traceback" not in said and "Canary" not in said
    assert bool(list(out.glob(f"{FOLDER}/lock-*"))) == (how == "kill")
    subprocess.run(batch_command(scans, "-o", out, "--model", tiny_model, "-q"), check=True)
    assert images(out) == one
    assert not [path for path in out.rglob(".*") if path.name != FOLDER]


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte(scans, one, tiny_model, tmp_path):
    two = tmp_path / "two"
    ran = subprocess.run(
        batch_command(scans, "-o", two, "--model", tiny_model, "--workers", 2, "--hide-names"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert images(two) == one
    assert "Canary" not in ran.stdout + ran.stderr
