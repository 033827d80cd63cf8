"""The one object that travels: voxels with their grid, meaning, origin and history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medrestore.errors import InputError
from medrestore.geometry import Geometry
from medrestore.provenance import JSON, History, Source, Step
from medrestore.types import Modality, RealArray

UNITS = {Modality.CT: "HU", Modality.MR: "arbitrary", Modality.UNKNOWN: "arbitrary"}
"""Units that follow from the modality when nothing else is said."""

# Voxels looked at together: the check for NaN must not cost another copy of the volume.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: frozen, checked, and never without its place in space.

    Two volumes compare by identity; compare `array` and `geometry` where values are meant.

    Attributes:
        array: Real voxels, axes (X, Y, Z) of the grid; a read-only view, not a copy, so do not change the
            array it was made from.
        geometry: The grid, RAS+ mm.
        modality: What kind of scanner.
        units: Units of the voxels: ``"HU"`` or ``"arbitrary"``.
        source: Where the voxels were read from, if known.
        history: What was done to them since, oldest first.

    Raises:
        InputError: The array is not real and finite, or its shape is not the grid's.
    """

    array: RealArray
    geometry: Geometry
    modality: Modality = Modality.UNKNOWN
    units: str = "arbitrary"
    source: Source | None = None
    history: History = ()

    def __post_init__(self) -> None:
        """Check the voxels against the grid and make them read-only."""
        array = np.asarray(self.array)
        name = self.source.path if self.source is not None and self.source.path else "array"
        _check_kind(array, name)
        if array.shape != self.geometry.shape:
            raise InputError(
                f"{name}: voxels of shape {array.shape} on a grid of shape {self.geometry.shape}"
            )
        _check_finite(array, name)
        view = array.view() if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        view.flags.writeable = False
        object.__setattr__(self, "array", view)
        object.__setattr__(self, "modality", Modality(self.modality))
        object.__setattr__(self, "history", tuple(self.history))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the constructor, so that the copy is checked and read-only too."""
        return Volume, (self.array, self.geometry, self.modality, self.units, self.source, self.history)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three array axes."""
        return self.geometry.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the three array axes, in mm."""
        return self.geometry.spacing

    def with_array(self, array: RealArray, step: Step) -> Volume:
        """Return the same scan with other voxels on the same grid, and `step` added to its history.

        Args:
            array: (X, Y, Z) voxels in the units of the scan.
            step: What was done.

        Raises:
            InputError: The array is not real and finite, or its shape is not the grid's.
        """
        return self.on_grid(array, self.geometry, step)

    def on_grid(self, array: RealArray, geometry: Geometry, step: Step) -> Volume:
        """Return the same scan on another grid, and `step` added to its history.

        The patient stays where he is: a point in RAS+ mm shows the same tissue on either grid.

        Raises:
            InputError: The array is not real and finite, or its shape is not the grid's.
        """
        return replace(self, array=array, geometry=geometry, history=(*self.history, step))

    @classmethod
    def from_array(
        cls,
        array: npt.ArrayLike,
        affine: npt.ArrayLike | None = None,
        modality: Modality = Modality.UNKNOWN,
        units: str | None = None,
    ) -> Volume:
        """Make a volume of an array in memory.

        Args:
            array: Real voxels, (X, Y, Z), or (X, Y) for one slice. Not copied.
            affine: 4x4, voxel indices to RAS+ mm; None means voxels of 1 mm with the first one at 0.
            modality: What kind of scanner.
            units: Units of the voxels; None means those of the modality (HU for CT).

        Raises:
            InputError: The array is not real, finite and of two or three axes.
            GeometryError: The affine is not finite and invertible, or an axis is empty.
        """
        voxels = np.asarray(array)
        if voxels.ndim not in (2, 3):
            raise InputError(
                f"array of shape {voxels.shape}, expected (X, Y, Z) or (X, Y); "
                "pass a time series one volume at a time"
            )
        details: dict[str, JSON] = {"dtype": voxels.dtype.newbyteorder("=").name, "slope": 1.0, "inter": 0.0}
        voxels = voxels[:, :, np.newaxis] if voxels.ndim == 2 else voxels
        geometry = Geometry(voxels.shape, np.eye(4) if affine is None else np.asarray(affine))
        modality = Modality(modality)
        source = Source("", "array", details=details)
        return cls(voxels, geometry, modality, UNITS[modality] if units is None else units, source)

    def as_modality(self, modality: Modality | str) -> Volume:
        """Return the same voxels as those of another modality, in its units: for files that do not say it.

        Raises:
            InputError: No modality has that name.
        """
        try:
            modality = Modality(modality)
        except ValueError:
            raise InputError(f"modality is {modality!r}; expected one of {', '.join(Modality)}") from None
        return replace(self, modality=modality, units=UNITS[modality])


def _check_kind(array: npt.NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name}: voxels of type {array.dtype}, expected real numbers; "
            "split colour into channels, and complex data into magnitude (and phase)"
        )


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield pieces of `array` without copying: flat runs in memory order, or slabs if it has gaps."""
    if array.flags.c_contiguous or array.flags.f_contiguous:
        flat = array.ravel(order="K")
        yield from (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    else:
        yield from array


def _check_finite(array: npt.NDArray[Any], name: str) -> None:
    if array.dtype.kind != "f" or all(np.isfinite(block).all() for block in _blocks(array)):
        return
    nan = sum(int(np.isnan(block).sum()) for block in _blocks(array))
    infinite = sum(int(np.isinf(block).sum()) for block in _blocks(array))
    first = next(
        (n, *np.argwhere(~np.isfinite(slab))[0].tolist())
        for n, slab in enumerate(array)
        if not np.isfinite(slab).all()
    )
    raise InputError(
        f"{name}: {nan + infinite} of {array.size} voxels are not finite ({nan} NaN, {infinite} infinite), "
        f"the first at index {tuple(int(i) for i in first)}; "
        "replace them before restoring, by the background for example"
    )


def stated_modality(volume: Volume) -> str | None:
    """Return the modality that a scan is said to be, in the terms of DICOM; None where nothing says it."""
    if volume.modality is not Modality.UNKNOWN:
        return volume.modality
    stated = None if volume.source is None else volume.source.details.get("Modality")
    return stated if isinstance(stated, str) and stated else None
