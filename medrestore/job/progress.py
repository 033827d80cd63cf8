"""How far one scan has come, told to whoever wants to know."""

from __future__ import annotations

from typing import Literal, Protocol

Stage = Literal["read", "restore", "write"]


class Progress(Protocol):
    """Hears how a scan gets on; called on the thread that works on it."""

    def stage(self, name: Stage, done: int = 0, total: int = 0) -> None:
        """Take note that a stage has begun, or that `done` of `total` voxels of it are done."""


class Silence:
    """Hears and tells nothing."""

    def stage(self, name: Stage, done: int = 0, total: int = 0) -> None:
        """Do nothing."""
