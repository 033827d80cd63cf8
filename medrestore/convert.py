"""Voxels and grids to images of other packages and back; each package is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medrestore.errors import ConfigError, InputError
from medrestore.geometry import Geometry, lps_to_ras
from medrestore.provenance import JSON
from medrestore.types import Float64Array, RealArray
from medrestore.voxels import as_float32

if TYPE_CHECKING:
    import torch
    from nibabel.spatialimages import SpatialImage

# The largest axis that NIfTI-1 can hold: its sizes are int16.
_NIFTI1_AXIS = 32767
_ALIGNED = 2
_PLACED_MM = 1e-3

NIFTI_FORM_CODES = range(6)
"""Form codes that NIfTI knows: unknown, scanner, aligned, Talairach, MNI, another template."""

NIFTI_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
"""How many mm are one of the units of length of NIfTI."""


def from_nibabel(image: SpatialImage) -> tuple[RealArray, Float64Array, dict[str, JSON]]:
    """Return the voxels of an image of nibabel, its affine to RAS+ mm, and what a writer of NIfTI needs.

    Axes of length 1 behind the third are dropped; the voxels of an image in memory are not copied.

    Raises:
        InputError: It is no image with voxels and an affine.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.spatialimages import SpatialImage

    if not isinstance(image, SpatialImage) or image.affine is None:
        raise InputError(
            f"an object of type {type(image).__name__}; expected a spatial image of nibabel with an affine, "
            "as nibabel.load gives one"
        )
    voxels = np.asanyarray(image.dataobj)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    affine = np.array(image.affine, dtype=np.float64)
    header = image.header
    if not isinstance(header, Nifti1Header):
        return voxels, affine, {}
    affine[:3] *= NIFTI_MM[nifti_units(header)[0]]
    return voxels, affine, {**_form_codes(header), "affine": affine.tolist()}


def nifti_units(header: Any) -> tuple[str, str, bool]:
    """Return the units of length and time of a NIfTI header, and whether NIfTI knows both; else unknown."""
    from nibabel.nifti1 import unit_codes

    code, found = int(header["xyzt_units"]), ["unknown", "unknown"]
    known = True
    for place, part in enumerate((code % 8, code - code % 8)):
        try:
            found[place] = str(unit_codes.label[part])
        except KeyError:
            known = False
    return found[0], found[1], known


def _form_codes(header: Any) -> dict[str, JSON]:
    codes = {name: int(header[name]) for name in ("sform_code", "qform_code")}
    return {name: code if code in NIFTI_FORM_CODES else 0 for name, code in codes.items()}


def is_on_disk(image: SpatialImage) -> bool:
    """Whether the voxels of an image are read from its file whenever they are asked for."""
    from nibabel.arrayproxy import is_proxy

    return bool(is_proxy(image.dataobj))


def to_nibabel(array: RealArray, geometry: Geometry, details: Mapping[str, JSON]) -> SpatialImage:
    """Return a NIfTI image of nibabel with a copy of the voxels.

    Args:
        array: (X, Y, Z) voxels; types that NIfTI does not have become the next one that holds all values.
        geometry: Their grid.
        details: Of the source: its codes of sform and qform, as far as it had some.
    """
    import nibabel as nib

    voxels = np.array(_common(array))
    kind = nib.Nifti1Image if max(geometry.shape) <= _NIFTI1_AXIS else nib.Nifti2Image
    image = cast(Any, kind)(voxels, geometry.affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    code = _form_code(image.header, geometry, details)
    image.set_qform(geometry.affine, code, update_affine=False)
    image.set_sform(geometry.affine, code, update_affine=False)
    return cast("SpatialImage", image)


def _form_code(header: Any, geometry: Geometry, details: Mapping[str, JSON]) -> int:
    """Return what the forms lead to; 0 where the source has no place, and the voxel sizes alone give it."""
    code = int(cast(int, details.get("sform_code") or details.get("qform_code") or 0))
    base = Geometry(geometry.shape, header.get_base_affine())
    if code == 0 and "sform_code" in details and geometry.allclose(base, _PLACED_MM):
        return 0
    return code or _ALIGNED


def from_sitk(image: Any) -> tuple[RealArray, Float64Array]:
    """Return the voxels, (X, Y, Z) or (X, Y), of an image of SimpleITK and the affine to RAS+ mm; a copy.

    Raises:
        InputError: It is no image of two or three axes with one number a voxel.
        ConfigError: SimpleITK is not installed.
    """
    sitk = _sitk()
    if not isinstance(image, sitk.Image):
        raise InputError(f"an object of type {type(image).__name__}; expected a SimpleITK image")
    axes, channels = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if axes not in (2, 3) or channels != 1:
        raise InputError(
            f"an image of SimpleITK of {axes} axes and {channels} numbers a voxel; expected 2 or 3 axes and "
            "one number: pass a series one volume at a time, and colour one channel at a time"
        )
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(image.GetDirection(), (axes, axes)) * image.GetSpacing()
    affine[:axes, 3] = image.GetOrigin()
    # SimpleITK hands arrays over with the axes the other way round.
    return sitk.GetArrayFromImage(image).T, lps_to_ras(affine)


def to_sitk(array: RealArray, geometry: Geometry) -> Any:
    """Return an image of SimpleITK, LPS+ as it has it, with a copy of the voxels.

    Args:
        array: (X, Y, Z) voxels; types that SimpleITK does not have become the next one that holds all values.
        geometry: Their grid.

    Raises:
        ConfigError: SimpleITK is not installed.
    """
    image = _sitk().GetImageFromArray(np.ascontiguousarray(_common(array).T))
    grid = Geometry(geometry.shape, lps_to_ras(geometry.affine))
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def _sitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise ConfigError("SimpleITK is not installed; run: pip install SimpleITK") from error
    return SimpleITK


def to_torch(array: RealArray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Return a contiguous copy of the voxels on the CPU, of float32 unless another type is named.

    Raises:
        InputError: float32 does not hold the voxels.
    """
    import torch

    single = dtype is None or dtype == torch.float32
    voxels = as_float32(array, "to_torch") if single else _common(array)
    return torch.tensor(np.ascontiguousarray(voxels), dtype=dtype or torch.float32, device="cpu")


def _common(array: RealArray) -> RealArray:
    """Return voxels of a type that other packages have: no booleans, half or long floats."""
    wider = {"bool": "uint8", "float16": "float32", "longdouble": "float64", "float128": "float64"}
    return array.astype(wider.get(array.dtype.name, array.dtype), copy=False)
