"""Signals through the diffusion core of medrestore: arrays of any channels, along one axis, two or three.

    from medrestore_signal.fit import Recipe, fit
    from medrestore_signal.model import restore, sample

This module is imported whenever plugins are listed, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrestore import hookimpl
from medrestore.plugin import VerbSpec

if TYPE_CHECKING:
    import typer


@hookimpl
def medrestore_verbs() -> list[VerbSpec]:
    """Declare the command `medrestore signal`."""
    return [VerbSpec(name="signal", help="Take noise out of signals: train, restore, sample.", load=load)]


def load() -> typer.Typer:
    """Load it; torch is imported here, for nothing but the command itself."""
    from medrestore_signal.verb import app

    return app
