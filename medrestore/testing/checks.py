"""What a check is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medrestore.testing.outcome import Outcome
from medrestore.testing.trial import Trial


@dataclass(frozen=True)
class Check:
    """One thing that a model is asked.

    Attributes:
        name: What it is called on a command line and in tables.
        question: What is asked, for people.
        limit: What a model is held to, and why just there.
        run: Asks it.
    """

    name: str
    question: str
    limit: str
    run: Callable[[Trial], Outcome]
