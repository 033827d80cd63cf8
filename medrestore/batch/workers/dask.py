"""Several workers, through Dask: processes of this machine, an existing cluster, or jobs of SLURM.

Dask says where a case runs and nothing else: a result that it loses with a worker is not in the ledger, and
the case is done again. On a cluster the folders of scans and of results have the same names everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from medrestore.batch.workers.client import Success, Watch
from medrestore.batch.workers.dask_task import TOPIC, Order, restore_here
from medrestore.batch.workers.failures import Failure, Kind
from medrestore.errors import ConfigError
from medrestore.provenance import JSON

_WAIT = 60.0  # seconds for the first worker of an existing cluster to appear
_START = 300.0  # seconds for the workers of this machine: imports, on the slowest of file systems
_QUEUE = 24 * 3600.0  # seconds for the first job to get through the queue of SLURM
_OURS = {
    "distributed.scheduler.allowed-failures": 0,  # the batch decides what is tried again, after clearing up
    "distributed.scheduler.no-workers-timeout": f"{_START:.0f} s",
    "distributed.nanny.pre-spawn-environ": {},  # each process is told its share of the threads itself
    "distributed.scheduler.http.routes": [],  # pages about workers and tasks, that anyone here could open
    "distributed.worker.http.routes": [],
}
_DEAF = "import signal\nfor one in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(one, signal.SIG_IGN)\n"
"""Run in our workers: the signal that ends a job often goes to all its processes; the batch decides."""


class ClusterWorker:
    """A place in a cluster: one case at a time, on whichever Dask worker is free.

    Args:
        cluster: The cluster.
        order: Makes an order of a job.
        share: Bytes that a case may take unless it is alone; None for the limit of the settings.
    """

    def __init__(
        self, cluster: _Cluster, order: Callable[[dict[str, JSON]], Order], share: int | None = None
    ) -> None:
        self._cluster = cluster
        self._order = order
        self._share = share
        self._future: Any = None

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case somewhere."""
        restore = job.get("restore")
        if self._share is not None and isinstance(restore, dict) and not job.get("alone"):
            job = {**job, "restore": {**restore, "max_memory": self._share}}
        key = f"case-{job['case']}-{uuid.uuid4().hex}"
        try:
            client = self._cluster.enter(key, watch)
        except Exception as error:  # noqa: BLE001  whatever it is, no case will fare better
            return Failure(Kind.STOP, f"the workers could not be started ({type(error).__name__}: {error})")
        try:
            self._future = client.submit(restore_here, self._order(dict(job)), key=key, pure=False)
            answer: Success | Failure = self._future.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  Dask has no root of its errors
            if client.status != "running":
                return Failure(Kind.STOP, "the scheduler of the cluster is gone")
            return Failure(Kind.CRASH, f"the cluster lost the case ({type(error).__name__})", "cluster")
        finally:
            self._future = None  # an ended task cannot be cancelled, and the client may be closed by then
            self._cluster.forget(key)
        return answer

    def stop(self) -> None:
        """Cancel the case that is under way."""
        self._cluster.stop()
        if (future := self._future) is not None:
            future.cancel(force=True)

    def close(self) -> None:
        """Leave the cluster; a cluster that was started for this batch ends with the last place."""
        self._cluster.leave()


