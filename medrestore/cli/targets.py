"""Where a restoration goes: every name that it will write, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError, OutputError

SUFFIXES = (".nii.gz", ".nii")
INDEX = "index.json"
TRAJECTORY_FILES = (INDEX, "*sample*_step*.nii.gz")
"""What a folder of trajectories holds, and so what `--overwrite` may remove from one."""

DTYPES = (
    *("float32", "input", "float64"),
    *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)


@dataclass(frozen=True)
class Targets:
    """What a restoration writes.

    Attributes:
        image: The restored scan.
        sidecar: The record beside it.
        std: The standard deviation, if it is asked for.
        trajectory: The folder of the sampler's steps, if they are asked for.
        overwrite: Whether what is there is replaced.
    """

    image: Path
    sidecar: Path
    std: Path | None
    trajectory: Path | None
    overwrite: bool

    def files(self) -> list[Path]:
        """Return the files, the image last."""
        return [self.sidecar, *([self.std] if self.std else []), self.image]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the command line asks to be written; see `plan_targets`."""

    out: Path
    save_std: bool
    trajectory: Path | None
    overwrite: bool
    dtype: str
    samples: int
    suffix: str = "restored"


def plan_targets(scan: Path, wish: Wish, protected: Iterable[Path] = ()) -> Targets:
    """Name everything that will be written, and check that it can be.

    Args:
        scan: The input; names the output where that is a folder.
        wish: What is asked for; `samples` counts those that will be drawn, `suffix` ends the name of the
            image where `out` is a folder.
        protected: Files read that are never written, whatever `overwrite` says.

    Raises:
        OutputError: A name is taken, has another suffix, or its folder is missing.
        ConfigError: What is asked for needs samples that nobody asked for, or the voxel type is unknown.
    """
    if wish.dtype not in DTYPES:
        raise ConfigError(f"--out-dtype is {wish.dtype!r}; expected one of {', '.join(DTYPES)}")
    if wish.save_std and wish.samples < 2:
        raise ConfigError(
            f"--save-std needs two samples or more, and {wish.samples} will be drawn; pass --samples 8, say"
        )
    if wish.trajectory is not None and wish.samples < 1:
        raise ConfigError(
            "--save-trajectory has nothing to save: the mean is made in one step; pass --samples 1, or "
            "--output sample"
        )
    image = wish.out / f"{stem(scan.resolve())}_{wish.suffix}.nii.gz" if wish.out.is_dir() else wish.out
    if not image.name.lower().endswith(SUFFIXES):
        raise OutputError(f"{image}: the name of the output ends in .nii or .nii.gz, or is that of a folder")
    base = stem(image)
    std = image.with_name(f"{base}_std.nii.gz") if wish.save_std else None
    trajectory = None if wish.trajectory is None else wish.trajectory.resolve()
    targets = Targets(image, image.with_name(f"{base}.json"), std, trajectory, wish.overwrite)
    for path in targets.files():
        _check_file(path, wish.overwrite, {scan.resolve(), *(read.resolve() for read in protected)})
    if trajectory is not None:
        _check_folder(trajectory, wish.overwrite)
    return targets


def stem(path: Path) -> str:
    """Return the name without .nii, .nii.gz or .dcm."""
    for suffix in (*SUFFIXES, ".dcm"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def own_files(folder: Path) -> set[Path]:
    """Return what an earlier run wrote into a folder of trajectories."""
    return {path for pattern in TRAJECTORY_FILES for path in folder.glob(pattern)}


def _check_file(path: Path, overwrite: bool, protected: set[Path]) -> None:
    _check_parent(path)
    if path.resolve() in protected:
        raise OutputError(f"{path}: is read in this run, and would be replaced; choose another name")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, and a file of that name would be written")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path}: exists already; pass --overwrite to replace it, or choose another name")


def _check_folder(path: Path, overwrite: bool) -> None:
    _check_parent(path)
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise OutputError(f"{path}: is a file, and a folder of that name is to hold the trajectory")
    strangers = sorted(set(path.iterdir()) - own_files(path))
    if strangers:
        raise OutputError(
            f"{path}: holds {strangers[0].name}, which is no part of a trajectory; choose a new folder"
        )
    if any(path.iterdir()) and not overwrite:
        raise OutputError(f"{path}: holds a trajectory already; pass --overwrite to replace it")


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.parent} cannot be written to")
