"""The files that a calibration is made of: clean scans, by subject, and what was measured beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrestore.errors import ConfigError

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Truths:
    """Scans that a calibration is made with.

    Attributes:
        held_out: Files of subjects that the model has not seen.
        tuning: Files of other subjects, which it may have seen; empty to take a third of the subjects above.
        measured: What was measured with noise, by the clean file of the same grid; empty where scans are made
            of the clean ones.
        subjects: Whose scan each of these files is.
    """

    held_out: tuple[Path, ...]
    tuning: tuple[Path, ...]
    measured: Mapping[Path, Path]
    subjects: Mapping[Path, str]

    def split(self) -> tuple[Sequence[Path], Sequence[Path]]:
        """Return the files that are held out and those that are tuned on, by subject."""
        if self.tuning:
            return self.held_out, self.tuning
        subjects = sorted({self.subjects[path] for path in self.held_out})
        chosen = set(subjects[::3]) if len(subjects) > 1 else set()
        tuning = tuple(path for path in self.held_out if self.subjects[path] in chosen)
        return tuple(path for path in self.held_out if self.subjects[path] not in chosen), tuning


def subject_of(path: Path, folder: Path) -> str:
    """Return whose scan a file is: the last ``sub-...`` of its path, else its own place below the folder.

    Args:
        path: The file.
        folder: In which it was found, or itself.
    """
    below = path.relative_to(folder) if path != folder else Path(path.name)
    for name in reversed((folder.name, *below.parts)):
        if found := _SUBJECT.search(name):
            return found.group()
    return below.with_name(path.name.split(".")[0]).as_posix()


def find_truths(folder: Path, tune: Path | None = None, measured: Path | None = None) -> Truths:
    """Return the scans of a folder, those of another to learn the size of errors from, and what was measured.

    Args:
        folder: Clean scans.
        tune: Clean scans of other subjects.
        measured: A noisy scan for each of both, at the same place below it; None to make scans of the clean
            ones.

    Raises:
        ConfigError: A folder has no scans, or a scan has no other of its name.
    """
    held_out, tuning = tuple(truths_in(folder)), () if tune is None else tuple(truths_in(tune))
    subjects = {path: subject_of(path, folder) for path in held_out}
    subjects |= {path: subject_of(path, tune) for path in tuning if tune is not None}
    if measured is None:
        return Truths(held_out, tuning, {}, subjects)
    places = {path: path.relative_to(folder) for path in held_out if path != folder}
    places |= {path: path.relative_to(tune) for path in tuning if tune is not None and path != tune}
    return Truths(held_out, tuning, _paired(places, measured), subjects)


def truths_in(folder: Path) -> Iterator[Path]:
    """Yield the scans of a folder, or the one scan that a path is.

    Raises:
        ConfigError: There are none.
    """
    if folder.is_file():
        yield folder
        return
    found = sorted(path for path in folder.rglob("*.nii*") if path.is_file()) if folder.is_dir() else []
    if not found:
        raise ConfigError(f"{folder}: no scans; expected a folder of NIfTI files")
    yield from found


def _paired(places: Mapping[Path, Path], measured: Path) -> dict[Path, Path]:
    """Return the measured scan of each clean one, by its place below its folder."""
    there = {_stem(path.relative_to(measured)): path for path in truths_in(measured) if path != measured}
    wanted = {_stem(place): path for path, place in places.items()}
    if len(wanted) < len(places):
        raise ConfigError(f"{measured}: two clean scans have one name, and would have one measured scan")
    for name in sorted(wanted.keys() ^ there.keys()):
        here, other = ("clean", "measured") if name in wanted else ("measured", "clean")
        raise ConfigError(
            f"{(wanted | there)[name]}: is a {here} scan, and there is no {other} one of this name: "
            f"{len(wanted)} clean and {len(there)} measured scans make {len(wanted.keys() & there.keys())} "
            "pairs; name both alike, below their folders, or take it away"
        )
    return {path: there[name] for name, path in wanted.items()}


def _stem(place: Path) -> str:
    return str(place).removesuffix(".gz").removesuffix(".nii")
