"""Folders of scans: their cases, the outcome of each case, and the processes that restore cases."""

from __future__ import annotations

from medrestore.batch.find.case import Case, Found
from medrestore.batch.find.cases import find_cases
from medrestore.batch.ledger import Entry, Ledger, State
from medrestore.batch.roles import BatchOptions, Listener
from medrestore.batch.runner import run_batch
from medrestore.batch.settings import Settings
from medrestore.batch.shards import Shard

__all__ = [
    "BatchOptions",
    "Case",
    "Entry",
    "Found",
    "Ledger",
    "Listener",
    "Settings",
    "Shard",
    "State",
    "find_cases",
    "run_batch",
]
