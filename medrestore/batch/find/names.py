"""Names that are safe to write under, and that do not tell whose scan it is."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from medrestore.errors import OutputError
from medrestore.io.atomic import TEMPORARY, temporary_end
from medrestore.options import MAPS, REPORT
from medrestore.paths import is_litter, open_file, resolved
from medrestore.plugin import installed_formats
from medrestore.provenance import JSON
from medrestore.types import SERIES_FILES

_LONGEST = 150  # bytes of a part of a path; file systems take 255, and endings come behind
_SHORTEST = 2  # names this short are not replaced, as they are part of any word
_ODD = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]")
_MAPS = tuple(f"_{name}" for name in MAPS)


def endings() -> tuple[str, ...]:
    """Return every ending that may follow the name of a result, in whatever format its image is."""
    images = [one.suffixes[0] for one in installed_formats() if one.write is not None]
    maps = (f"{one}{image}" for one in _MAPS for image in images)
    return "", ".json", REPORT, *_MAPS, *images, *maps


def case_id(source: PurePosixPath, series: str = "") -> str:
    """Return twelve hexadecimal digits for a place in the tree."""
    return hashlib.sha256(f"{source}\0{series}".encode("utf-8", "surrogateescape")).hexdigest()[:12]


def safe_path(path: PurePosixPath) -> PurePosixPath:
    """Return a relative path whose parts every file system takes, and that does not lead upwards.

    Raises:
        OutputError: The path is absolute, or leads upwards.
    """
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise OutputError(f"{str(path)!r} is no path below the folder of results; expected a relative one")
    *folders, name = (_safe_name(part) for part in path.parts)
    if name.lower().endswith((*_MAPS, REPORT)):  # else the result looks like a map of another case
        name = f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return PurePosixPath(*folders, name)


def _safe_name(name: str) -> str:
    """Return a name without control characters, and short enough; a hash keeps shortened names apart."""
    raw = name.encode("utf-8", "surrogateescape")
    safe = _ODD.sub("_", raw.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "_"))
    if safe == name and len(raw) <= _LONGEST:
        return name
    short = safe.encode()[: _LONGEST - 9].decode("utf-8", "ignore")
    return f"{short}-{hashlib.sha256(raw).hexdigest()[:8]}"


def without_names(text: str, job: Mapping[str, JSON]) -> str:
    """Replace paths and file names of a case by its id: they may name a person.

    Args:
        text: An error, or output of a worker.
        job: The job as the worker was given it: ``case``, ``root``, ``source``, ``out``, ``reference``.
    """
    case, names = str(job["case"]), set()
    root, source = Path(str(job["root"])), Path(str(job["source"]))
    for path in (root / source, source, Path(str(job["out"])), Path(str(job.get("reference") or "-"))):
        names |= {str(path), str(path.parent), path.name}
    for _, folders, files in os.walk(root / source):
        names |= {*folders, *files}
    for name in sorted(names, key=len, reverse=True):
        if len(name) > _SHORTEST:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", case, text)
    return text


def place(folder: Path, output: PurePosixPath) -> Path:
    """Return the path of a result, after making its folder.

    Raises:
        OutputError: A link on the way leads out of the folder of results.
        OSError: The folder cannot be made.
    """
    path = folder / output
    for parent in [folder, *(folder / part for part in list(output.parents)[-2::-1])]:
        if resolved(parent) != resolved(folder) / parent.relative_to(folder):
            raise OutputError(f"{parent.relative_to(folder)} is a link in the folder of results; remove it")
        parent.mkdir(exist_ok=True)
    if path.is_symlink():
        raise OutputError(f"{output} is a link in the folder of results; remove it")
    return path


def results(path: Path) -> list[Path]:
    """Return the existing files and folders of the result of a case: image, record, maps, report."""
    return [entry for ending in endings() if (entry := path.with_name(path.name + ending)).exists()]


def temporary_files(path: Path) -> list[Path]:
    """Return the files that a killed run left beside a result: see `medrestore.io.atomic_write`."""
    if not path.parent.is_dir():
        return []
    names = {temporary_end(path.name + ending) for ending in endings()}
    return [
        entry
        for entry in path.parent.iterdir()
        if (start := TEMPORARY.match(entry.name)) is not None
        and entry.name[start.end() :].removesuffix(".old") in names
    ]


def clear(path: Path) -> None:
    """Remove what a killed run left where the result of a case is to be."""
    for left in temporary_files(path):
        remove(left)
    if path.is_dir() and not path.with_name(f"{path.name}.json").exists():
        # A series whose record was not written; results of other cases may lie beside it.
        for image in path.glob(SERIES_FILES):
            remove(image)
        if not any(path.iterdir()):
            path.rmdir()


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of the files of a folder."""
    if path.is_file():
        with open_file(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    items = sorted(item for item in path.iterdir() if not is_litter(item))
    parts = [f"{item.name} {fingerprint(item)}" for item in items]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds."""
    if path.is_dir():
        for item in path.iterdir():
            remove(item)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
