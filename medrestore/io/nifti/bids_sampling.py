"""What the JSON file of BIDS beside a NIfTI image states of its sampling.

The keys are those of BIDS and of dcm2niix, which takes them from DICOM: AcquisitionMatrixPE and
ReconMatrixPE count lines along the phase axis, BaseResolution samples along the frequency axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medrestore.errors import InputError
from medrestore.geometry import Geometry
from medrestore.io.dicom.parse.sampling import (
    CORRECTED,
    FILTERED,
    NOT_CORRECTED,
    PARTIAL_FOURIER,
    partial_fourier,
)
from medrestore.io.sampling import NOWHERE, Counts, Elements, Sampling
from medrestore.paths import Obstacle, obstacle, read_json

ALONG = 0.9
"""Cosine of the angle up to which an array axis lies along a direction of the DICOM image."""


def json_beside(path: Path) -> Path:
    """Return the JSON file of the same name beside an image; a path without an ending of NIfTI as it is."""
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    return path if name == path.name else path.with_name(f"{name}.json")


def sampling_beside(path: Path, geometry: Geometry) -> Sampling:
    """Read the JSON file of the same name beside an image; raises nothing.

    Args:
        path: Of the image.
        geometry: Its grid.
    """
    sidecar = json_beside(path)
    if sidecar == path or obstacle(sidecar) is Obstacle.MISSING:
        return Sampling()
    try:
        return sampling_stated(read_json(sidecar), geometry)
    except (OSError, ValueError, InputError):
        return Sampling(ignored=(sidecar.name,))


def sampling_stated(said: Mapping[str, object], geometry: Geometry) -> Sampling:
    """Return what the keys of a JSON file state.

    Args:
        said: The keys.
        geometry: Grid of the image.
    """
    elements = Elements(said.get)
    kinds, options = elements.words("ImageType"), elements.words("ScanOptions")
    corrected = said.get("NonlinearGradientCorrection")
    if not isinstance(corrected, bool):
        if corrected is not None:
            elements.ignore("NonlinearGradientCorrection")
        corrected = True if CORRECTED & kinds else False if NOT_CORRECTED in kinds else None
    acquired, voxels = _counts(elements, geometry)
    return Sampling(
        acquired=acquired,
        voxels=voxels,
        partial_fourier=_partial_fourier(said, elements, options),
        filtered=True if FILTERED & (kinds | options) else None,
        distortion_corrected=corrected,
        ignored=tuple(elements.ignored),
    )


def _partial_fourier(said: Mapping[str, object], elements: Elements, options: frozenset[str]) -> bool | None:
    """Tell whether partial Fourier is stated: by the part that was sampled, or in the words of DICOM."""
    if isinstance(said.get("PartialFourier"), str):
        return partial_fourier(elements, options)
    part = elements.numbers("PartialFourier")
    if part is not None and not 0 < part[0] <= 1:
        elements.ignore("PartialFourier")
        part = None
    if PARTIAL_FOURIER & options:
        return True
    return None if part is None else part[0] < 1


def _counts(elements: Elements, geometry: Geometry) -> tuple[Counts, Counts]:
    """Return the samples along the array axes, and the voxels that they became."""
    acquired, voxels = list(NOWHERE), list(NOWHERE)
    plane = _plane(elements, geometry)
    phase = _phase_axis(elements, plane)
    lines, made = elements.count("AcquisitionMatrixPE"), elements.count("ReconMatrixPE")
    if phase is not None:
        acquired[phase], voxels[phase] = lines, made or geometry.shape[phase]
    samples = elements.count("BaseResolution")
    if phase in plane:
        frequency = plane[1 - plane.index(phase)]
        acquired[frequency], voxels[frequency] = samples, geometry.shape[frequency]
    return (acquired[0], acquired[1], acquired[2]), (voxels[0], voxels[1], voxels[2])


def _plane(elements: Elements, geometry: Geometry) -> tuple[int, ...]:
    """Return the array axes along a row and a column of the DICOM image; none where that is not said."""
    key = "ImageOrientationPatientDICOM"
    numbers = elements.numbers(key, 6)
    if numbers is None:
        return ()
    # LPS+, as DICOM has it.
    directions = np.reshape(numbers, (2, 3)) * (-1, -1, 1)
    along = np.abs(directions @ geometry.direction)
    axes = tuple(int(axis) for axis in along.argmax(axis=1))
    if along.max(axis=1).min() < ALONG or axes[0] == axes[1]:
        elements.ignore(key)
        return ()
    return axes


def _phase_axis(elements: Elements, plane: tuple[int, ...]) -> int | None:
    """Return the array axis along which the phase is encoded."""
    for key in ("PhaseEncodingDirection", "PhaseEncodingAxis"):
        words = elements.words(key)
        if words:
            name = next(iter(words)).rstrip("-?")  # dcm2niix: the sign is not known
            if len(words) == 1 and name in {"I", "J", "K"}:
                return "IJK".index(name)
            elements.ignore(key)
    words = elements.words("InPlanePhaseEncodingDirectionDICOM")
    return next((axis for word, axis in zip(("ROW", "COL"), plane, strict=False) if word in words), None)
