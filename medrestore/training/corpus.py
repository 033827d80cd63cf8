"""The scans and label maps of a training run, read once and kept in memory."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrestore.engine import RestoreOptions, restore
from medrestore.errors import ConfigError, InputError
from medrestore.io import read
from medrestore.noise.intensity import model_units
from medrestore.noise.level import noise_level
from medrestore.plugin import Intensity
from medrestore.training.grids import at_spacing, can_be_sliced, in_slices, trim_air
from medrestore.training.recipe import DataOptions
from medrestore.types import Float64Array, FloatArray, RealArray
from medrestore.volume import Volume

THIN = 1.5
"""Largest voxel side, in mm, of scans that are averaged into thicker slices."""

MOST = 1e4
"""Largest value of a scan in units of the model: float16 ends at 65504, and resampling overshoots."""


@dataclass(frozen=True)
class Corpus:
    """What was read.

    Attributes:
        scans: (X, Y, Z) volumes in the units of the model, one for each resolution; float16 saves memory
            where its rounding is far below the noise.
        labels: (X, Y, Z) label maps.
        files: Path below the data roots of everything read, for the model card.
        phantoms: How many of the scans, the last, are computed; their share is `synthetic`.
        in_plane: Whether the last axis is special, so that patches are turned in the plane of the others.
    """

    scans: list[FloatArray]
    labels: list[RealArray]
    files: tuple[str, ...]
    phantoms: int = 0
    in_plane: bool = False

    def weights(self, synthetic: float) -> Float64Array:
        """Return (scans,) probabilities of a patch from each scan, if it is from none of the label maps."""
        # Less than in proportion: large scans are seen more often, many small ones keep their variety.
        weight = np.array([scan.size for scan in self.scans]) ** 0.75
        if self.phantoms:
            real, made = weight[: -self.phantoms], weight[-self.phantoms :]
            real *= (1 - synthetic) / max(real.sum(), 1e-9)
            made *= synthetic / made.sum()
        return np.asarray(weight / weight.sum(), dtype=np.float64)


def find(options: DataOptions, base: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """List scans, label maps and validation scans.

    Args:
        options: What to look for.
        base: Folder of the configuration file.

    Raises:
        ConfigError: A pattern is no glob pattern, matches nothing, or only what is set apart.
    """
    roots = [(base / root).resolve() for root in options.roots]
    validation = _matches(roots, "validation", options.validation)
    hidden = [*_matches(roots, "exclude", options.exclude), *validation]
    # By what links lead to, and with all that a folder holds: a file has many names.
    apart = {one.resolve() for path in hidden for one in (path, *path.rglob("*"))}
    scans = _matches(roots, "scans", options.scans, apart)
    return scans, _matches(roots, "labels", options.labels, apart), validation


def _matches(
    roots: list[Path], key: str, patterns: tuple[str, ...], apart: Set[Path] = frozenset()
) -> list[Path]:
    """Return what the patterns of a key of `[data]` match, without what is set apart."""
    found: list[Path] = []
    for pattern in patterns:
        try:
            matches = [path for root in roots for path in sorted(root.glob(pattern))]
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"data.{key}: {pattern!r} is no glob pattern of paths below data.roots ({error}); "
                "write one such as 'mr/*.nii.gz'"
            ) from error
        if not matches:
            where = ", ".join(str(root) for root in roots)
            raise ConfigError(
                f"data.{key}: nothing in {where} matches {pattern!r}; check data.roots and the pattern"
            )
        seen = [path for path in matches if apart.isdisjoint((path.resolve(), *path.resolve().parents))]
        if not seen:
            raise ConfigError(
                f"data.{key}: all that {pattern!r} matches is set apart by data.exclude or data.validation; "
                "narrow these patterns, or take this one out"
            )
        found += seen
    return list(dict.fromkeys(found))


def extent(path: Path) -> tuple[int, int]:
    """Return how many bytes a scan has, a file or a folder of files, and when it changed last, in ns."""
    found = [one.stat() for one in (path, *path.rglob("*")) if one.is_file()]
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=0)


def load(options: DataOptions, base: Path, intensity: Intensity = Intensity.P99) -> Corpus:
    """Read everything that a configuration names but the validation scans.

    Args:
        options: What to look for.
        base: Folder of the configuration file.
        intensity: Units of the volumes.

    Raises:
        ConfigError: A pattern is no glob pattern, matches nothing, or only what is set apart.
        InputError: A file cannot be read, or there is nothing to learn from it.
    """
    scan_paths, label_paths, _ = find(options, base)
    scans: list[FloatArray] = []
    for path in scan_paths:
        volume = without_noise(read(path), options, intensity)
        scaled = trim_air(model_units(intensity, volume.array).to_model(volume.array))
        scaled = np.maximum(scaled, 0)  # before it is resampled: the padding of CT would ring
        check_scan(path, scaled)
        spacing = volume.geometry.spacing
        scans.append(scaled)
        for target in options.spacings_mm:
            if min(spacing) < 0.85 * target:
                scans.append(np.maximum(at_spacing(scaled, tuple(spacing), target), 0))
        scans += [
            in_slices(scaled, tuple(spacing), thickness, axis)
            for thickness in options.slices_mm
            for axis in range(3)
            if max(spacing) <= THIN and can_be_sliced(scaled.shape, spacing, thickness, axis)
        ]
    labels = [read_labels(path) for path in label_paths]
    scans = [scan.astype(np.float16) for scan in scans]
    return Corpus(scans, labels, names(scan_paths + label_paths, options, base))


def check_scan(path: Path, voxels: FloatArray) -> None:
    """Refuse voxels, in units of the model, that there is nothing to learn from.

    Raises:
        InputError: They are all 0, or too large to be kept in float16.
    """
    brightest = float(voxels.max())
    if not 0 < brightest <= MOST:
        raise InputError(
            f"{path}: its brightest voxel is {brightest:.3g} in units of its bright level, in CT of water; "
            f"expected more than 0 and at most {MOST:g}: mend the scan, or name it in data.exclude"
        )


def read_labels(path: Path) -> RealArray:
    """Read a label map, (X, Y, Z) uint8.

    Raises:
        InputError: It cannot be read, or has values that are no labels.
    """
    values = read(path).array
    labels = np.rint(values).clip(0, 255)
    if (wrong := abs(labels - values) > 0.01).any():  # a scaled file has them to a few digits
        raise InputError(
            f"{path}: has the value {values[wrong][0]:g} in {np.count_nonzero(wrong)} voxels; expected a "
            "label map of whole numbers, 0 to 255: renumber its labels"
        )
    return labels.astype(np.uint8)


def without_noise(volume: Volume, options: DataOptions, intensity: Intensity) -> Volume:
    """Restore a scan that is too noisy to be a target, if the options name a model for it."""
    if options.denoise_with is None:
        return volume
    units = model_units(intensity, volume.array)
    noise = noise_level(volume.array, "auto", units.reference, intensity)
    if noise.fraction < options.denoise_above:
        return volume
    # Forced: a target may be rough where it is noise that is outside what the model was made for.
    return restore(volume, RestoreOptions(model=options.denoise_with, force=True)).volume


def names(paths: list[Path], options: DataOptions, base: Path) -> tuple[str, ...]:
    """Return each path below its root: what is above is nobody else's business."""
    roots = [(base / root).resolve() for root in options.roots]
    return tuple(
        next(path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root))
        for path in paths
    )
