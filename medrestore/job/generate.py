"""The files of generated volumes: each with its record, both or neither; all of them say what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from medrestore.engine.generate import Generated, generate
from medrestore.engine.run import Observers
from medrestore.errors import ConfigError, OutputError
from medrestore.files import write
from medrestore.io import atomic_write
from medrestore.job.outputs import check_file, check_folder
from medrestore.job.trajectory import TrajectoryFolder
from medrestore.job.write import sidecar
from medrestore.options import GenerateOptions
from medrestore.plugin import installed_formats
from medrestore.plugin.extensions.generators import find_generator
from medrestore.provenance import RunRecord


def name_volumes(
    model: str,
    out: Path,
    options: GenerateOptions,
    *,
    trajectory: Path | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Return the file of every volume, after a check that all of them can be written.

    Args:
        model: Generator, as `generate` takes it.
        out: File ending in .nii or .nii.gz for one volume, or a folder.
        options: How many there are, and their seed.
        trajectory: Folder for the steps of the last stage; None for none.
        overwrite: Whether files that are there are replaced.

    Raises:
        ConfigError: There is no such generator, or one file is named for several volumes.
        OutputError: A file is there, has another ending, or its folder is missing.
    """
    name = find_generator(model).spec.name
    if out.is_dir():
        paths = [out / f"{name}_seed{options.seed}_{index:03}.nii.gz" for index in range(options.count)]
    elif options.count > 1:
        raise ConfigError(f"{out}: {options.count} volumes are asked for; pass a folder that exists")
    else:
        paths = [out]
    formats = installed_formats()
    for path in paths:
        written_as = formats.written_as(path)
        if written_as is None or written_as.name != "nifti":
            raise OutputError(
                f"{path}: the name does not end in .nii or .nii.gz; other files have no place that says "
                "that a volume is synthetic"
            )
        for file in (path, _record_of(path)):
            check_file(file, overwrite)
    if trajectory is not None:
        check_folder(trajectory, overwrite)
    return tuple(paths)


def generate_files(
    model: str,
    paths: tuple[Path, ...],
    options: GenerateOptions,
    *,
    progress: Callable[[int, int], None] | None = None,
    trajectory: Path | None = None,
) -> Iterator[RunRecord]:
    """Make volumes of noise, and write each with its record when it is done.

    Args:
        model: Generator, as `generate` takes it.
        paths: See `name_volumes`.
        options: What to make.
        progress: Called with voxels done and in all, over all evaluations, for each volume.
        trajectory: Folder for the steps of the last stage; None for none.

    Yields:
        The record of each, as it lies beside the volume.

    Raises:
        ConfigError, ModelError, PluginError: As `generate`.
        OutputError: A file cannot be written.
    """
    with ExitStack() as stack:
        steps = None if trajectory is None else stack.enter_context(TrajectoryFolder(trajectory))
        observers = Observers(progress, None if steps is None else steps.add)
        for path, made in zip(paths, generate(model, options, observers=observers), strict=True):
            yield _written(path, made)


def _written(path: Path, made: Generated) -> RunRecord:
    record_path = _record_of(path)
    with atomic_write(record_path, overwrite=True) as held, atomic_write(path, overwrite=True) as image:
        report = write(made.volume, image, overwrite=True)
        output = {"path": path.name, "sha256": report.sha256, "dtype": report.dtype}
        record = replace(made.record, output=output)
        held.write_text(sidecar((record,)), encoding="utf-8")
    return record


def _record_of(path: Path) -> Path:
    return path.with_name(f"{installed_formats().stem(path)}.json")
