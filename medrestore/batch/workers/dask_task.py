"""What runs on a Dask worker: it gives a case to a process of its own, as the batch does without Dask.

The Dask worker itself computes nothing. So a case that crashes, hangs or takes all memory costs its process,
and the cause comes back in words; Dask would only say that a worker was lost.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrestore.batch.find.names import remove, temporary_files
from medrestore.batch.workers.client import Success, Worker
from medrestore.batch.workers.failures import Failure, Kind
from medrestore.provenance import JSON

TOPIC = "medrestore"
"""Name of the events that report the progress of a case."""

_IDLE = 60.0  # seconds; then the process of a place ends, and with it what it holds of a GPU
_GLANCE = 0.5  # seconds between looks at whether the case is still wanted
_here = threading.local()


@dataclass(frozen=True, repr=False)
class Order:
    """A case, and how it is restored. Dask prints its tasks: an order prints as the id of the case.

    Attributes:
        job: The case.
        module: Arguments that start the process which restores, behind those of Python.
        time_limit: Seconds for the case.
        environment: Variables set for the process.
        devices: A device for each Dask worker, by the number that is its name; empty for the job's device.
    """

    job: dict[str, JSON]
    module: tuple[str, ...]
    time_limit: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"case {self.job['case']}"


class _Place:
    """The process of one thread of a Dask worker: kept from case to case, ended when no case comes."""

    def __init__(self, order: Order, changes: Mapping[str, JSON]) -> None:
        self.made_for = _settings(order, changes)
        self._worker = Worker(
            (sys.executable, *order.module),
            environment=order.environment,
            time_limit=order.time_limit,
            changes=changes,
        )
        self._lock = threading.Lock()
        self._rest: threading.Timer | None = None

    def run(self, order: Order, dask: Any, key: str) -> Success | Failure:
        """Restore a case, unless nobody wants it any more."""
        if self._rest is not None:
            self._rest.cancel()

        def tell(stage: str, share: float) -> None:
            dask.log_event(TOPIC, {"key": key, "stage": stage, "share": share})

        with self._lock, _while_wanted(self._worker, dask, key):
            answer = self._worker.run(order.job, tell)
        self._rest = threading.Timer(_IDLE, self.close)
        self._rest.daemon = True
        self._rest.start()
        return answer

    def close(self) -> None:
        with self._lock:
            self._worker.close()


def restore_here(order: Order) -> Success | Failure:
    """Restore a case on the Dask worker that this is called on; never raises."""
    try:
        return _restore(order)
    except Exception as error:  # noqa: BLE001  Dask prints errors with their text, which may name a person
        return Failure(
            Kind.CRASH, f"the Dask worker could not start the case ({type(error).__name__})", "cluster"
        )


def _restore(order: Order) -> Success | Failure:
    from dask.distributed import get_worker  # noqa: PLC0415  an extra

    dask: Any = get_worker()
    changes: dict[str, JSON] = {}
    if isinstance(dask.name, int) and dask.name < len(order.devices):
        changes["device"] = order.devices[dask.name]
    place: _Place | None = getattr(_here, "place", None)
    if place is None or place.made_for != _settings(order, changes):
        if place is not None:
            place.close()
        place = _here.place = _Place(order, changes)
    # Dask may give a case to another worker when one dies, without a message.
    for left in temporary_files(Path(str(order.job["out"]))):
        remove(left)
    return place.run(order, dask, dask.get_current_task())


def _settings(order: Order, changes: Mapping[str, JSON]) -> tuple[object, ...]:
    return order.module, order.time_limit, dict(order.environment), dict(changes)


@contextmanager
def _while_wanted(worker: Worker, dask: Any, key: str) -> Iterator[None]:
    """End the process of the block when Dask's task is cancelled: the batch was interrupted, or is gone."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_GLANCE):
            task = dask.state.tasks.get(key)
            if task is None or task.state == "cancelled":
                worker.stop()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
