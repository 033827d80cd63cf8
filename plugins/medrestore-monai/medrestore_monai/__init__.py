"""MONAI bundles as models of medrestore, and models of medrestore as bundles.

This module is imported whenever plugins are listed, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medrestore import hookimpl
from medrestore.plugin import NetworkSpec, VerbSpec

if TYPE_CHECKING:
    import typer
    from torch import nn


@hookimpl
def medrestore_networks() -> list[NetworkSpec]:
    """Declare the network `monai/bundle`, which folders made by `medrestore monai import` name."""
    return [
        NetworkSpec(
            name="bundle", title="A network of MONAI with the scheduler it was trained with", build=build
        )
    ]


def build(**options: Any) -> nn.Module:
    """Make it; torch and MONAI are imported here, so that listing plugins stays fast."""
    from medrestore_monai.network import build_bundle_network

    return build_bundle_network(**options)


@hookimpl
def medrestore_verbs() -> list[VerbSpec]:
    """Declare the command `medrestore monai`."""
    return [
        VerbSpec(name="monai", help="Import MONAI bundles as models, export models as bundles.", load=load)
    ]


def load() -> typer.Typer:
    """Load it; MONAI is imported here, for nothing but the command itself."""
    from medrestore_monai.verb import app

    return app
