"""What a node has done with every series, in a file that survives it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from medrestore.node.instance import Instance

_SCHEMA = """
create table if not exists series (
    uid text primary key, state text not null, modality text not null, description text not null,
    own integer not null, touched real not null, attempts integer not null default 0,
    due real not null default 0, reason text not null default ''
);
create table if not exists instance (
    sop text primary key, series text not null, digest text not null
);
create table if not exists transfer (series text, association text, primary key (series, association));
"""
# The association of a transfer that was cut off.
_CUT = "cut"


class State(StrEnum):
    """How far a series has come."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RESTORED = "restored"
    SENT = "sent"
    IGNORED = "ignored"
    FAILED = "failed"


_CLOSED = (State.QUEUED, State.RESTORED, State.SENT)


class Arrival(StrEnum):
    """What an image is to the node."""

    NEW = "new"
    KNOWN = "known"
    LATE = "late"
    OTHER = "other"


@dataclass(frozen=True)
class Series:
    """One series, as the ledger has it.

    Attributes:
        uid: Series instance UID.
        state: How far it has come.
        modality: Modality.
        description: Series description.
        own: Whether it is one of our results that came back.
        touched: Time of the last image.
        attempts: How often the present step was tried.
        due: Time before which it is not tried again.
        reason: Why it failed or is ignored.
    """

    uid: str
    state: State
    modality: str
    description: str
    own: bool
    touched: float
    attempts: int
    due: float
    reason: str


_COLUMNS = "uid, state, modality, description, own, touched, attempts, due, reason"


class Ledger:
    """The ledger; any thread may use it.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = full")
        if not self._rows("select 1 from pragma_table_info('instance') where name = 'digest'"):
            # Of an earlier version, which kept no digest: what it says of images cannot be compared with.
            self._base.execute("drop table if exists instance")
        self._base.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._base.execute("begin immediate")
            try:
                yield self._base
                self._base.execute("commit")
            except BaseException:
                if self._base.in_transaction:  # a full disk may have ended it
                    self._base.execute("rollback")
                raise

    def recover(self) -> None:
        """Take note that whatever was under way at the last stop is cut off, and may be tried again."""
        with self._change() as base:
            base.execute("insert or ignore into transfer select distinct series, ? from transfer", (_CUT,))
            base.execute("delete from transfer where association != ?", (_CUT,))
            # Nobody could send while the node was down.
            base.execute("update series set touched = ? where state = ?", (time.time(), State.RECEIVING))
            base.execute("update series set due = 0, attempts = 0 where state = ?", (State.RESTORED,))

    def arrival(self, image: Instance) -> Arrival:
        """Say what an image is to the node, before it is stored.

        A UID stands for one image: the same UID with other pixels, another header or in another series is
        another image, and only one of the two can be kept.
        """
        known = self._rows("select digest from instance where sop = ?", image.sop)
        if known:
            return Arrival.KNOWN if known[0][0] == image.digest else Arrival.OTHER
        return Arrival.LATE if self.is_closed(image.series) else Arrival.NEW

    def is_closed(self, uid: str) -> bool:
        """Whether no image is added to a series any more."""
        found = self.get(uid)
        return found is not None and found.state in _CLOSED

    def stored(self, image: Instance, association: str) -> None:
        """Take note of an image that is in the spool; its series must not be closed."""
        with self._change() as base:
            base.execute(
                f"insert or ignore into series ({_COLUMNS}) values (?, ?, ?, ?, ?, 0, 0, 0, '')",
                (image.series, State.RECEIVING, image.modality, image.description, image.own),
            )
            base.execute(
                "insert or replace into instance values (?, ?, ?)", (image.sop, image.series, image.digest)
            )
            self._touch(base, image.series, association)

    def again(self, series: str, association: str) -> None:
        """Take note of an image that was there before: a series that failed gets another chance."""
        with self._change() as base:
            self._touch(base, series, association)

    def _touch(self, base: sqlite3.Connection, series: str, association: str) -> None:
        base.execute(
            "update series set touched = ?, state = ?, attempts = 0, due = 0, reason = '' "
            "where uid = ? and state in (?, ?, ?)",
            (time.time(), State.RECEIVING, series, State.RECEIVING, State.FAILED, State.IGNORED),
        )
        base.execute("insert or ignore into transfer values (?, ?)", (series, association))

    def released(self, association: str) -> None:
        """Take note that a sender said it was done: its series are whole, whatever was cut off before."""
        with self._change() as base:
            base.execute(
                "delete from transfer where association in (?, ?) and series in "
                "(select series from transfer where association = ?)",
                (association, _CUT, association),
            )

    def cut_off(self, association: str) -> None:
        """Take note that a connection broke: more of its series may be to come."""
        with self._change() as base:
            base.execute(
                "insert or ignore into transfer select series, ? from transfer where association = ?",
                (_CUT, association),
            )
            base.execute("delete from transfer where association = ?", (association,))

    def rested(self, rest: float, patience: float) -> list[Series]:
        """Return the series that are whole: at rest and released, or beyond patience, which is no shorter."""
        now = time.time()
        return self._series(
            "state = ? and (touched < ? or (touched < ? and uid not in (select series from transfer)))",
            State.RECEIVING,
            now - max(rest, patience),
            now - rest,
        )

    def due(self, state: State) -> list[Series]:
        """Return the series of a state whose time has come, longest waiting first."""
        return self._series("state = ? and due <= ? order by touched", state, time.time())

    def get(self, uid: str) -> Series | None:
        """Return one series."""
        return next(iter(self._series("uid = ?", uid)), None)

    def all(self) -> list[Series]:
        """Return every series, oldest first."""
        return self._series("1 order by touched")

    def move(self, uid: str, state: State, reason: str = "") -> None:
        """Take note that a series has come further."""
        with self._change() as base:
            base.execute(
                "update series set state = ?, reason = ?, attempts = 0, due = 0 where uid = ?",
                (state, reason, uid),
            )
            if state is not State.RECEIVING:
                base.execute("delete from transfer where series = ?", (uid,))
            if state is State.IGNORED:
                # Its files are not kept, so what comes again has to be stored again.
                base.execute("delete from instance where series = ?", (uid,))

    def tried(self, uid: str, wait: float = 0.0, reason: str = "") -> None:
        """Take note of an attempt, and when the next one is due."""
        with self._change() as base:
            base.execute(
                "update series set attempts = attempts + 1, due = ?, reason = ? where uid = ?",
                (time.time() + wait, reason, uid),
            )

    def _series(self, where: str, *values: object) -> list[Series]:
        rows = self._rows(f"select {_COLUMNS} from series where {where}", *values)
        return [Series(row[0], State(row[1]), row[2], row[3], bool(row[4]), *row[5:]) for row in rows]

    def _rows(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._base.execute(text, values).fetchall()
