"""The axis across the slices of a scan, and the grid on which thick slices are resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medrestore.errors import ConfigError, GeometryError
from medrestore.geometry import Geometry
from medrestore.options import RestoreOptions, parse_spacing
from medrestore.physics.slices import SOFTNESS, SliceStack
from medrestore.plugin import ModelSpec
from medrestore.plugin.spec import LEAST_FACTOR
from medrestore.provenance import JSON
from medrestore.types import FloatArray, RealArray, Task
from medrestore.volume import Volume

AXES = "ijk"

SLICE_OPTIONS = ("spacing", "slice_axis", "slice_profile", "slice_thickness")
"""Fields of `RestoreOptions` that mean nothing to denoising."""

THICK = 1.2
"""How many times wider than along the others voxels must be along an axis for it to be across the slices."""

WIDTHS = (0.1, 2.5)
"""Least and largest thickness, as fractions of the slice distance: a value beyond them is a mistake."""

SPARE = 0.05
"""Part of a plane by which the field of view may fall short: voxel sizes of headers are rounded."""


@dataclass(frozen=True)
class SlicePlan:
    """Where the slices lie, and where the planes of the result will lie.

    Attributes:
        axis: Array axis across the slices.
        stack: The measurement, in planes of the result.
        geometry: Grid of the result: the grid of the scan within the slices, and across them the same field
            of view or less than one plane more.
        spacing_mm: Distance of slice centres.
        target_mm: Distance of the planes.
        thickness_mm: Full width of a slice at half maximum.
        profile: Name of the slice profile.
    """

    axis: int
    stack: SliceStack
    geometry: Geometry
    spacing_mm: float
    target_mm: float
    thickness_mm: float
    profile: str

    def to_stack(self, array: RealArray) -> RealArray:
        """Move the slice axis of an (X, Y, Z) array last."""
        return np.moveaxis(array, self.axis, -1)

    def from_stack(self, array: FloatArray) -> FloatArray:
        """Move the slice axis from the end to its place in the scan."""
        return np.ascontiguousarray(np.moveaxis(array, -1, self.axis))

    @property
    def facts(self) -> dict[str, JSON]:
        """The plan as a record states it."""
        return {
            "axis": AXES[self.axis],
            "spacing_mm": self.spacing_mm,
            "target_mm": self.target_mm,
            "factor": self.stack.spacing,
            "profile": self.profile,
            "thickness_mm": self.thickness_mm,
        }


def plan_slices(scan: Volume, options: RestoreOptions) -> SlicePlan:
    """Find the slice axis of a scan, and the grid to resolve the slices on.

    Args:
        scan: The stack, any orientation.
        options: `spacing`, `slice_axis`, `slice_profile`, `slice_thickness`.

    Raises:
        GeometryError: There is one slice only, or the slices are as close as the voxels asked for.
        ConfigError: The axis cannot be told, or the thickness is no slice's.
    """
    return _plan(scan.geometry, options, _stated_thickness(scan))


def _plan(scan: Geometry, options: RestoreOptions, stated_mm: float | None) -> SlicePlan:
    """Return the plan of a stack on a grid; `stated_mm` is None if the header states no thickness."""
    axis = _resolved_axis(scan, options)
    spacing = scan.spacing[axis]
    requested = parse_spacing(options.spacing)
    target = float(np.mean(np.delete(scan.spacing, axis))) if requested is None else requested
    slices, factor = scan.shape[axis], spacing / target
    if slices < 2:
        raise GeometryError(f"one slice along axis {AXES[axis]}: there is nothing between slices to resolve")
    if factor < LEAST_FACTOR:
        raise GeometryError(
            f"slices {spacing:.3g} mm apart along axis {AXES[axis]}, voxels of {target:.3g} mm asked for: "
            f"nothing to resolve; expected a ratio of {LEAST_FACTOR} or more, see --slice-axis and --spacing"
        )
    thickness = _thickness(options, spacing, stated_mm)
    planes = max(math.ceil(slices * factor - SPARE), 1)
    stack = SliceStack(
        planes,
        slices,
        spacing=factor,
        width=thickness / target,
        softness=SOFTNESS[options.slice_profile],
        first=(planes - 1) / 2 - factor * (slices - 1) / 2,
    )
    geometry = _fine_grid(scan, axis, stack)
    return SlicePlan(axis, stack, geometry, spacing, target, thickness, options.slice_profile)


def network_shape(
    scan: Geometry, grid: Geometry, spec: ModelSpec, options: RestoreOptions
) -> tuple[int, int, int]:
    """Return the shape of a network's input: that of the grid, slices last where the model tells slices."""
    if spec.task is Task.SUPERRES:
        axis = _resolved_axis(scan, options)
    else:
        axis = ct_slice_axis(grid) if spec.is_ct else 2
    shape = [*grid.shape]
    shape.append(shape.pop(axis))
    return shape[0], shape[1], shape[2]


