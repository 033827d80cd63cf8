"""What is done with series that are no regular grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from medrestore.errors import ConfigError
from medrestore.io.dicom.parse.rescale import Values
from medrestore.io.dicom.plan.stack import GridDefect
from medrestore.provenance import JSON

Action = Literal["fail", "resample", "skip"]
"""Refuse the series; bring it onto a regular grid and record that; or leave it out."""


@dataclass(frozen=True)
class ReadPolicy:
    """How DICOM series are read.

    Attributes:
        on_gap: Missing slices; ``"resample"`` interpolates them from their neighbours.
        on_duplicate: Several different images in one place, which nothing tells apart; ``"resample"`` takes
            their mean. Copies with the same pixels are always taken once.
        on_tilt: A tilted gantry; ``"resample"`` shifts slices within their planes onto a rectangular grid.
        on_nonuniform: Slices at uneven distances, or out of line; ``"resample"`` interpolates.
        values: ``"rescaled"`` as every viewer shows them (HU for CT), ``"philips"`` for Philips'
            floating-point values, ``"real-world"`` for the real world value mapping.

    Raises:
        ConfigError: A value that is none of these.
    """

    on_gap: Action = "fail"
    on_duplicate: Action = "fail"
    on_tilt: Action = "fail"
    on_nonuniform: Action = "fail"
    values: Values = "rescaled"

    def __post_init__(self) -> None:
        """Check every field."""
        for name, value in asdict(self).items():
            allowed = get_args(Values if name == "values" else Action)
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")

    def action(self, flaw: GridDefect) -> Action:
        """Return what is done about a flaw."""
        actions: dict[GridDefect, Action] = {
            GridDefect.GAP: self.on_gap,
            GridDefect.DUPLICATE: self.on_duplicate,
            GridDefect.TILT: self.on_tilt,
            GridDefect.NONUNIFORM: self.on_nonuniform,
        }
        return actions[flaw]

    def to_json(self) -> dict[str, JSON]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> ReadPolicy:
        """Make a policy of what `to_json` returned.

        Raises:
            ConfigError: A value that is not allowed.
        """
        return cls(**{name: str(value) for name, value in fields.items()})  # type: ignore[arg-type]
