"""A series as it is planned: its volumes, its class, the action planned for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrestore.findings import Finding as Remark
from medrestore.geometry import Geometry
from medrestore.io.dicom.parse.header import LeftOut, SliceHeader
from medrestore.io.dicom.plan.grid import Layout
from medrestore.io.dicom.plan.stack import Finding, Stack
from medrestore.io.dicom.plan.volumes import Label

# Cosine of the angle up to which slices are called axial, say: five degrees.
_NEARLY = 0.9962
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class PlannedVolume:
    """One volume of a series: its slices, and its label (echo, time, b-value ...) among the others."""

    stack: Stack
    label: Label = ()


@dataclass(frozen=True)
class PlannedSeries:
    """A series: volumes on one grid.

    Attributes:
        number: Number in the plan, from 1.
        volumes: Its volumes, in the order of their labels.
        findings: Defects that keep a volume from being a regular grid.
        layout: Grid that the series is read onto; None if the series is refused.
        action: ``"fail"``, ``"skip"``, ``"resample"`` or ``"read"``.
        reason: Why the series is refused or skipped; empty otherwise.
        notes: Oddities that need no decision.
        blocker: A file that cannot be used and may have slices of the series; None where there is none.
    """

    number: int
    volumes: tuple[PlannedVolume, ...]
    findings: tuple[Finding, ...]
    layout: Layout | None
    action: str
    reason: str = ""
    notes: tuple[Remark, ...] = ()
    blocker: LeftOut | None = None

    @property
    def head(self) -> SliceHeader:
        """The first slice, which stands for all."""
        return self.volumes[0].stack.places[0][0]

    @property
    def heads(self) -> tuple[SliceHeader, ...]:
        """All slices."""
        return tuple(head for volume in self.volumes for place in volume.stack.places for head in place)

    @property
    def home(self) -> Path:
        """The deepest folder that holds all its files."""
        return Path(os.path.commonpath([head.path.parent for head in self.heads]))

    @property
    def refusal(self) -> str:
        """Why it is refused, without names of files, which may tell a patient's; empty if it is not."""
        if self.blocker is not None:
            return f"a file that may be of it is {self.blocker.why}: see medrestore scan"
        return f"no regular grid: {self.kind}" if self.action == "fail" else ""

    @property
    def kind(self) -> str:
        """Class: ``regular``, ``single``, ``gap(2)``, ``tilt(18.5)``, ``multi-volume(3)`` and so on."""
        labels = list(dict.fromkeys(finding.label for finding in self.findings))
        if len(self.volumes) > 1:
            labels.insert(0, f"multi-volume({len(self.volumes)})")
        elif not labels:
            labels = ["single" if len(self.volumes[0].stack.places) == 1 else "regular"]
        return "+".join(labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices as they lie in the files."""
        rows, columns = self.head.size
        return columns, rows, len(self.volumes[0].stack.places)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between columns, rows and slices (the usual distance along the normal), mm."""
        return self.head.spacing[1], self.head.spacing[0], self.volumes[0].stack.distance

    @property
    def plane(self) -> str:
        """``axial``, ``coronal`` or ``sagittal``; ``oblique axial``, say, from five degrees on."""
        normal = np.abs(np.cross(*np.asarray(self.head.orientation)))
        name = _PLANES[int(normal.argmax())]
        return name if normal.max() > _NEARLY else f"oblique {name}"

    @property
    def units(self) -> str:
        """Units of the rescaled values."""
        return "HU" if self.head.modality == "CT" else "arbitrary"

    @property
    def geometry(self) -> Geometry | None:
        """The grid that the series is read onto; None if the series is refused."""
        return None if self.layout is None else self.layout.geometry


def differences(first: SliceHeader, second: SliceHeader) -> str:
    """Return the differences that keep two slices of one series from being one volume."""
    pairs = {
        "frame of reference": (first.frame_of_reference, second.frame_of_reference),
        "modality": (first.modality, second.modality),
        "image type": (first.image_type, second.image_type),
        "rows and columns": (first.size, second.size),
        "orientation": (first.orientation, second.orientation),
        "pixel spacing": (first.spacing, second.spacing),
        "rescale type": (first.scaling.rescale.units, second.scaling.rescale.units),
        **{name: (value, dict(second.traits).get(name)) for name, value in first.traits},
    }
    return ", ".join(name for name, (one, other) in pairs.items() if one != other) or "place alone"


def describe(series: PlannedSeries) -> str:
    """Return a line that tells a series from the others, without words from its header."""
    columns, rows, slices = series.shape
    volumes = f" x {len(series.volumes)}" if len(series.volumes) > 1 else ""
    kind = "\\".join(series.head.image_type[:4])
    return (
        f"{series.number} = {series.head.series} ({series.plane} {series.head.modality} {columns} x {rows} x "
        f"{slices}{volumes}, {len({head.path for head in series.heads})} files such as "
        f"{series.head.path.name}, {kind or 'no image type'})"
    )
