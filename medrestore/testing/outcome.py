"""What a check says: figures with their limits, and from them alone whether a model passed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from medrestore.provenance import JSON


class NotTriedError(Exception):
    """A check cannot be made, for a reason that is no fault of the model; says which."""


class Status(StrEnum):
    """What a check came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    With an interval it is the less favourable end that must keep to a limit: what is not shown does not pass.

    Attributes:
        name: What was measured, and on what.
        value: The number; NaN keeps to no limit.
        unit: Of the number; empty for one without.
        interval: Low and high end of its 90 % interval; None where it has none.
        least: Smallest number that passes; None for none.
        most: Largest number that passes; None for none.
        scale: What a distance from a limit is large or small beside; None for the limit itself, or one unit
            where that is 0.
    """

    name: str
    value: float
    unit: str = ""
    interval: tuple[float, float] | None = None
    least: float | None = None
    most: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        """Make numbers of numpy plain: JSON has no others."""
        for name in ("value", "least", "most"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None else float(number))
        if self.interval is not None:
            object.__setattr__(self, "interval", (float(self.interval[0]), float(self.interval[1])))

    @property
    def holds(self) -> bool:
        """Whether it keeps to its limits; one without limits does."""
        low, high = self.interval or (self.value, self.value)
        return (self.least is None or low >= self.least) and (self.most is None or high <= self.most)

    @property
    def margin(self) -> float:
        """How far it is from its nearest limit, relative to its scale; negative where it does not hold."""
        low, high = self.interval or (self.value, self.value)
        room = [math.inf]
        if self.least is not None:
            room.append((low - self.least) / (self.scale or abs(self.least) or 1.0))
        if self.most is not None:
            room.append((self.most - high) / (self.scale or abs(self.most) or 1.0))
        return min(room)

    @property
    def measured(self) -> str:
        """The number with its interval and unit, as people read it."""
        between = "" if self.interval is None else f" ({self.interval[0]:.3g} to {self.interval[1]:.3g})"
        return f"{self.value:.4g}{between}{self.unit and f' {self.unit}'}"

    @property
    def limits(self) -> str:
        """What it must keep to, as people read it; empty for nothing."""
        parts = [("at least", self.least), ("at most", self.most)]
        return ", ".join(f"{words} {limit:g}" for words, limit in parts if limit is not None)

    def as_json(self) -> dict[str, JSON]:
        """Return it as plain data, null for a number that there is not."""
        return {
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "unit": self.unit,
            "interval": None if self.interval is None else list(self.interval),
            "least": self.least,
            "most": self.most,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one check.

    Attributes:
        figures: What was measured.
        problems: What does not hold and is no number.
        skipped: Why the check was not made; None where it was. Figures none of which has a limit judge
            nothing, and are no check.
    """

    figures: tuple[Figure, ...] = ()
    problems: tuple[str, ...] = ()
    skipped: str | None = None

    def __post_init__(self) -> None:
        """Take what judges nothing for skipped."""
        if self.skipped is None and self.figures and not any(figure.limits for figure in self.figures):
            object.__setattr__(self, "skipped", f"none of its {len(self.figures)} figures has a limit here")

    @property
    def status(self) -> Status:
        """Failed where one figure does not hold, or there is a problem."""
        if self.problems or not all(figure.holds for figure in self.figures):
            return Status.FAILED
        return Status.PASSED if self.skipped is None else Status.SKIPPED

    @property
    def summary(self) -> str:
        """The reason, a problem, or the figure that is nearest to its limit or farthest beyond it."""
        if self.problems:
            return self.problems[0]
        if self.skipped is not None:
            return self.skipped
        limited = [figure for figure in self.figures if figure.limits]
        if not limited:  # a check that looks for problems alone, and found none
            return ""
        worst = min(limited, key=lambda figure: (figure.holds, figure.margin))
        return f"{worst.name}: {worst.measured}, {worst.limits}"

    def as_json(self) -> dict[str, JSON]:
        """Return it as plain data."""
        return {
            "status": str(self.status),
            "summary": self.summary,
            "figures": [figure.as_json() for figure in self.figures],
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Verification:
    """What all checks said of a model.

    Attributes:
        model: What a record says of it: its name, where it is from, the hash of its weights.
        title: Its own one line.
        setup: Machine, versions, seed, scans: all that is needed to do it again.
        outcomes: By the name of the check, in the order in which they were made.
        questions: What each check asks, by its name.
        limits: What it holds a model to, and why, by its name.
    """

    model: Mapping[str, JSON]
    title: str
    setup: Mapping[str, JSON]
    outcomes: Mapping[str, Outcome]
    questions: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(name for name, found in self.outcomes.items() if found.status is Status.FAILED)

    def count(self, status: Status) -> int:
        """Return how many checks came to that."""
        return sum(found.status is status for found in self.outcomes.values())

    def as_json(self) -> dict[str, JSON]:
        """Return all of it as plain data."""
        return {
            "model": dict(self.model),
            "title": self.title,
            "passed": not self.failed,
            "setup": dict(self.setup),
            "checks": [
                {
                    "check": name,
                    "question": self.questions[name],
                    "limit": self.limits[name],
                    **found.as_json(),
                }
                for name, found in self.outcomes.items()
            ],
        }