def ct_slice_axis(geometry: Geometry) -> int:
    """Return the array axis across the slices of a CT scan, along which noise differs from that within them.

    It is the axis of the widest voxels or, where no axis has clearly wider voxels, the axis nearest to the
    patient's long axis, as thin slices are axial.
    """
    *_, second, widest = sorted(geometry.spacing)
    if widest > THICK * second:
        return int(np.argmax(geometry.spacing))
    return int(np.argmax(np.abs(geometry.direction[2])))


def target_grid(scan: Geometry, task: Task, options: RestoreOptions) -> Geometry:
    """Return the grid that the result of a task will have, from the grid of the scan.

    Raises:
        GeometryError, ConfigError: See `plan_slices`; options for slices in a task that resolves none.
    """
    if task is Task.SUPERRES:
        return _plan(scan, options, None).geometry
    defaults = RestoreOptions()
    given = [name for name in SLICE_OPTIONS if getattr(options, name) != getattr(defaults, name)]
    if given:
        raise ConfigError(
            f"{', '.join(given)} given, and the task is {task}: they are for super-resolution; leave them "
            "out, or choose a model for it (--task superres)"
        )
    return scan


def _resolved_axis(scan: Geometry, options: RestoreOptions) -> int:
    if options.slice_axis is not None:
        return AXES.index(options.slice_axis)
    order = np.argsort(scan.spacing)[::-1]
    largest, second = (scan.spacing[axis] for axis in order[:2])
    if largest < 1.05 * second and options.spacing != "iso":
        raise ConfigError(
            f"voxels of {' x '.join(f'{size:.3g}' for size in scan.spacing)} mm do not say along which axis "
            "they are slices; name it with --slice-axis, or slice_axis=... in Python"
        )
    return int(order[0])


def _thickness(options: RestoreOptions, spacing: float, stated_mm: float | None) -> float:
    """Return the thickness that is given, or that a DICOM header states, or that leaves no gap."""
    low, high = (share * spacing for share in WIDTHS)
    if options.slice_thickness is not None:
        if not low <= options.slice_thickness <= high:
            raise ConfigError(
                f"slice_thickness is {options.slice_thickness:g} mm for slices {spacing:.3g} mm apart; "
                f"expected {low:.3g} to {high:.3g} mm"
            )
        return options.slice_thickness
    return stated_mm if stated_mm is not None and low <= stated_mm <= high else spacing


def _stated_thickness(scan: Volume) -> float | None:
    stated = None if scan.source is None else scan.source.details.get("SliceThickness")
    return float(stated) if isinstance(stated, int | float) else None


def _fine_grid(grid: Geometry, axis: int, stack: SliceStack) -> Geometry:
    """Return the grid of the planes: plane p lies at slice (p - first) / spacing of the scan."""
    shape, start = list(grid.shape), np.zeros(3)
    shape[axis], start[axis] = stack.planes, -stack.first / stack.spacing
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(start)
    affine[:3, axis] /= stack.spacing
    return Geometry((shape[0], shape[1], shape[2]), affine)
