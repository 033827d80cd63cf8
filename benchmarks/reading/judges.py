"""What medrestore and other readers make of one file, or of one folder of DICOM slices."""

# ruff: noqa: PLC0415  a reader that is not installed must not keep the others from being asked

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrestore import files
from medrestore.errors import MedrestoreError
from medrestore.io import plan_dicom
from medrestore.types import UNMEASURED_HU

NEAR_MM = 0.02
"""Corners of two grids that are the same lie nearer than this."""

_NEAR_SHARE = 1e-5
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Image:
    """What a reader found: voxels, volumes last, and their place in RAS+ mm; None where it says of none."""

    voxels: np.ndarray
    affine: np.ndarray | None


def ours(path: Path, series: str | None = None) -> Image | str:
    """Return what medrestore reads, or why it refuses."""
    try:
        volumes = files.read_series(path, series=series)
    except MedrestoreError as error:
        return str(error).replace(f"{path}: ", "").replace(str(path.parent), "")
    return Image(np.stack([volume.array for volume in volumes], axis=-1), volumes[0].geometry.affine)


def simple_itk(path: Path) -> Image | str:
    """Return what SimpleITK reads from a file: of DICOM through GDCM."""
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        return "refused"
    if image.GetNumberOfComponentsPerPixel() > 1 or image.GetDimension() not in {2, 3, 4}:
        return "no greyscale volume"
    voxels = SimpleITK.GetArrayFromImage(image).T
    affine = None
    if image.GetDimension() >= 3:
        axes = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:3, :3]
        affine = np.eye(4)
        affine[:3, :3] = axes * np.asarray(image.GetSpacing()[:3])
        affine[:3, 3] = image.GetOrigin()[:3]
        affine = _LPS @ affine
    return Image(_with_volumes(voxels), affine)


def nibabel(path: Path) -> Image | str:
    """Return what nibabel reads from a file."""
    import nibabel as nib

    try:
        image = nib.load(path)
        return Image(_with_volumes(np.asarray(image.get_fdata(dtype=np.float64))), image.affine)
    except Exception:  # noqa: BLE001  whatever it raises, it does not read the file
        return "refused"


def _with_volumes(voxels: np.ndarray) -> np.ndarray:
    """Return voxels with four axes."""
    while voxels.ndim < 4:
        voxels = voxels[..., np.newaxis]
    return voxels.reshape(*voxels.shape[:3], -1)


def compare(mine: Image, theirs: Image) -> str:
    """Return ``equal``, or what differs: shape, values or place."""
    if theirs.affine is not None and mine.affine is not None:
        mine, theirs = upright(mine), upright(theirs)
    if mine.voxels.shape != theirs.voxels.shape:
        return f"shape {_named(mine.voxels.shape)} here, {_named(theirs.voxels.shape)} there"
    kept = mine.voxels > UNMEASURED_HU
    near = _NEAR_SHARE * max(float(np.abs(theirs.voxels).max()), 1e-30)
    apart = np.abs(mine.voxels - theirs.voxels)[kept & (theirs.voxels > UNMEASURED_HU)]
    if apart.size and not float(np.nanmax(apart)) <= near:
        return f"values differ by up to {np.nanmax(apart):.4g}"
    if theirs.affine is None or mine.affine is None:
        return "equal"
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(mine.voxels.shape[:3]) - 1)
    moved = mine.affine - theirs.affine
    far = float(np.abs(corners @ moved[:3, :3].T + moved[:3, 3]).max())
    return "equal" if far < NEAR_MM else f"place differs by up to {far:.4g} mm"


def upright(image: Image) -> Image:
    """Return an image with axes that run nearest to right, front and top."""
    import nibabel as nib

    assert image.affine is not None
    out = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(image.voxels, np.float64), image.affine))
    return Image(np.asarray(out.dataobj), out.affine)


def _named(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape if shape[3] > 1 else shape[:3]))


def dcm2niix(folder: Path) -> list[Image]:
    """Return every image that dcm2niix makes of a folder."""
    import dcm2niix as program
    import nibabel as nib

    with tempfile.TemporaryDirectory() as out:
        options = ["-b", "n", "-z", "n", "-m", "n", "-p", "n", "-d", "0"]
        command = [program.bin, *options, "-o", out, str(folder)]
        subprocess.run(command, capture_output=True, check=False, timeout=300)
        images = [nib.load(path) for path in sorted(Path(out).glob("*.nii"))]
        grey = [image for image in images if image.get_data_dtype().kind in "iuf"]
        return [Image(_with_volumes(image.get_fdata()), image.affine) for image in grey]


def series_of(folder: Path) -> dict[str, Image | str]:
    """Return what medrestore makes of every series of a folder, by its number and class."""
    found: dict[str, Image | str] = {}
    for item in plan_dicom(folder).series:
        mine = ours(folder, str(item.number)) if item.action == "read" else item.reason
        found[f"{item.number}: {item.kind}"] = mine
    return found
