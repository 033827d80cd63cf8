"""`restore` for whatever holds a scan in Python: a path, an array, an image of another package, a volume."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy.typing as npt

from medrestore import engine
from medrestore.engine import LoadedModel, Observers, Restoration, RestoreOptions
from medrestore.engine.machine.device import thread_count
from medrestore.errors import ConfigError, InputError
from medrestore.files import read
from medrestore.io import reading_findings
from medrestore.types import Modality
from medrestore.volume import Volume, taken_as

Scan: TypeAlias = Any
"""What `restore` takes for a scan; SimpleITK, whose images are among it, has no types."""


class Further(TypedDict, total=False):
    """Further arguments of `restore`."""

    reference: Scan | None
    model: LoadedModel | None
    observers: Observers | None


def restore(
    scan: Scan,
    options: RestoreOptions | None = None,
    *,
    affine: npt.ArrayLike | None = None,
    modality: Modality | str | None = None,
    **further: Unpack[Further],
) -> Restoration:
    """Restore one scan.

    Args:
        scan: A path (a file of any installed format, or a folder of one DICOM series), a `Volume`, an image
            of nibabel or of SimpleITK, or an array (X, Y, Z) with its `affine`.
        options: What to do; None for the defaults.
        affine: 4x4, from voxel indices to RAS+ mm, for an array; everything else has its own.
        modality: What the scan is, in any case (``"mr"``), where it does not say; None for what it says.
        further: `reference`, the truth on the grid of the result, for PSNR and SSIM, given as the scan is (an
            array lies on the grid of the scan); `model`, one already loaded (`load_model`), for many scans;
            `observers`, who is told while it runs.

    Returns:
        The restored volume with its evidence, in the units of the scan and, but for super-resolution, on its
        grid.

    Raises:
        InputError: It is nothing of these, cannot be read, or a path holds several volumes.
        ModelError: No model fits, it offers no samples and some are asked for, or the scan is outside what
            the model was made for.
        ConfigError: An option cannot be had on this machine, or does not fit the scan or the model passed.
        GeometryError: The reference is not on the grid of the result, or there are no slices to resolve.
    """
    if not isinstance(options, RestoreOptions | None):
        raise ConfigError(f"options are {type(options).__name__}; expected medrestore.RestoreOptions(...)")
    volume = as_volume(scan, affine)
    findings = reading_findings(volume)
    if modality is not None:
        volume, contradicted = taken_as(volume, volume.as_modality(modality).modality, "modality=")
        findings += contradicted
    reference = further.get("reference")
    if reference is not None:
        grid = volume.geometry.affine if _is_array(reference) else None
        further["reference"] = as_volume(reference, grid)
    with thread_count(None if options is None else options.threads):
        result = engine.restore(volume, options, **further)
    return replace(result, record=replace(result.record, findings=(*result.record.findings, *findings)))


def as_volume(scan: Scan, affine: npt.ArrayLike | None = None) -> Volume:
    """Return whatever holds a scan as a volume.

    Args:
        scan: See `restore`.
        affine: Of an array.

    Raises:
        InputError: It holds no scan, or not one alone; or an array has no affine, or something else has one.
    """
    if _is_array(scan):
        if affine is None:
            raise InputError(
                "an array does not say how large its voxels are; pass affine=, 4x4 from voxel indices to "
                "RAS+ mm, such as numpy.diag([1, 1, 1, 1]) for voxels of 1 mm"
            )
        return Volume.from_array(scan, affine)
    if affine is not None:
        raise InputError(f"affine= is for arrays, and a {type(scan).__name__} has its own; leave it out")
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, str | os.PathLike):
        return read(scan)
    if _comes_from("nibabel", scan):
        return Volume.from_nibabel(scan)
    if _comes_from("SimpleITK", scan):
        return Volume.from_sitk(scan)
    raise InputError(
        f"a scan of type {type(scan).__name__}; expected a path, an array with affine=, an image of nibabel "
        "or of SimpleITK, or a medrestore.Volume"
    )


def _is_array(scan: Scan) -> bool:
    return hasattr(scan, "__array__") and not isinstance(scan, Volume) and not _comes_from("nibabel", scan)


def _comes_from(package: str, image: object) -> bool:
    """Tell an image of a package that need not be installed, and is not imported for the question."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(image).__mro__)