class _Cluster:
    """The connection that the places of a cluster share; the last place that leaves closes it.

    Args:
        start: Returns the client, and the cluster if this batch has to close it.
    """

    def __init__(self, start: Callable[[], tuple[Any, Any]]) -> None:
        self._start = start
        self._client: Any = None
        self._cluster: Any = None
        self._users = 0
        self._stopped = False
        self._watches: dict[str, Watch] = {}
        self._lock = threading.Lock()

    def places(
        self, count: int, order: Callable[[dict[str, JSON]], Order], share: int | None = None
    ) -> list[ClusterWorker]:
        self._users += count
        return [ClusterWorker(self, order, share) for _ in range(count)]

    def enter(self, key: str, watch: Watch | None) -> Any:
        """Return the client; processes start with the first case."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("interrupted")
            if self._client is None:
                self._client, self._cluster = self._start()
                self._client.subscribe_topic(TOPIC, self._hear)
            if watch is not None:
                watch("wait", 0.0)
                self._watches[key] = watch
            return self._client

    def forget(self, key: str) -> None:
        self._watches.pop(key, None)

    def stop(self) -> None:
        self._stopped = True

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._client is None:
                return
            self._client.close()
            if self._cluster is not None:
                # Closing Dask may fail if a batch is ended in a bad moment; its processes end with it.
                with contextlib.suppress(Exception):
                    self._cluster.close()

    def _hear(self, event: Sequence[Any]) -> None:
        """Pass on the message of a worker, the second item of an event of Dask; the first is the time."""
        stated = event[1]
        if isinstance(stated, dict) and (watch := self._watches.get(stated.get("key", ""))) is not None:
            watch(stated["stage"], stated["share"])


def local_workers(
    module: Sequence[str],
    count: int,
    time_limit: float | None = None,
    *,
    devices: Sequence[str] = (),
    memory: int | None = None,
) -> list[ClusterWorker]:
    """Return workers on this machine, which start with their first case and share its threads.

    Args:
        module: Arguments that start the process which restores.
        count: Number of workers.
        time_limit: Seconds for each case.
        devices: A device for each worker; empty for the device of the settings.
        memory: Bytes for all workers together.

    Raises:
        ConfigError: Dask is not installed.
    """
    if not (find_spec("distributed") and find_spec("cryptography")):
        raise ConfigError(
            "several workers need Dask, which is not installed; pip install 'medrestore[batch]', or take one "
            "worker, or shards"
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}

    def order(job: dict[str, JSON]) -> Order:
        return Order(job, tuple(module), time_limit, threads, tuple(devices))

    share = None if memory is None else memory // count
    return _Cluster(lambda: _start_local(count)).places(count, order, share)


def _start_local(count: int) -> tuple[Any, Any]:
    import dask  # noqa: PLC0415  an extra
    from dask.distributed import Client, LocalCluster  # noqa: PLC0415

    with dask.config.set(_OURS):
        # Anyone who reaches a scheduler could run any code as this user: keys that are made for this run and
        # never leave memory keep others on the machine out.
        cluster: Any = LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            security=True,
            silence_logs=logging.CRITICAL,
            preload=_DEAF,
        )
        # It is closed here, or ends with this process: Dask's own attempt, when Python exits in the middle of
        # that, would print why it could not.
        cluster.shutdown_on_close = False
        client: Any = Client(cluster, timeout=_START, set_as_default=False)  # type: ignore[no-untyped-call]
    return client, cluster


def cluster_workers(
    address: str, module: Sequence[str], time_limit: float | None, jobs: int = 1
) -> list[ClusterWorker]:
    """Return a `ClusterWorker` for every thread of the workers of a cluster.

    Args:
        address: Address of a scheduler; or ``slurm`` to start one here and its workers as `jobs` jobs of
            SLURM, as Dask's own configuration describes them.
        module: Arguments that start the process which restores.
        time_limit: Seconds for each case.
        jobs: Number of jobs that are queued.

    Raises:
        ConfigError: Dask is not installed, or no worker answers at that address.
    """
    try:
        from dask.distributed import Client  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError("--scheduler needs Dask; pip install 'medrestore[batch]'") from None
    cluster = _slurm(jobs) if address == "slurm" else None
    try:
        client: Any = Client(  # type: ignore[no-untyped-call]
            address if cluster is None else cluster, timeout=_WAIT, set_as_default=False
        )
        client.wait_for_workers(1, timeout=_WAIT if cluster is None else _QUEUE)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"no Dask cluster with workers answers at {address} ({error})") from error
    # Jobs that are still in the queue take cases when they start: there is a place for each already.
    places = sum(client.nthreads().values())
    if cluster is not None:
        places = max(jobs, places)
    threads = {} if cluster is None else _threads_of_a_job()
    return _Cluster(lambda: (client, cluster)).places(
        places, lambda job: Order(job, tuple(module), time_limit, threads)
    )


def _threads_of_a_job() -> dict[str, str]:
    """Return variables that give a case the cores of its job: Dask sets one thread by default."""
    import dask  # noqa: PLC0415  an extra

    cores = dask.config.get("jobqueue.slurm.cores", None)
    return {} if cores is None else {"OMP_NUM_THREADS": str(cores), "MKL_NUM_THREADS": str(cores)}


def _slurm(jobs: int) -> Any:
    """Start a scheduler here, and queue jobs for its workers."""
    try:
        from dask_jobqueue.slurm import SLURMCluster  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError("--scheduler slurm needs dask-jobqueue; install medrestore[slurm]") from None
    try:
        # One thread, so one case at a time: the cores of a job are for the arithmetic of that case.
        cluster: Any = SLURMCluster(processes=1, worker_extra_args=["--nthreads", "1"])
        cluster.scale(jobs=jobs)
    except (ValueError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"the jobs of SLURM cannot be described ({error}); set cores and memory below jobqueue.slurm in "
            "~/.config/dask/jobqueue.yaml"
        ) from error
    return cluster
