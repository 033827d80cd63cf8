"""The outputs of a restoration: every name that it will write, checked before anything runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from medrestore.errors import ConfigError, OutputError
from medrestore.io import check_reports_can_be_written
from medrestore.io.nifti.bids_sampling import json_beside
from medrestore.job.output_format import choose_output_format, endings
from medrestore.options import REPORT, OutputRequest
from medrestore.paths import is_litter, resolved
from medrestore.plugin import installed_formats
from medrestore.provenance import JSON
from medrestore.types import SERIES_FILES, Task

INDEX = "index.json"
TRAJECTORY_FILES = (INDEX, "*sample*_step*.nii.gz")
"""Files of a folder of trajectories, which `--overwrite` may remove."""


@dataclass(frozen=True)
class OutputPaths:
    """The files and folders that a restoration writes.

    Attributes:
        image: The restored scan as an image file, if one is asked for.
        sidecar: The record beside it.
        trajectory: The folder of the sampler's steps, if they are asked for.
        overwrite: Whether existing outputs are replaced.
        series: The folder of the restored scan as DICOM, if DICOM is asked for.
        maps: The volumes beside the restored one as image files, by name, such as ``"std"``.
        series_maps: The folders of the same as DICOM.
        report: The structured report on the series as DICOM, if one is asked for.
    """

    image: Path | None
    sidecar: Path
    trajectory: Path | None
    overwrite: bool
    series: Path | None = None
    maps: Mapping[str, Path] = field(default_factory=dict)
    series_maps: Mapping[str, Path] = field(default_factory=dict)
    report: Path | None = None

    @property
    def main(self) -> Path:
        """The output that the sidecar lies beside."""
        return next(path for path in (self.image, self.series) if path is not None)

    def files(self) -> list[Path]:
        """Return the files, the image last."""
        last = [path for path in (self.report, self.image) if path is not None]
        return [self.sidecar, *self.maps.values(), *last]

    def folders(self) -> list[Path]:
        """Return the folders of DICOM series, the restored scan last."""
        return [*self.series_maps.values(), *([] if self.series is None else [self.series])]

    def everything(self) -> tuple[Path, ...]:
        """Return the files and folders that are there when a run has ended, the restored scan first."""
        trajectory = [] if self.trajectory is None else [self.trajectory]
        return tuple(path.absolute() for path in (*self.files()[::-1], *self.folders()[::-1], *trajectory))


def name_outputs(
    scan: Path,
    out: Path,
    request: OutputRequest,
    suffix: str | None,
    protected: Iterable[Path] = (),
    maps: Iterable[str] = (),
) -> OutputPaths:
    """Name everything that will be written, and check that it can be.

    Args:
        scan: The input; names the output if `out` is a folder.
        out: File, or folder.
        request: Outputs that are to be written.
        suffix: Ends the name of the image where `out` is a folder to put it into; None where `out` is the
            very name of the result, a folder too.
        protected: Files read that are never written, even with `overwrite`.
        maps: Names of the volumes that are written beside the restored one.

    Raises:
        OutputError: A name is taken, has another suffix, or its folder is missing.
        ConfigError: DICOM is asked for of a scan that is no DICOM, or with a voxel type; or no such format.
    """
    paths = _named(scan, out, request, suffix, tuple(maps))
    read, beside = [*installed_formats().files(scan), *protected], json_beside(scan)
    if beside != scan and not _is_record(beside):  # the record of an earlier result gives way with that
        read.append(beside)
    reads = {resolved(path) for path in (scan, *read)}
    for path in paths.files():
        check_file(path, request.overwrite, reads)
    for path in paths.folders():
        _check_series(path, request.overwrite, reads)
    if paths.trajectory is not None:
        _check_trajectory(paths, paths.trajectory)
    return paths


def result_suffix(task: Task) -> str:
    """Return the ending of the name of a result that is made of the scan's name."""
    return "superres" if task is Task.SUPERRES else "restored"


def _named(
    scan: Path, out: Path, request: OutputRequest, suffix: str | None, maps: tuple[str, ...]
) -> OutputPaths:
    """Return every name that the request leads to."""
    formats, form = installed_formats(), choose_output_format(scan, out, request.form)
    if form.image is None and request.dtype != "float32":
        raise ConfigError(f"--out-dtype is {request.dtype}, and DICOM stores 16 bits; leave it out")
    if request.sr:
        check_report(series=form.series)
    if suffix is not None and out.is_dir() and (not form.series or not _is_earlier_series(out)):
        # A link to a scan is called what it is called; what ends in dots is called as the folder is.
        called = resolved(scan) if scan.name in {"", ".."} else scan
        out = out / f"{formats.stem(called)}_{suffix}"
        image = out.with_name(f"{out.name}{form.suffix}")
    elif formats.written_as(out) is not None:
        if not formats.stem(out):
            raise OutputError(f"{out}: is an ending without a name; expected NAME{out.name}")
        image, out = out, out.with_name(formats.stem(out))
    elif not form.series:
        asked = None if request.form is None else form
        raise OutputError(f"{out}: the name of the output ends in {endings(asked)}, or is that of a folder")
    else:
        image = out.with_name(f"{out.name}{form.suffix}")
    beside = {name: out.with_name(f"{out.name}_{name}") for name in maps}
    files = {name: path.with_name(f"{path.name}{form.suffix}") for name, path in beside.items()}
    return OutputPaths(
        image=None if form.image is None else image,
        sidecar=out.with_name(f"{out.name}.json"),
        trajectory=None if request.trajectory is None else resolved(request.trajectory),
        overwrite=request.overwrite,
        series=out if form.series else None,
        maps={} if form.image is None else files,
        series_maps=beside if form.series else {},
        report=out.with_name(f"{out.name}{REPORT}") if request.sr else None,
    )


