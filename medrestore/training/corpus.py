"""The scans and label maps of a training run, read once and kept in memory."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from medrestore.errors import ConfigError
from medrestore.io import read
from medrestore.training.config import DataOptions
from medrestore.training.patches import at_spacing, trim_air
from medrestore.types import FloatArray, RealArray


@dataclass(frozen=True)
class Corpus:
    """What was read.

    Attributes:
        scans: (X, Y, Z) float32 volumes in units of their 99th percentile, one for each resolution.
        labels: (X, Y, Z) label maps.
        files: Path below the data root of everything read, for the model card.
    """

    scans: list[FloatArray]
    labels: list[RealArray]
    files: tuple[str, ...]


def find(options: DataOptions, base: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """List scans, label maps and validation scans.

    Args:
        options: What to look for.
        base: Folder of the configuration file.

    Raises:
        ConfigError: A pattern matches nothing.
    """
    root = (base / options.root).resolve()
    validation = _matches(root, options.validation, ())
    exclude = options.exclude + options.validation
    return _matches(root, options.scans, exclude), _matches(root, options.labels, exclude), validation


def _matches(root: Path, patterns: tuple[str, ...], exclude: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for pattern in patterns:
        matches = sorted(root.glob(pattern))
        if not matches:
            raise ConfigError(f"{root}: nothing matches {pattern!r}; check data.root and the pattern")
        names = {path: path.relative_to(root).as_posix() for path in matches}
        found += [path for path in matches if not any(fnmatch(names[path], e) for e in exclude)]
    return list(dict.fromkeys(found))


def load(options: DataOptions, base: Path) -> Corpus:
    """Read everything that a configuration names but the validation scans.

    Raises:
        ConfigError: A pattern matches nothing.
        InputError: A file cannot be read.
    """
    scan_paths, label_paths, _ = find(options, base)
    scans = []
    for path in scan_paths:
        volume = read(path)
        scaled = trim_air(in_percentile_units(volume.array))
        spacing = volume.geometry.spacing
        scans.append(np.maximum(scaled, 0))
        for target in options.spacings_mm:
            if min(spacing) < 0.85 * target:
                scans.append(at_spacing(scaled, tuple(spacing), target))
    labels = [read(path).array.astype(np.uint8) for path in label_paths]
    root = (base / options.root).resolve()
    files = tuple(path.relative_to(root).as_posix() for path in scan_paths + label_paths)
    return Corpus(scans, labels, files)


def in_percentile_units(array: RealArray) -> FloatArray:
    """Divide by the 99th percentile of all voxels."""
    scaled = np.asarray(array, dtype=np.float32) / np.float32(np.percentile(array, 99))
    return np.asarray(scaled, dtype=np.float32)
