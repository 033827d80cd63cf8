"""What a batch says while it runs: a bar or lines, and the names of the scans that they speak of."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping

from rich.console import Console

from medrestore.batch import BatchOptions, Case, Entry, Found, Listener, State
from medrestore.batch.workers.failures import Failure
from medrestore.cli.progress import Meter, duration


def names_of(found: Found, options: BatchOptions) -> dict[str, str]:
    """Return the scan of each case by its id; none where names are hidden."""
    return {} if options.hide_names else {case.id: str(case.source) for case in found.cases}


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Name the scan behind the id of another case, which the ledger calls by its id alone."""
    return re.sub(
        r"(?<=case )([0-9a-f]{12})\b", lambda id_: f"{id_[0]} {names.get(id_[0], '')}".strip(), text
    )


class BatchProgress(Listener):
    """A bar on a terminal, a line for each case and now and then in a log.

    Args:
        total: How many cases there are.
        quiet: Say nothing.
        hide_names: Call cases by their ids alone, which are hashes.
        names: The scans of cases by their ids, to name those that a cause speaks of.
    """

    def __init__(
        self, total: int, *, quiet: bool, hide_names: bool = False, names: Mapping[str, str] | None = None
    ) -> None:
        self._meter = Meter("Batch", quiet=quiet, console=Console(stderr=True, highlight=False))
        self._total, self._hide_names, self._names = total, hide_names, names or {}
        self._done = 0
        self._fresh = 0
        self._start = time.monotonic()
        self.before = 0
        self.causes: Counter[str] = Counter()

    def __enter__(self) -> BatchProgress:
        self._meter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._meter.__exit__(None, None, None)

    def _name(self, case: Case) -> str:
        return case.id if self._hide_names else f"{case.id} {case.source}"

    def _left(self, share: float = 0.0) -> str:
        """Time left, at the pace of the cases of this run."""
        finished = self._fresh + share
        if finished < 0.05:
            return "? left"
        seconds = (time.monotonic() - self._start) / finished
        return f"{duration(seconds * (self._total - self._done - share))} left"

    def finished(self, case: Case, entry: Entry, fresh: bool) -> None:
        """Count a case, and say how it ended."""
        self._done += 1
        self._fresh += fresh
        self.before += not fresh and entry.state is State.DONE
        if fresh or entry.state is State.FAILED:
            how = f"failed, {with_names(entry.cause, self._names)}" if entry.state is State.FAILED else "done"
            self._meter.line(f"{self._done}/{self._total} {self._name(case)} {how}, {self._left()}")
        self._meter.update(self._done, max(self._total, 1), self._left())

    def stage(self, case: Case, stage: str, share: float) -> None:
        """Draw how far a case is."""
        self._meter.update(
            self._done + share * 0.999,
            max(self._total, 1),
            f"{self._name(case)} {stage}, {self._left(share)}",
        )

    def retried(self, case: Case, failure: Failure, how: str) -> None:
        """Say why a case is tried again."""
        self._meter.line(f"{self._name(case)} {failure.cause}; tried again {how}")
