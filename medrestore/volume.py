"""The one object that travels: voxels with their grid, meaning, origin and history."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medrestore.convert import from_nibabel, from_sitk, is_on_disk, to_nibabel, to_sitk, to_torch
from medrestore.errors import InputError
from medrestore.findings import MODALITY_CONTRADICTED, Finding
from medrestore.geometry import Geometry
from medrestore.picture import middle_slices
from medrestore.provenance import JSON, History, Source, Step
from medrestore.types import Modality, RealArray
from medrestore.voxels import as_float32, check_voxels, unmasked

if TYPE_CHECKING:
    import torch
    from nibabel.spatialimages import SpatialImage

UNITS = {Modality.CT: "HU", Modality.MR: "arbitrary", Modality.UNKNOWN: "arbitrary"}
"""Units that follow from the modality when nothing else is said."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: frozen, checked, and never without its place in space.

    Two volumes compare by identity; compare `array` and `geometry` where values are meant. numpy takes a
    volume for its voxels: ``numpy.asarray(volume)`` is `array`. A notebook shows the three middle slices.

    Attributes:
        array: Real voxels, axes (X, Y, Z) of the grid; a read-only view, not a copy, so do not change the
            array it was made from.
        geometry: The grid, RAS+ mm.
        modality: What kind of scanner.
        units: Units of the voxels: ``"HU"`` or ``"arbitrary"``.
        source: Where the voxels were read from, if known.
        history: What was done to them since, oldest first.

    Raises:
        InputError: The array is not real and finite, masks voxels, or its shape is not the grid's; or no
            modality has that name.
    """

    array: RealArray
    geometry: Geometry
    modality: Modality = Modality.UNKNOWN
    units: str = "arbitrary"
    source: Source | None = None
    history: History = ()

    def __post_init__(self) -> None:
        """Check the voxels against the grid and make them read-only."""
        array = unmasked(self.array, self.name)
        check_voxels(array, self.name)
        if array.shape != self.geometry.shape:
            raise InputError(
                f"{self.name}: voxels of shape {array.shape} on a grid of shape {self.geometry.shape}"
            )
        view = array.view() if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        view.flags.writeable = False
        object.__setattr__(self, "array", view)
        object.__setattr__(self, "modality", _modality(self.modality))
        object.__setattr__(self, "history", tuple(self.history))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the constructor, so that the copy is checked and read-only too."""
        return Volume, (self.array, self.geometry, self.modality, self.units, self.source, self.history)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> RealArray:
        """Return the read-only voxels, or a copy where the type or `copy` asks for one."""
        return np.array(self.array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        """Say what a volume is, and not where it comes from: paths may hold names."""
        voxels = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{size:.3g}" for size in self.spacing)
        units = "arbitrary units" if self.units == "arbitrary" else self.units
        low, high = float(self.array.min()), float(self.array.max())
        return f"Volume({voxels} voxels of {spacing} mm, {self.modality}, {low:.4g} to {high:.4g} {units})"

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook shows: three middle slices, to scale."""
        return middle_slices(self.array, self.geometry, self.modality)

    @property
    def name(self) -> str:
        """The file or folder that it was read from, else ``"array"``: for messages."""
        return self.source.path if self.source is not None and self.source.path else "array"

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
        modality: Modality | str = Modality.UNKNOWN,
        units: str | None = None,
    ) -> Volume:
        """Make a volume of an array in memory.

        Args:
            array: Real voxels, (X, Y, Z), or (X, Y) for one slice. Not copied.
            affine: 4x4, voxel indices to RAS+ mm; None means voxels of 1 mm with the first one at 0.
            modality: What kind of scanner, a name of it in any case.
            units: Units of the voxels; None means those of the modality (HU for CT).

        Raises:
            InputError: The array is not real, finite and of two or three axes, or masks voxels; or it is a
                volume already.
            GeometryError: The affine is not finite and invertible, or an axis is empty.
        """
        if isinstance(array, Volume):
            raise InputError("the array is a Volume, which has a grid already; use it as it is")
        voxels = unmasked(array, "array")
        if voxels.ndim not in (2, 3):
            raise InputError(
                f"array of shape {voxels.shape}, expected (X, Y, Z) or (X, Y); "
                "pass a time series one volume at a time"
            )
        details: dict[str, JSON] = {"dtype": voxels.dtype.newbyteorder("=").name, "slope": 1.0, "inter": 0.0}
        voxels = voxels[:, :, np.newaxis] if voxels.ndim == 2 else voxels
        geometry = Geometry(voxels.shape, np.eye(4) if affine is None else np.asarray(affine))
        modality = _modality(modality)
        source = Source("", "array", details=details)
        return cls(voxels, geometry, modality, UNITS[modality] if units is None else units, source)

    @classmethod
    def from_nibabel(cls, image: SpatialImage, modality: Modality | str = Modality.UNKNOWN) -> Volume:
        """Make a volume of an image of nibabel, with its place and its scaling.

        What `nibabel.load` gives becomes float32, as in `medrestore.read`; voxels in memory keep their type
        and are not copied. Nothing else of the header is kept, nor the name of the file.

        Args:
            image: A spatial image of one volume.
            modality: What kind of scanner.

        Raises:
            InputError: It is no image of one volume with real, finite voxels.
            GeometryError: Its affine is not finite and invertible.
        """
        voxels, affine, placement = from_nibabel(image)
        volume = cls.from_array(voxels, affine, modality)
        details = {**({} if volume.source is None else volume.source.details), **placement}
        array = as_float32(volume.array, "image of nibabel") if is_on_disk(image) else volume.array
        return replace(volume, array=array, source=Source("", "array", details=details))

    def to_nibabel(self) -> SpatialImage:
        """Return a NIfTI image of nibabel: a copy of the voxels, the affine, millimetres.

        Booleans become uint8 and half floats float32, as NIfTI has neither.
        """
        return to_nibabel(self.array, self.geometry, {} if self.source is None else self.source.details)

    @classmethod
    def from_sitk(cls, image: Any, modality: Modality | str = Modality.UNKNOWN) -> Volume:
        """Make a volume of an image of SimpleITK, whose LPS+ becomes RAS+; the voxels are copied.

        Args:
            image: A `SimpleITK.Image` of three axes, or of two for one slice.
            modality: What kind of scanner.

        Raises:
            InputError: It is no such image, or its voxels are not real and finite.
            ConfigError: SimpleITK is not installed.
        """
        return cls.from_array(*from_sitk(image), modality)

    def to_sitk(self) -> Any:
        """Return a `SimpleITK.Image`, LPS+ as it has it, with a copy of the voxels.

        Booleans become uint8 and half floats float32, as SimpleITK has neither.

        Raises:
            ConfigError: SimpleITK is not installed.
        """
        return to_sitk(self.array, self.geometry)

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a copy of the voxels as a tensor (X, Y, Z) on the CPU.

        Args:
            dtype: Type of the tensor; None for float32.

        Raises:
            InputError: float32 does not hold the voxels.
        """
        return to_torch(self.array, dtype)

    def as_modality(self, modality: Modality | str) -> Volume:
        """Return the same voxels as those of another modality, in its units: for files that do not say it.

        Raises:
            InputError: No modality has that name.
        """
        modality = _modality(modality)
        return replace(self, modality=modality, units=UNITS[modality])


def _modality(name: Modality | str) -> Modality:
    try:
        return Modality(name)
    except ValueError:
        raise InputError(f"modality is {name!r}; expected one of {', '.join(Modality)}") from None


def taken_as(volume: Volume, given: Modality, by: str) -> tuple[Volume, tuple[Finding, ...]]:
    """Return a scan as one of the modality that its caller says, and a finding where it says another.

    Args:
        volume: The scan, as it was read.
        given: What the caller says.
        by: How the caller says it, such as ``"--modality"``.
    """
    stated = stated_modality(volume)
    if stated == given:
        return volume, ()
    if stated is None:
        return volume.as_modality(given), ()
    text = f"the scan says {stated}, {by} says {given}"
    return volume.as_modality(given), (MODALITY_CONTRADICTED.found(text, stated=stated, given=given),)


def stated_modality(volume: Volume) -> str | None:
    """Return the modality that a scan is said to be, in the terms of DICOM; None where nothing says it."""
    if volume.modality is not Modality.UNKNOWN:
        return volume.modality
    stated = None if volume.source is None else volume.source.details.get("Modality")
    return stated if isinstance(stated, str) and stated else None