def check_report(*, series: bool) -> None:
    """Refuse a structured report where there is nothing that it refers to, or nothing to write it with.

    Args:
        series: Whether the result is a derived DICOM series, or may be one.

    Raises:
        ConfigError: It is none, or highdicom is not installed.
    """
    if not series:
        raise ConfigError("--sr writes a report on a derived DICOM series; pass --format dicom, or both")
    check_reports_can_be_written()


def outdated(paths: OutputPaths, protected: Iterable[Path]) -> list[Path]:
    """Return files of an earlier run beside the same sidecar that this run leaves: they would seem new.

    Args:
        paths: Outputs of this run.
        protected: Files that this run reads: an earlier result, perhaps.
    """
    try:
        names = list(_paths_in(_first_record(paths.sidecar)["output"]))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return []
    found = [paths.sidecar.with_name(name) for name in names if name and Path(str(name)).name == name]
    kept = {*paths.files(), *paths.folders()}
    read = [resolved(path) for path in protected]
    return [
        path
        for path in dict.fromkeys(found)
        if path not in kept
        and not any(one.is_relative_to(resolved(path)) for one in read)
        and (path.is_file() or _holds_series(path))
    ]


def _first_record(sidecar: Path) -> Any:
    """Return the record of the first volume in a JSON file of any content; raises what that leads to."""
    stated = json.loads(sidecar.read_text(encoding="utf-8"))
    return stated[0] if isinstance(stated, list) else stated.get("volumes", [stated])[0]


def _is_record(path: Path) -> bool:
    """Whether a JSON file is the record of a result."""
    try:
        return {"model", "input", "output"} <= set(_first_record(path))
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False


def _paths_in(output: Mapping[str, JSON]) -> Iterator[str]:
    """Yield every path that the outputs in a record name, maps and series included."""
    for name, entry in output.items():
        if name == "path":
            yield str(entry)
        elif isinstance(entry, Mapping):
            yield from _paths_in(entry)


def _is_earlier_series(folder: Path) -> bool:
    """Whether a folder is a series of an earlier run, and not a folder that results go into."""
    if not folder.with_name(f"{folder.name}.json").is_file():
        return False
    return _holds_series(folder)


def _holds_series(folder: Path) -> bool:
    """Whether a folder holds images of a series and nothing else."""
    names = {path.name for path in folder.iterdir() if not is_litter(path)} if folder.is_dir() else set()
    return bool(names) and all(fnmatch(name, SERIES_FILES) for name in names)


def own_files(folder: Path) -> set[Path]:
    """Return the files that an earlier run wrote into a folder of trajectories."""
    return {path for pattern in TRAJECTORY_FILES for path in folder.glob(pattern)}


def check_file(path: Path, overwrite: bool, protected: Set[Path] = frozenset()) -> None:
    """Refuse a file that cannot be written, is read in the same run, or is there already.

    Raises:
        OutputError: It is one of these.
    """
    _check_parent(path)
    if resolved(path) in protected:
        raise OutputError(f"{path}: is read in this run, and would be replaced; choose another name")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, and a file of that name would be written")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path}: exists already; pass --overwrite to replace it, or choose another name")


def _check_series(path: Path, overwrite: bool, reads: set[Path]) -> None:
    _check_parent(path)
    place = resolved(path)
    for read in reads:
        if read == place or (read.is_dir() and read in place.parents) or place in read.parents:
            raise OutputError(
                f"{path}: overlaps with {read}, which is read in this run; the next run would take the "
                "result for a part of the scan, choose a folder elsewhere"
            )
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise OutputError(f"{path}: is a file, and a folder of that name is to hold the series")
    items = (item for item in path.iterdir() if not is_litter(item))
    strangers = sorted(item.name for item in items if not fnmatch(item.name, SERIES_FILES))
    if strangers:
        raise OutputError(f"{path}: holds {strangers[0]}, which is no part of a series; choose a new folder")
    if not overwrite:
        raise OutputError(f"{path}: exists already; pass --overwrite to replace it, or choose another name")


def check_folder(path: Path, overwrite: bool) -> None:
    """Refuse a folder of a trajectory that cannot be made, or holds anything but an earlier trajectory.

    Raises:
        OutputError: It is one of these.
    """
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


def _check_trajectory(paths: OutputPaths, trajectory: Path) -> None:
    check_folder(trajectory, paths.overwrite)
    for path in map(resolved, (*paths.files(), *paths.folders())):
        if path.is_relative_to(trajectory) or trajectory.is_relative_to(path):
            raise OutputError(f"{trajectory}: is an output too; choose another folder for the trajectory")


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.parent} cannot be written to")
