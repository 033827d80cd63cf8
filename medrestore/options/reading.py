"""How scans are read: what is done with DICOM series that are no regular grid, and which series is meant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, check_choices, option
from medrestore.provenance import JSON

Action = Literal["fail", "resample", "skip"]
"""Refuse the series; bring it onto a regular grid and record that; or leave it out."""

_LARGEST = 3.4e38
"""Of float32, in which voxels are held."""

Values = Literal["rescaled", "philips", "real-world", "stored"]
"""Which scale is applied to stored values: the modality's, Philips', the real world mapping's, or none."""


def _info(text: str, metavar: str | None = None, flag: str | None = None) -> OptionInfo:
    return OptionInfo(text, "Reading DICOM", metavar, flag)


@dataclass(frozen=True)
class ReadPolicy:
    """How scans are read.

    Attributes:
        on_gap: Missing slices; ``"resample"`` interpolates them from their neighbours. Here and
            below, ``"skip"`` leaves such a series out of the choice, and ``"fail"`` refuses it.
        on_duplicate: Several different images in one place, which nothing tells apart; ``"resample"`` takes
            their mean. Copies with the same pixels are always taken once.
        on_tilt: A tilted gantry; ``"resample"`` shifts slices within their planes onto a rectangular grid.
        on_nonuniform: Slices at uneven distances, or out of line; ``"resample"`` interpolates.
        values: ``"rescaled"`` as every viewer shows them (HU for CT), ``"philips"`` for Philips'
            floating-point values, ``"real-world"`` for the real world value mapping, ``"stored"`` for the
            numbers in the file, whatever its header says of them; those of CT are taken for HU.
        nan_fill: Value for voxels that are NaN or infinite, as outside of a mask; the result has numbers
            there too, and NaN does not come back. None for no value, and such a scan is refused.

    Raises:
        ConfigError: A value that is none of these.
    """

    on_gap: Action = option("fail", _info("Slices missing: resample interpolates them."))
    on_duplicate: Action = option("fail", _info("Images in one place: resample takes their mean."))
    on_tilt: Action = option("fail", _info("Tilted gantry: resample makes the grid rectangular."))
    on_nonuniform: Action = option("fail", _info("Uneven distances: resample makes them even."))
    values: Values = option("rescaled", _info("Scale of the values."))
    nan_fill: float | None = option(
        None, OptionInfo("Value for voxels that are NaN or infinite: else refused.", "Reading", "VALUE")
    )

    def __post_init__(self) -> None:
        """Check every field."""
        check_choices(self)
        if self.nan_fill is None:
            return
        try:
            value = float(self.nan_fill)
        except (TypeError, ValueError):
            value = math.nan
        if not abs(value) <= _LARGEST:
            raise ConfigError(f"--nan-fill is {self.nan_fill!r}; expected a number that float32 holds")
        object.__setattr__(self, "nan_fill", value)

    @property
    def is_for_dicom(self) -> bool:
        """Whether anything is asked for that DICOM alone has."""
        return replace(self, nan_fill=None) != ReadPolicy()

    def for_files(self) -> ReadPolicy:
        """Return what is asked for of a scan that is no DICOM."""
        return ReadPolicy(nan_fill=self.nan_fill)

    def action(self, flaw: str) -> Action:
        """Return what is done about a flaw: ``"gap"``, ``"duplicate"``, ``"tilt"`` or ``"nonuniform"``."""
        action: Action = getattr(self, f"on_{flaw}")
        return action

    def to_json(self) -> dict[str, JSON]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> ReadPolicy:
        """Make a policy of what `to_json` returned.

        Raises:
            ConfigError: A value that is not allowed.
        """
        return cls(**fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ReadRequest:
    """How a scan is to be read.

    Attributes:
        policy: What is done with DICOM series that are no regular grid.
        series: Which of several DICOM series, by number or UID; None for the one that there is.
    """

    policy: ReadPolicy = field(default_factory=ReadPolicy)
    series: str | None = option(
        None, OptionInfo("Which series; see `medrestore scan`.", "Reading DICOM", "NUMBER|UID", shared=False)
    )
