"""Workers of a Dask cluster.

Dask says where a case runs and nothing else: a result that it loses with a worker is not in the ledger, and
the case is done again. On each Dask worker the case goes to a process of its own, as on one machine. The
folders of scans and of results have to have the same names everywhere.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from medrestore.batch.failures import Failure, Kind
from medrestore.batch.worker import Success, Watch, Worker
from medrestore.errors import ConfigError
from medrestore.provenance import JSON

_WAIT = 60.0  # seconds for the first worker of a cluster that is there to appear
_QUEUE = 24 * 3600.0  # seconds for the first job to get through the queue of SLURM
_here = threading.local()


class ClusterWorker:
    """A place in a cluster: one case at a time, on whichever Dask worker is free.

    Args:
        client: The client of the cluster.
        module: Arguments that start the process which restores, behind those of Python.
        time_limit: Seconds for each case.
    """

    def __init__(self, client: _Client, module: Sequence[str], time_limit: float | None) -> None:
        self._shared = client
        self._client = client.enter()
        self._module = tuple(module)
        self._limit = time_limit
        self._future: Any = None

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case somewhere."""
        if watch is not None:
            watch("wait", 0.0)
        try:
            self._future = self._client.submit(restore_here, self._module, self._limit, dict(job), pure=False)
            answer: Success | Failure = self._future.result()
        except Exception as error:  # noqa: BLE001  Dask has no root of its errors; the case is what is lost
            return Failure(Kind.CRASH, f"the cluster lost the case ({type(error).__name__})", "cluster")
        except asyncio.CancelledError:
            return Failure(Kind.CRASH, "the cluster cancelled the case", "cluster")
        return answer

    def stop(self) -> None:
        """Take back what is under way."""
        if self._future is not None:
            self._future.cancel(force=True)

    def close(self) -> None:
        """Leave the cluster; one that was started for this batch ends with the last place."""
        self._shared.leave()


class _Client:
    """The client that the places of a cluster share; the last that leaves closes it, and our cluster too."""

    def __init__(self, client: Any, cluster: Any) -> None:
        self._client, self._cluster, self._users, self._lock = client, cluster, 0, threading.Lock()

    def enter(self) -> Any:
        with self._lock:
            self._users += 1
        return self._client

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def restore_here(module: Sequence[str], limit: float | None, job: Mapping[str, JSON]) -> Success | Failure:
    """Restore a case on a Dask worker, in the process that this thread of it keeps."""
    if not hasattr(_here, "worker"):
        _here.worker = Worker((sys.executable, *module), time_limit=limit)
    worker: Worker = _here.worker
    return worker.run(job)


def cluster_workers(
    address: str, module: Sequence[str], time_limit: float | None, jobs: int = 1
) -> list[ClusterWorker]:
    """Return a `ClusterWorker` for every thread of the workers of a cluster.

    Args:
        address: Of a scheduler; or ``slurm`` to start one here and its workers as `jobs` jobs of SLURM, as
            Dask's own configuration describes them.
        module: Arguments that start the process which restores.
        time_limit: Seconds for each case.
        jobs: How many jobs are queued.

    Raises:
        ConfigError: Dask is not installed, or no worker answers at that address.
    """
    try:
        from dask.distributed import Client  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError("--scheduler needs Dask; install medrestore[batch]") from None
    cluster = _slurm(jobs) if address == "slurm" else None
    try:
        client: Any = Client(address if cluster is None else cluster, timeout=_WAIT)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=_WAIT if cluster is None else _QUEUE)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"no Dask cluster with workers answers at {address} ({error})") from error
    # Jobs that are still in the queue take cases when they start: there is a place for each already.
    places = (
        sum(client.nthreads().values()) if cluster is None else max(jobs, sum(client.nthreads().values()))
    )
    shared = _Client(client, cluster)
    return [ClusterWorker(shared, module, time_limit) for _ in range(places)]


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
