"""The place of a voxel grid in the patient: RAS+ millimetres, float64, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from medrestore.errors import GeometryError
from medrestore.types import Float64Array

Shape = tuple[int, int, int]

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A parallelepiped this flat (volume over product of edges) cannot be told from a plane in float32 headers.
_FLAT = 1e-6
# Degrees of rotation below which a float32 header cannot be told from an aligned one.
_OBLIQUE_DEGREES = 0.01


def lps_to_ras(affine: npt.ArrayLike) -> Float64Array:
    """Turn a 4x4 affine to LPS+ (DICOM) into one to RAS+ (NIfTI), or back: it is its own inverse."""
    return np.asarray(_LPS_RAS @ np.asarray(affine, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid: how many voxels, and where voxel (i, j, k) lies.

    Attributes:
        shape: Voxels along the three array axes.
        affine: 4x4, from voxel indices (centres at integers) to RAS+ mm; a read-only float64 copy.

    Raises:
        GeometryError: The shape is not three positive integers, or the affine is not a finite, invertible
            4x4 with last row 0 0 0 1.
    """

    shape: Shape
    affine: Float64Array

    def __post_init__(self) -> None:
        """Check both fields and keep a private copy of the affine."""
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    def __eq__(self, other: object) -> bool:
        """Two grids are equal when every number is; `allclose` is the one with a tolerance."""
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and bool(np.array_equal(self.affine, other.affine))

    def __hash__(self) -> int:
        """Hash what `__eq__` compares (0.0 and -0.0 are equal)."""
        return hash((self.shape, tuple(self.affine.ravel().tolist())))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the constructor, so that the copy is read-only too."""
        return Geometry, (self.shape, self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the three array axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def origin(self) -> tuple[float, float, float]:
        """RAS+ mm of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3].tolist()
        return x, y, z

    @property
    def direction(self) -> Float64Array:
        """3x3; column n is the unit vector of array axis n in RAS+."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing))

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """Anatomical end of each array axis, such as ``("L", "A", "S")``; the nearest one when oblique."""
        # nibabel takes a third of a second to import, which `medrestore models` must not pay.
        from nibabel.orientations import aff2axcodes  # noqa: PLC0415

        first, second, third = cast(Any, aff2axcodes)(self.affine)
        return str(first), str(second), str(third)

    @property
    def is_oblique(self) -> bool:
        """Whether an array axis leaves the patient's axes by more than 0.01 degrees."""
        nearest = np.abs(self.direction).max(axis=0)
        return bool(np.any(nearest < np.cos(np.deg2rad(_OBLIQUE_DEGREES))))

    def world(self, ijk: npt.ArrayLike) -> Float64Array:
        """Return RAS+ mm, shape (..., 3), of voxel indices `ijk`, shape (..., 3), which may be fractions.

        Raises:
            GeometryError: The last axis of `ijk` does not have length 3.
        """
        index = np.asarray(ijk, dtype=np.float64)
        if index.ndim == 0 or index.shape[-1] != 3:
            raise GeometryError(f"voxel indices of shape {index.shape}, expected (..., 3)")
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def allclose(self, other: Geometry, tol_mm: float = 1e-4) -> bool:
        """Whether the shapes are equal and no voxel lies more than `tol_mm` from its twin.

        The distance is affine in the index, so its maximum is at one of the eight corners.
        """
        if self.shape != other.shape:
            return False
        corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.asarray(self.shape) - 1)
        apart = np.linalg.norm(self.world(corners) - other.world(corners), axis=-1)
        return bool(apart.max() <= tol_mm)

    def cropped(self, slices: Sequence[slice]) -> Geometry:
        """Return the grid of ``array[slices]``; negative bounds and steps mean what they mean in numpy.

        Raises:
            GeometryError: Not three slices, or nothing is left along an axis.
        """
        if len(slices) != 3 or not all(isinstance(item, slice) for item in slices):
            raise GeometryError(f"crop {slices!r}, expected three slices")
        ranges = [range(*item.indices(size)) for item, size in zip(slices, self.shape, strict=True)]
        if not all(ranges):
            raise GeometryError(f"crop {slices!r} leaves nothing of a grid of shape {self.shape}")
        affine = self.affine.copy()
        affine[:3, 3] = self.world([item.start for item in ranges])
        affine[:3, :3] *= [item.step for item in ranges]
        first, second, third = (len(item) for item in ranges)
        return Geometry((first, second, third), affine)


def _checked_shape(shape: Any) -> Shape:
    try:
        sizes = tuple(shape)
        whole = tuple(int(size) for size in sizes)
    except (TypeError, ValueError, OverflowError) as error:
        raise GeometryError(f"grid shape {shape!r}, expected three positive integers") from error
    if len(whole) != 3 or whole != sizes or min(whole) < 1:
        raise GeometryError(f"grid shape {shape!r}, expected three positive integers")
    return whole


def _checked_affine(affine: Any) -> Float64Array:
    try:
        matrix = np.array(affine, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise GeometryError(f"affine is not a matrix of numbers ({error})") from error
    if matrix.shape != (4, 4):
        raise GeometryError(f"affine of shape {matrix.shape}, expected (4, 4)")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        raise GeometryError(
            f"affine holds {matrix[row, column]} in row {row}, column {column}; expected finite mm"
        )
    if not np.array_equal(matrix[3], [0.0, 0.0, 0.0, 1.0]):
        raise GeometryError(f"affine has last row {matrix[3].tolist()}, expected [0, 0, 0, 1]")
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    flatness = abs(float(np.linalg.det(matrix[:3, :3] / edges))) if edges.min() > 0 else 0.0
    if not flatness >= _FLAT:
        raise GeometryError(
            f"affine is singular (voxel edges of {edges.tolist()} mm span no volume); "
            "the header's orientation is damaged or was never set"
        )
    matrix.flags.writeable = False
    return matrix
