"""Where a NIfTI header says that a scan lies, and what is done where a field of that makes no sense.

A sform with a code that NIfTI knows needs no other field, and is taken, as by nibabel. Where there is none,
the qform is, as long as ITK, which mends senseless fields in ways of its own, comes to the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.quaternions import fillpositive, quat2mat
from nibabel.spatialimages import HeaderDataError

from medrestore.convert import NIFTI_FORM_CODES
from medrestore.errors import GeometryError
from medrestore.findings import PLACE_MENDED, PLACE_NOT_STATED, Finding
from medrestore.geometry import Geometry, Shape
from medrestore.types import Float64Array

_SCANNER = 1
_EDGES = 1e-6, 1e6
"""Shortest and longest edge of a voxel, in mm, that is believed."""

# Quaternions in float32 are good for some hundredths of a millimetre at the corner of a head.
TOLERANCE_MM = 0.05

_LONGEST = 200
"""Characters of a message that tell what is in a header."""

_ORTHONORMAL = 1e-4
"""By how much ITK lets products of the directions of a sform differ from 0 and 1."""


@dataclass(frozen=True)
class Place:
    """Where a scan lies.

    Attributes:
        geometry: The grid of one volume, RAS+ mm.
        codes: sform and qform code; 0 where the form is not believed.
        findings: What is to be known of it.
    """

    geometry: Geometry
    codes: tuple[int, int]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Forms:
    """The fields of a header, as they are stored, that say where a scan lies.

    Attributes:
        header: The header, as nibabel parsed it.
        mended: The same, mended by nibabel.
        shape: Voxels of a volume.
        to_mm: Millimetres of its unit of length.
    """

    header: Any
    mended: Any
    shape: Shape
    to_mm: float

    def code(self, name: str) -> int:
        """Return the code of ``"sform"`` or ``"qform"``; 0 where NIfTI does not know it."""
        code = int(self.header[f"{name}_code"])
        return code if code in NIFTI_FORM_CODES else 0

    def grid(self, affine: Any) -> Geometry:
        """Return the grid of an affine in the unit of the header.

        Raises:
            GeometryError: No scan lies so.
        """
        matrix = np.array(affine, dtype=np.float64)
        matrix[:3] *= self.to_mm
        grid = Geometry(self.shape, matrix)
        if not _EDGES[0] <= min(grid.spacing) <= max(grid.spacing) <= _EDGES[1]:
            raise GeometryError(f"voxels of {' x '.join(f'{size:g}' for size in grid.spacing)} mm")
        return grid

    def form(self, name: str) -> Geometry | str:
        """Return what the ``"sform"`` or ``"qform"`` says, else why it is unusable; empty without a code."""
        if not self.code(name):
            return ""
        try:
            return self.grid(self.header.get_sform() if name == "sform" else self.mended.get_qform())
        except (GeometryError, HeaderDataError, ValueError) as error:
            return f"unusable {name} in the header: {error}"

    def senseless(self) -> dict[str, str]:
        """Return the fields that make no sense, and what is in them."""
        header, found = self.header, dict[str, str]()
        for name in ("sform_code", "qform_code"):
            if int(header[name]) not in NIFTI_FORM_CODES:
                found[name] = f"{name} is {int(header[name])}"
        for axis, size in enumerate(header["pixdim"]):
            known = _EDGES[0] <= size * self.to_mm <= _EDGES[1] if axis else size in (-1, 0, 1)
            needed = axis <= 3 and (self.shape[axis - 1] > 1 if axis else self.code("qform"))
            if needed and not known:
                found[f"pixdim[{axis}]"] = f"pixdim[{axis}] is {size:g}"
        for name, field in (("sform", "srow"), ("qform", "quatern")):
            if isinstance(why := self.form(name), str) and why:
                found[field] = why
        return found

    def by_itk(self) -> Geometry | None:
        """Return where ITK 5.4 puts a scan that has a form; None where it refuses to.

        It takes the directions of a sform if they are orthonormal and it is the scanner's or the only form,
        else those of the qform, and the voxel sizes of `pixdim` in either case.
        """
        header = self.header
        sizes = np.array(header["pixdim"][1:4], dtype=np.float64)
        sizes[(sizes == 0) | ~np.isfinite(sizes)] = 1.0
        sform, qform = (max(int(header[f"{name}_code"]), 0) for name in ("sform", "qform"))
        affine, found = np.eye(4), self.form("sform") if not qform or sform == _SCANNER else ""
        if isinstance(found, Geometry) and _orthonormal(found.direction):
            affine[:3, :3], affine[:3, 3] = found.direction * sizes, header.get_sform()[:3, 3]
        elif qform:
            affine[:3, :3] = _rotation(header) * sizes
            affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
        else:
            return None
        try:
            return self.grid(affine)
        except GeometryError:
            return None


def place_of(path: object, forms: Forms) -> Place:
    """Return where a scan lies.

    Args:
        path: The file, for messages.
        forms: What its header says.

    Raises:
        GeometryError: A field makes no sense, and without it the place is not certain.
    """
    senseless, codes = forms.senseless(), (forms.code("sform"), forms.code("qform"))
    if int(forms.header["sform_code"]) == int(forms.header["qform_code"]) == 0:
        return _unplaced(path, forms, senseless)
    sform, qform = forms.form("sform"), forms.form("qform")
    itk = forms.by_itk() if senseless else None
    if isinstance(sform, Geometry):
        if not senseless:
            return Place(sform, codes)
        by = "the scan was placed by the sform"
        if itk is None or not sform.allclose(itk, TOLERANCE_MM):
            by += ", and programs that go by those fields place it elsewhere"
        known = codes[1] if isinstance(qform, Geometry) else 0
        return Place(sform, (codes[0], known), _mended(senseless, by))
    if isinstance(qform, Geometry) and not senseless:
        return Place(qform, codes)
    if isinstance(qform, str) or itk is None or not qform.allclose(itk, TOLERANCE_MM):
        raise _refused(path, senseless)
    by = "the scan was placed by the qform"
    if any(f"pixdim[{axis}]" in senseless for axis in (1, 2, 3)):
        by += ", with voxels of 1 mm where no size is stated"
    return Place(qform, (0, codes[1]), _mended(senseless, by))


UNPLACED = PLACE_NOT_STATED.found(
    "the header does not say how the scan lies in space (sform and qform codes 0): "
    "which side is left is not known"
)


def other_qform(forms: Forms, place: Place) -> tuple[tuple[float, ...], ...] | None:
    """Return the qform where it says something else than the affine in use (a template's sform, say)."""
    qform = forms.form("qform") if place.codes[1] else ""
    if isinstance(qform, str) or place.geometry.allclose(qform, TOLERANCE_MM):
        return None
    return tuple(tuple(row) for row in qform.affine.tolist())


def _unplaced(path: object, forms: Forms, senseless: dict[str, str]) -> Place:
    """Return the place of a scan of which voxel sizes alone are known; they may have a sign."""
    sizes = {f"pixdim[{axis}]": abs(float(size)) for axis, size in enumerate(forms.header["pixdim"])}
    if any(not _EDGES[0] <= sizes[name] * forms.to_mm <= _EDGES[1] for name in senseless):
        raise _refused(path, senseless)
    try:
        found = forms.grid(forms.mended.get_base_affine())
    except GeometryError as error:
        raise GeometryError(f"{path}: unusable voxel sizes in the header: {error}") from error
    return Place(found, (0, 0), (UNPLACED, *_mended(senseless, "voxel sizes were taken without their sign")))


def _orthonormal(directions: Float64Array) -> bool:
    return bool(np.allclose(directions @ directions.T, np.eye(3), rtol=0, atol=_ORTHONORMAL))


def _rotation(header: Any) -> Float64Array:
    """Return the directions of a qform as ITK has them: a quaternion too long is made shorter."""
    stated = np.array([header[f"quatern_{part}"] for part in "bcd"], dtype=np.float64)
    length = float(np.linalg.norm(stated))
    turn = quat2mat([0.0, *(stated / length)] if length > 1 else fillpositive(stated))
    return np.asarray(turn * (1.0, 1.0, -1.0 if header["pixdim"][0] < 0 else 1.0))


def _mended(senseless: dict[str, str], by: str) -> tuple[Finding, ...]:
    text = f"fields of the header make no sense ({_shown(senseless)}); {by}"
    return (PLACE_MENDED.found(text, fields=list(senseless)),) if senseless else ()


def _shown(senseless: dict[str, str]) -> str:
    text = ", ".join(senseless.values())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _refused(path: object, senseless: dict[str, str]) -> GeometryError:
    return GeometryError(
        f"{path}: {_shown(senseless)}, so that the header does not say for certain where the "
        "scan lies; set it right (nibabel, fslorient or fslchpixdim can)"
    )
