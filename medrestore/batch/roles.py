"""The parts of a batch: restorers, the listener, options, and the gate that admits cases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from medrestore.batch.find.case import Case
from medrestore.batch.ledger import Entry
from medrestore.batch.shards import Shard
from medrestore.batch.workers.client import Success, Watch
from medrestore.batch.workers.failures import Failure
from medrestore.provenance import JSON


class Restorer(Protocol):
    """Something that restores one case after another: a `Worker`, or a cluster's."""

    def run(self, job: Mapping[str, JSON], watch: Watch | None = None) -> Success | Failure:
        """Restore one case; never raises."""

    def stop(self) -> None:
        """End at once."""

    def close(self) -> None:
        """End when no case is left."""


class Listener:
    """Hears how a batch gets on; the default says nothing. Called from several threads, one at a time."""

    def finished(self, case: Case, entry: Entry, fresh: bool) -> None:
        """A case is done or has failed; `fresh` is false where an earlier run restored it."""

    def stage(self, case: Case, stage: str, share: float) -> None:
        """A case has come further: `share` of the stage, 0 to 1."""

    def retried(self, case: Case, failure: Failure, how: str) -> None:
        """A case is tried again."""


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is run; none of it changes a result.

    Attributes:
        shard: Which part of the cases is done here.
        retry_failed: Whether cases that failed in an earlier run are tried again.
        overwrite: Whether results of no batch are replaced.
        hide_names: Whether printed lines call cases by their ids alone.
        tries: How often a case is tried whose worker crashed.
        single_file: Whether each page of the report holds the viewer.
        model_hash: Gives the hash or name of the model of a case; raises `MedrestoreError` if there is none.
    """

    shard: Shard = field(default_factory=Shard)
    retry_failed: bool = False
    overwrite: bool = False
    hide_names: bool = False
    tries: int = 2
    single_file: bool = False
    model_hash: Callable[[Case], str] = lambda case: case.model or ""


class ExclusiveGate:
    """Admits cases side by side, or one case alone, which then has the memory of all."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def enter(self, *, alone: bool = False) -> Iterator[None]:
        """Be inside while the block runs; wait until no other case is alone, or to be alone."""
        with self._change:
            self._change.wait_for(lambda: not self._alone and not (alone and self._inside))
            self._inside += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1
                self._alone = False
                self._change.notify_all()
