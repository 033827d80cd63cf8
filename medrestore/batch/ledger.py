"""The outcome of every case, in files that survive a crash of the run.

Lines of JSON, appended and flushed to disk one by one, and one file for each shard. Not SQLite: its
write-ahead log needs shared memory, and its locks fail silently on many network file systems, which is where
the results of a cluster lie. A line is read back whole or, where the machine went down within it, not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from medrestore.errors import OutputError
from medrestore.provenance import JSON

FOLDER = ".medrestore"
"""The folder of a batch's ledger, in the folder of results."""


def pictures(out: Path, case: str) -> Path:
    """The folder of the pictures of a case, for the report."""
    return out / FOLDER / f"{case}.npz"


class State(StrEnum):
    """How far a case has come."""

    STARTED = "started"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    Attributes:
        case: Id of the case.
        state: How far the case has come.
        key: SHA-256 of the input, of the model and of the settings: ``input``, ``model``, ``settings``; of
            the reference, if there is one: ``reference``; and of the JSON beside the scan: ``beside``.
        files: SHA-256 of each file of the result, by the ending after the name of the result.
        facts: Facts of the run: seconds, peak memory, noise, metrics, shape.
        cause: Why the case failed, in plain words.
        stage: The stage in which it failed.
        kind: What kind of failure it was; empty for other cases, and in ledgers of earlier versions.
        log: The last output of the worker.
        attempts: How often the case was tried.
        time: Seconds since 1970.
        root: Id of the folder of the scans; empty in ledgers of earlier versions.
    """

    case: str
    state: State
    key: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    facts: dict[str, JSON] = field(default_factory=dict)
    cause: str = ""
    stage: str = ""
    kind: str = ""
    log: str = ""
    attempts: int = 1
    time: float = field(default_factory=time.time)
    root: str = ""


class Ledger:
    """The entries of all shards, and the file that this shard appends to.

    Args:
        out: Folder of results.
        shard: Name of the shard.

    Raises:
        OutputError: The folder cannot be written to.
    """

    def __init__(self, out: Path, shard: str = "whole") -> None:
        self._path = out / FOLDER / f"ledger-{shard}.jsonl"
        self._last = last_entries(out)
        self._ours = {entry.case for entry in read_entries(out) if entry.state is State.STARTED}
        try:
            self._path.parent.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if self._path.stat().st_size and not self._path.read_bytes().endswith(b"\n"):
                os.write(self._file, b"\n")  # ends a line that a crash cut off, which is then ignored
        except OSError as error:
            raise OutputError(
                f"{self._path.parent}: cannot be written ({error.strerror or error}); the folder of results "
                "keeps the ledger of the batch"
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def last(self, case: str) -> Entry | None:
        """Return the last entry of a case but for its start, or None."""
        return self._last.get(case)

    def whose(self, case: str, root: str, content: str) -> str:
        """Return in words that files under the name of a case are none of its; empty where they are.

        Args:
            case: Id of the case.
            root: Id of the folder of the scans.
            content: SHA-256 of the scan; a scan that was moved is the same.
        """
        before = self._last.get(case)
        if case not in self._ours:
            return "no batch made it"
        if before and before.root not in {"", root} and before.key.get("input") != content:
            return "it is that of another scan of this name, in another folder"
        return ""

    def add(self, entry: Entry) -> None:
        """Append an entry; when it returns, the entry is on the disk.

        Raises:
            OSError: The entry cannot be written.
        """
        # In ASCII: characters that some take for ends of lines, or that UTF-8 cannot encode, are escaped.
        line = (json.dumps(asdict(entry)) + "\n").encode()
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(28, "no space left on device")
        os.fsync(self._file)
        if entry.state is State.STARTED:
            self._ours.add(entry.case)
        else:
            self._last[entry.case] = entry


def read_entries(out: Path) -> Iterator[Entry]:
    """Yield the entries of all shards, the entries of each shard in the order in which they were made."""
    for path in sorted((out / FOLDER).glob("ledger-*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                stated: dict[str, Any] = json.loads(line)
                yield Entry(**{**stated, "state": State(stated["state"])})
            except (ValueError, TypeError, KeyError):
                continue  # cut off


def last_entries(out: Path) -> dict[str, Entry]:
    """Return the last entry of each case in any shard, but for its start."""
    last: dict[str, Entry] = {}
    for entry in read_entries(out):
        before = last.get(entry.case)
        if entry.state is not State.STARTED and (before is None or before.time <= entry.time):
            last[entry.case] = entry
    return last
