"""Whether the model was made for a scan."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from medrestore.engine.intervals.calibration import find_calibration
from medrestore.engine.models.find import check_names, declared_operator
from medrestore.errors import ConfigError, DomainError, InputError, ModelError
from medrestore.findings import (
    MODALITY_NOT_STATED,
    MODALITY_OUTSIDE_MODEL,
    NOISE_CONTRADICTED,
    NOISE_OUTSIDE_MODEL,
    SLICES_OUTSIDE_MODEL,
    VOXELS_OUTSIDE_MODEL,
    ZERO_MOVED,
    Finding,
)
from medrestore.geometry import Geometry
from medrestore.noise.intensity import bright_level
from medrestore.noise.level import NoiseLevel
from medrestore.options import RestoreOptions
from medrestore.plugin import Intensity, ModelSpec
from medrestore.provenance import ModelRef
from medrestore.types import UNMEASURED_HU, Modality, Task
from medrestore.volume import Volume

COMPUTABLE = (1e-20, 1e9)
"""Largest magnitudes of scans between which float32 holds sums of squares of their squares."""

SIGNED = 0.1
"""Fraction of the bright level that a tenth of the voxels lie below 0 by in signed maps."""


LEAST_SERIES = 2
"""Volumes that can be restored as one at all."""


def computable(volume: Volume) -> Volume:
    """Return a scan in a type that can be computed with: booleans and half floats become float32.

    Raises:
        InputError: The voxels are beyond `COMPUTABLE`. CT voxels that were not measured do not count.
    """
    if volume.array.dtype in (np.bool_, np.float16):
        volume = replace(volume, array=volume.array.astype(np.float32))
    low, high = float(volume.array.min()), float(volume.array.max())
    largest = max(high, 0.0 if low < UNMEASURED_HU and volume.modality is Modality.CT else -low)
    if largest != 0 and not COMPUTABLE[0] <= largest <= COMPUTABLE[1]:
        raise InputError(
            f"{volume.name}: the largest magnitude is {largest:.3g}; a restoration computes with "
            f"{COMPUTABLE[0]:g} to {COMPUTABLE[1]:g}: multiply the voxels by a constant first, and divide "
            "the result by it"
        )
    return volume


def check_scan(
    scan: Geometry, stated: str | None, spec: ModelSpec, grid: Geometry, force: bool
) -> tuple[Finding, ...]:
    """Refuse a scan that the model was not made for, or warn where the restoration is forced.

    Args:
        scan: Grid of the scan.
        stated: The modality that the scan states, in the terms of DICOM; None if it states none.
        spec: The model.
        grid: Grid of the result.
        force: Whether to warn only.

    Raises:
        DomainError: Modality, voxel size or distance of the slices are outside, and `force` is not set.
    """
    notes, problems = list[Finding](), list[Finding]()
    if stated is None:
        text = f"the scan does not say its modality; taken for {spec.modalities[0]}"
        notes.append(MODALITY_NOT_STATED.found(text, taken_for=spec.modalities[0]))
    elif stated not in spec.modalities:
        text = f"the scan is {stated}, {spec.name} is for {', '.join(spec.modalities)}"
        problems.append(MODALITY_OUTSIDE_MODEL.found(text, modality=stated))
    low, high = spec.spacing_mm
    spacing = [size for size, extent in zip(grid.spacing, grid.shape, strict=True) if extent > 1]
    if any(not 0.99 * low <= size <= 1.01 * high for size in spacing):
        sizes = " x ".join(f"{size:.3g}" for size in grid.spacing)
        text = f"voxels of {sizes} mm, {spec.name} is for {low:g} to {high:g} mm"
        problems.append(VOXELS_OUTSIDE_MODEL.found(text, spacing_mm=grid.spacing, range_mm=(low, high)))
    if spec.factor is not None:
        low, high = spec.factor
        factor = max(old / new for old, new in zip(scan.spacing, grid.spacing, strict=True))
        if not 0.99 * low <= factor <= 1.01 * high:
            text = f"slices {factor:.3g} voxels of the result apart, {spec.name} is for {low:g} to {high:g}"
            least = finest(scan, grid, high)
            if factor > high and least <= spec.spacing_mm[1]:
                text += f" (--spacing {least:g} or more)"
            problems.append(SLICES_OUTSIDE_MODEL.found(text, factor=factor, range=(low, high)))
    if problems and not force:
        said = "; ".join(one.text for one in problems)
        raise DomainError(
            f"{said}: the result would be a guess; choose another model, or force it "
            "(--force, or force=True) and look at the result with care"
        )
    return (*notes, *problems)


def finest(scan: Geometry, grid: Geometry, factor: float) -> float:
    """Return the least distance of planes, in mm, that slices may be resolved to by a factor at most.

    Rounded up to a hundredth, so that it can be said. Two steps to a finer one are worth no more than one
    that is forced: see the notes on the models.
    """
    axis = max(range(3), key=lambda one: scan.spacing[one] / grid.spacing[one])
    return math.ceil(100 * scan.spacing[axis] / factor - 1e-6) / 100


def assumed_modality(volume: Volume, spec: ModelSpec) -> Modality:
    """Return the modality that a model takes a scan for: the one it states, else the one of the model."""
    return Modality(spec.modalities[0]) if volume.modality is Modality.UNKNOWN else volume.modality


def check_outputs(ref: ModelRef, spec: ModelSpec, options: RestoreOptions) -> None:
    """Refuse to draw samples from a model that offers no samples: they would all be its mean; and more.

    Raises:
        ModelError: The options ask for an output that the model does not offer, or for intervals that it was
            not calibrated for, or it names an operator that no plugin declares.
        ConfigError: The options name what no plugin declares, a calibration that is none of this model, or
            what such a model cannot tell.
    """
    check_names(options)
    if options.save_map == "null" and spec.task is not Task.SUPERRES:
        raise ConfigError(
            f"save_map is 'null', and {ref.name} removes noise: every voxel was measured, so there is no "
            "null space; --interval 0.9, or --samples 8 --save-std, shows what is not known"
        )
    if options.detectability and (spec.task is not Task.DENOISE or spec.operator is not None):
        raise ConfigError(
            f"detectability is told of denoising alone, and {ref.name} does more; leave --detectability out"
        )
    if spec.operator is not None:
        declared_operator(spec.operator)
    if options.output not in spec.outputs or (options.samples and "sample" not in spec.outputs):
        raise ModelError(
            f"{ref.name} offers {', '.join(sorted(spec.outputs))}; asked for output {options.output!r} with "
            f"{options.samples} samples"
        )
    if options.interval is not None:
        find_calibration(ref.name, spec, options.calibration)


def check_series(ref: ModelRef, spec: ModelSpec, options: RestoreOptions, volumes: int) -> None:
    """Refuse a scan of so many volumes that is to be restored as one, or one by one, and cannot be.

    Args:
        ref: What to call the model.
        spec: The model.
        options: What is asked for.
        volumes: Of the scan.

    Raises:
        ModelError: The model takes whole series, or none.
        DomainError: The series is too short.
    """
    least = spec.series or LEAST_SERIES
    if options.volumes == "each":
        if spec.series is not None:
            raise ModelError(
                f"{ref.name} takes a series of {least} volumes or more as one, and volumes are restored one "
                "by one; pass --volumes joint, or choose another model"
            )
        return
    if spec.task is not Task.DENOISE or spec.operator is not None:
        raise ModelError(
            f"volumes is 'joint', which is for removing noise alone, and {ref.name} does more; leave "
            "--volumes out, or choose another model"
        )
    if volumes < least:
        raise DomainError(
            f"volumes is 'joint', and the scan has {volumes} volume{'s' * (volumes != 1)}; {ref.name} takes "
            f"{least} or more as one: leave --volumes out"
            + (", and choose a model of one volume" if spec.series is not None else "")
        )


def check_zero(volume: Volume, sigma: float, spec: ModelSpec) -> tuple[Finding, ...]:
    """Warn of a scan whose zero was moved, as by z-scoring, and of signed maps: the model is for magnitudes.

    Args:
        volume: The scan. Its voxels that are 0 may be masked, and do not count.
        sigma: Standard deviation of its noise, which may take voxels of air below 0.
        spec: The model.
    """
    seen = volume.array[::2, ::2, ::2]
    seen = seen[seen != 0]
    if spec.intensity is not Intensity.P99 or not seen.size:
        return ()
    low = float(np.percentile(seen, 10))
    if low >= -min(3 * sigma, max(1.5 * sigma, SIGNED * bright_level(seen))):
        return ()
    text = (
        f"a tenth of the voxels lie below {low:.4g}, and {spec.name} is for scans in which air is 0: give it "
        "the scan before its zero was moved, and no statistical, phase or difference map"
    )
    return (ZERO_MOVED.found(text, tenth_percentile=low),)


def check_noise(noise: NoiseLevel, spec: ModelSpec) -> tuple[Finding, ...]:
    """Warn where the noise is outside the levels that the model was made for."""
    low, high = spec.noise
    if 0.99 * low <= noise.fraction <= 1.01 * high:
        return ()
    unit = "1000 HU" if spec.is_ct else "the 99th percentile"
    text = (
        f"noise of {noise.fraction:.2%} of {unit} is outside the {low:.2%} to {high:.2%} that "
        f"{spec.name} was made for"
    )
    return (NOISE_OUTSIDE_MODEL.found(text, fraction=noise.fraction, range=(low, high)),)


def check_told(noise: NoiseLevel) -> tuple[Finding, ...]:
    """Warn where a level was told that the scan does not show, beyond what its own measure may be off by."""
    read = noise.read
    if read is None or read.goes_with(noise.sigma):
        return ()
    text = (
        f"noise of {noise.sigma:.3g} was {noise.method}, and the scan shows {read.sigma:.3g} ({read.kind}), "
        f"which may be {read.least:.3g} to {read.most:.3g}: leave the level out, or look at the residual"
    )
    ends = (read.least, read.most)
    return (NOISE_CONTRADICTED.found(text, told=noise.sigma, read=read.sigma, range=ends),)
