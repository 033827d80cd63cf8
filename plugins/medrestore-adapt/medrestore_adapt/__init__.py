"""`medrestore adapt`: a denoiser fitted to one scan, without a reference.

This module is imported whenever plugins are listed, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrestore import hookimpl
from medrestore.plugin import VerbSpec

if TYPE_CHECKING:
    from collections.abc import Callable


@hookimpl
def medrestore_verbs() -> list[VerbSpec]:
    """Declare the command `medrestore adapt`."""
    return [VerbSpec(name="adapt", help="Fit a denoiser to one scan, without a reference.", load=load)]


def load() -> Callable[..., None]:
    """Load it; torch is imported here, for nothing but the command itself."""
    from medrestore_adapt.verb import adapt

    return adapt
