"""A DICOM node: takes series in, restores them by route, and stores the results where they belong.

The spool (files) and the ledger (what was done with them) are the truth; a node that was killed goes on from
them. Needs the extra `node`.
"""

from __future__ import annotations

from medrestore.node.config import Destination, NodeOptions, Peer, Route, Routes, load_routes
from medrestore.node.job_store import Ledger, State
from medrestore.node.service import Node, check_routes

__all__ = [
    "Destination",
    "Ledger",
    "Node",
    "NodeOptions",
    "Peer",
    "Route",
    "Routes",
    "State",
    "check_routes",
    "load_routes",
]
