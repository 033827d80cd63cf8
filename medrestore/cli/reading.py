"""Options of every command that reads DICOM series."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from medrestore.io import ReadPolicy

_PANEL = "Reading DICOM"


class OnDefect(StrEnum):
    """What is done with a series that is no regular grid."""

    FAIL = "fail"
    RESAMPLE = "resample"
    SKIP = "skip"


class ValueScale(StrEnum):
    """Which scale is applied to stored values."""

    RESCALED = "rescaled"
    PHILIPS = "philips"
    REAL_WORLD = "real-world"


OnGap: TypeAlias = Annotated[
    OnDefect, typer.Option(help="Slices missing: resample interpolates them.", rich_help_panel=_PANEL)
]
OnDuplicate: TypeAlias = Annotated[
    OnDefect, typer.Option(help="Images in one place: resample takes their mean.", rich_help_panel=_PANEL)
]
OnTilt: TypeAlias = Annotated[
    OnDefect, typer.Option(help="Tilted gantry: resample makes the grid rectangular.", rich_help_panel=_PANEL)
]
OnNonuniform: TypeAlias = Annotated[
    OnDefect, typer.Option(help="Uneven distances: resample makes them even.", rich_help_panel=_PANEL)
]
Scale: TypeAlias = Annotated[
    ValueScale, typer.Option("--values", help="Scale of the values.", rich_help_panel=_PANEL)
]
SeriesName: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|UID", help="Which series; see `medrestore scan`.", rich_help_panel=_PANEL),
]


def read_policy(
    on_gap: OnDefect, on_duplicate: OnDefect, on_tilt: OnDefect, on_nonuniform: OnDefect, values: ValueScale
) -> ReadPolicy:
    """Return what the options ask for."""
    from medrestore.io import ReadPolicy

    return ReadPolicy(
        on_gap=on_gap.value,
        on_duplicate=on_duplicate.value,
        on_tilt=on_tilt.value,
        on_nonuniform=on_nonuniform.value,
        values=values.value,
    )
