"""Takes a batch from its first case to its last, and keeps the ledger."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

from medrestore.batch.find.case import Case
from medrestore.batch.find.names import clear, fingerprint, place, remove, results, temporary_files
from medrestore.batch.ledger import Entry, Ledger, State, pictures
from medrestore.batch.lock import hold, refuse_if_held
from medrestore.batch.roles import BatchOptions, ExclusiveGate, Listener, Restorer
from medrestore.batch.settings import Settings
from medrestore.batch.workers.case_json import case_json
from medrestore.batch.workers.client import Success, Watch
from medrestore.batch.workers.failures import (
    GONE,
    LONGEST,
    PLAN,
    Attempt,
    Failure,
    Kind,
    describe_os_error,
    next_attempt,
    shortened,
    stumbled,
)
from medrestore.errors import MedrestoreError, OutputError
from medrestore.paths import resolved
from medrestore.plugin.host import plugins
from medrestore.provenance import JSON

_GLANCE = 0.2  # seconds


class _StopError(Exception):
    """The batch cannot go on."""


def run_batch(
    cases: Sequence[Case],
    out: Path,
    settings: Settings,
    restorers: Sequence[Restorer],
    options: BatchOptions | None = None,
    listener: Listener | None = None,
) -> dict[str, Entry]:
    """Restore every case that is not done yet; return the last entry of each.

    A case is done where the ledger says so for the same input, model and settings, and the files are
    unchanged. One restorer after another takes the next case.

    Args:
        cases: All cases, of all shards.
        out: Folder of results; made with those above it.
        settings: How cases are restored.
        restorers: Restorers of the cases; closed in the end.
        options: How the batch is run.
        listener: Told of the progress of the batch.

    Raises:
        OutputError: Another run holds the folder, the folder cannot be written, or the disk is full. Cases
            that are done stay done, and the same call goes on from there.
    """
    options = options or BatchOptions()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({describe_os_error(error)})") from error
    mine = [case for case in cases if options.shard.has(case.id)]
    with hold(out, options.shard.name), closing(Ledger(out, options.shard.name)) as ledger:
        refuse_if_held(out, options.shard.overlaps)
        batch = _Batch(resolved(out), settings, options, ledger, listener or Listener())
        return batch.run(mine, restorers)


def _stop(restorers: Iterable[Restorer]) -> None:
    for one in restorers:
        with contextlib.suppress(Exception):  # the cluster may have gone meanwhile
            one.stop()


class _Batch:
    """What the threads of one run share."""

    def __init__(
        self, out: Path, settings: Settings, options: BatchOptions, ledger: Ledger, listener: Listener
    ) -> None:
        self._out = out
        self._settings = settings
        self._settings_hash = settings.sha256()
        self._options = options
        self._ledger = ledger
        self._listener = listener
        self._lock = threading.Lock()
        self._gate = ExclusiveGate()
        self._crowd = 1
        self._entries: dict[str, Entry] = {}
        self._stopped: Exception | None = None

    def run(self, cases: Iterable[Case], restorers: Sequence[Restorer]) -> dict[str, Entry]:
        waiting = iter(list(cases))
        self._crowd = len(restorers)
        threads = [threading.Thread(target=self._work, args=(waiting, one)) for one in restorers]
        try:  # an interrupt may come as soon as the first thread has begun
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:
            self._stopped = self._stopped or _StopError("interrupted")
            _stop(restorers)
            for thread in threads:
                while thread.is_alive():
                    thread.join(_GLANCE)
                    _stop(restorers)  # again: a restorer may just have started a process
            raise error
        if self._stopped is not None:
            raise OutputError(str(self._stopped)) from self._stopped
        return self._entries

    def _work(self, waiting: Iterable[Case], restorer: Restorer) -> None:
        """Take one case after another until there is none, or the batch cannot go on."""
        try:
            while self._stopped is None:
                with self._lock:
                    case = next(iter(waiting), None)
                if case is None:
                    break
                self._take(case, restorer)
        except Exception as error:  # noqa: BLE001  whatever it is, the other threads must end as well
            self._stopped = self._stopped or error
        finally:
            restorer.close()

    def _take(self, case: Case, restorer: Restorer) -> None:
        """Bring one case to its end, whether done or failed."""
        key = {"input": "", "model": "", "settings": self._settings_hash}
        try:
            path = self._prepare(case, key)
            if path is None:
                return
            entry = self._restore(case, key, path, restorer)
        except _StopError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a file leads to, it is one case
            if isinstance(error, OSError):
                self._unreadable(case, error)
            job = {**case_json(case, self._settings), "out": str(self._out / case.output)}
            failure = stumbled(error, job, read=bool(key["input"]))
            entry = Entry(case.id, State.FAILED, key, cause=failure.cause, **failure.told())
        self._end(case, entry)

    def _prepare(self, case: Case, key: dict[str, str]) -> Path | None:
        """Fill in the key of a case, and return the path of its result; None if it is done already."""
        if case.refused:
            raise MedrestoreError(case.refused)
        key["model"] = self._options.model_hash(case)
        if case.reference is not None:
            key["reference"] = fingerprint(case.reference)
        key["input"] = case.content()
        if beside := case.said_beside():
            key["beside"] = beside
        before = self._ledger.last(case.id)
        if before is not None and before.key == key and self._still(case, before):
            self._tell(case, before, fresh=False)
            return None
        return self._place(case, key)

    def _still(self, case: Case, before: Entry) -> bool:
        """Whether the entry of an earlier run still holds for a case."""
        if before.state is State.FAILED:
            # A case that failed before a worker had it costs nothing to check again.
            return not self._options.retry_failed and before.stage != PLAN
        found = {entry.name: fingerprint(entry) for entry in results(self._out / case.output)}
        name, home = case.output.name, (self._out / case.output).parent
        whole = found == {name + ending: stated for ending, stated in before.files.items()}
        return whole and all((home / one).is_file() for one in case.beside)

    def _place(self, case: Case, key: dict[str, str]) -> Path:
        """Return the path of the result, after clearing files that a killed run left there."""
        try:
            path = place(self._out, case.output)
            if not os.access(path.parent, os.W_OK):  # the next case would fail likewise
                read_only = os.statvfs(path.parent).f_flag & os.ST_RDONLY
                raise OSError(errno.EROFS if read_only else errno.EACCES, "")
        except OSError as error:
            raise _StopError(
                f"{self._out}: cannot be written ({describe_os_error(error)}); what is done is done, run the "
                "same command to go on"
            ) from error
        whose = self._ledger.whose(case.id, case.root_id, key["input"])
        if whose and results(path) and not self._options.overwrite:
            raise OutputError(f"its result is there already, and {whose}; pass --overwrite to replace it")
        clear(path)
        return path

    def _restore(self, case: Case, key: dict[str, str], path: Path, restorer: Restorer) -> Entry:
        """Try a case until it is done or no attempt is left."""
        self._note(Entry(case.id, State.STARTED, key, root=case.root_id))
        tile, started = self._settings.restore.get("tile"), time.monotonic()
        attempt = Attempt(tile if isinstance(tile, int) else None)
        while True:
            with self._gate.enter(alone=attempt.alone):
                if self._stopped is not None:  # while this case waited for its turn
                    raise _StopError("interrupted")
                answer = restorer.run(self._job(case, path, attempt), self._watch(case))
            if isinstance(answer, Success):  # even where the batch was stopped meanwhile
                seconds = time.monotonic() - started - answer.waited
                facts = {**answer.facts, "seconds": round(seconds, 3)}
                files = {end: fingerprint(path.with_name(path.name + end)) for end in answer.endings}
                return Entry(case.id, State.DONE, key, files, facts, attempts=attempt.number)
            for left in temporary_files(path):
                remove(left)
            if self._stopped is not None:
                raise _StopError("interrupted")
            if answer.kind is Kind.STOP:
                raise _StopError(
                    f"{self._out}: {answer.cause}; what is done is done, run the same command to go on"
                )
            then = next_attempt(attempt, answer, crowd=self._crowd, tries=self._options.tries)
            if then is None:
                return self._failed(case, key, answer, attempt.number)
            attempt, how = then
            with self._lock:
                self._listener.retried(case, answer, how)

    def _failed(self, case: Case, key: dict[str, str], failure: Failure, attempts: int) -> Entry:
        facts: dict[str, JSON] = {"peak_bytes": failure.peak_bytes} if failure.peak_bytes else {}
        earlier = "; the result that is there is an earlier one" if results(self._out / case.output) else ""
        return Entry(
            case.id,
            State.FAILED,
            key,
            facts=facts,
            cause=failure.cause + earlier,
            **failure.told(),
            attempts=attempts,
        )

    def _job(self, case: Case, path: Path, attempt: Attempt) -> dict[str, JSON]:
        job = case_json(case, self._settings)
        return {
            **job,
            "restore": {**cast("dict[str, JSON]", job["restore"]), "tile": attempt.tile},
            "alone": attempt.alone,
            "out": str(path),
            "pictures": str(pictures(self._out, case.id)) if self._settings.pictures else None,
        }

    def _watch(self, case: Case) -> Watch:
        def watch(stage: str, share: float) -> None:
            with self._lock:
                self._listener.stage(case, stage, share)

        return watch

    def _unreadable(self, case: Case, error: OSError) -> None:
        """End the batch if not the case alone, but all cases cannot be read."""
        if error.errno in GONE or not case.root.is_dir():
            raise _StopError(
                f"{case.root}: {describe_os_error(error)}; the folder of the scans is gone, run the same "
                "command when it is back"
            ) from error

    def _end(self, case: Case, entry: Entry) -> None:
        """Write an entry; only now is the case done."""
        cause, log = shortened(entry.cause), shortened(entry.log, 10 * LONGEST)
        entry = replace(entry, root=case.root_id, time=time.time(), cause=cause, log=log)
        self._note(entry)
        if entry.state is State.FAILED:  # the workers, of whom one may be killed, tell of none
            source = str(case.root / case.source)
            plugins().tell("medrestore_case_failed", source=source, error=entry.cause)
        self._tell(case, entry, fresh=True)

    def _note(self, entry: Entry) -> None:
        """Write an entry, or end the batch: without its ledger it cannot go on."""
        try:
            with self._lock:
                self._ledger.add(entry)
        except OSError as error:
            raise _StopError(
                f"{self._out}: the ledger cannot be written ({describe_os_error(error)})"
            ) from error

    def _tell(self, case: Case, entry: Entry, *, fresh: bool) -> None:
        with self._lock:
            self._entries[case.id] = entry
            self._listener.finished(case, entry, fresh)
