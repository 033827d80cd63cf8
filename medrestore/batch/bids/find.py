"""BIDS data sets: which of their images are cases."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medrestore.batch.bids.metadata import beside, carried, intended, read_json, sidecar_of, stems, unfit
from medrestore.batch.bids.names import RESTORED, BidsName, Naming, parse_name
from medrestore.batch.bids.wanted import Wanted
from medrestore.batch.find.case import Case, Found, distinct
from medrestore.batch.find.names import case_id, safe_path
from medrestore.errors import InputError
from medrestore.io import NIFTI
from medrestore.io.named import modality_of_name
from medrestore.paths import Obstacle, obstacle, resolved

DESCRIPTION = "dataset_description.json"
_PHASES = frozenset({"phase", "real", "imag"})
_PLACES = ("sub", "ses")
"""Entities that name folders."""


def is_dataset(path: Path) -> bool:
    """Whether a folder is a BIDS data set, and not a derivative.

    Raises:
        InputError: It has a description that cannot be read, so that nobody knows.
    """
    if obstacle(path) is not None:
        return False
    stated = read_json(path / DESCRIPTION)
    return "BIDSVersion" in stated and stated.get("DatasetType") != "derivative"


def check_dataset(path: Path) -> None:
    """Check that a folder is a BIDS data set.

    Raises:
        InputError: The folder is no data set, is a derivative, or has a description that cannot be read.
    """
    if not is_dataset(path):
        raise InputError(
            f"{path}: no BIDS data set; expected a folder with a {DESCRIPTION} that has a BIDSVersion and "
            "does not say that it is a derivative"
        )


def find_bids(path: Path, wanted: Wanted | None = None, naming: Naming | None = None) -> Found:
    """Find the images of a BIDS data set that can be restored.

    Args:
        path: Folder of the data set.
        wanted: Which images are cases; None for all.
        naming: How results are named; None for denoised results.

    Raises:
        InputError: The folder is no data set, or lacks a participant that is wanted.
    """
    check_dataset(path)
    stems.cache_clear()  # folders may have changed since the last call
    root, wanted, naming = resolved(path), wanted or Wanted(), naming or Naming()
    unlisted: list[Path] = []
    subjects = [folder for folder in _folders(root, unlisted) if folder.name.startswith("sub-")]
    if unlisted:
        raise InputError(f"{path}: is {Obstacle.UNLISTED}")
    here = {folder.name.removeprefix("sub-") for folder in subjects}
    if missing := sorted(wanted.values.get("sub", frozenset()) - here):
        raise InputError(f"{path}: no participant {', '.join(missing)}; it has {len(here)} others")
    left_out = _set_aside(root)
    cases = []
    for image, kind in (found for subject in subjects for found in _images(subject, unlisted)):
        source = PurePosixPath(image.relative_to(root).as_posix())
        name = parse_name(_stem(image))
        name = None if name is None else replace(name, datatype=kind)
        why = _why_not(root, image, kind, name)
        if why or name is None:
            left_out[why] += 1
        elif not wanted.take(name):
            left_out["filtered out"] += 1
        else:
            cases.append(_case(root, source, name, naming))
    cases = list(distinct(sorted(cases, key=lambda case: case.source)))
    closed = [one.relative_to(root).as_posix() for one in unlisted]
    return Found(tuple(cases), +left_out, unlisted=tuple(one for one in closed if wanted.may_lie_in(one)))


def _case(root: Path, source: PurePosixPath, name: BidsName, naming: Naming) -> Case:
    image = root / source
    series, stated, unread = beside(root, image, name), dict[str, Any](), ""
    try:
        stated = sidecar_of(root, image, name)
    except InputError as error:
        unread = str(error)
    sidecar = naming.sidecar(source, skull_stripped=stated.get("SkullStripped") is True)
    sidecar |= carried(stated, name, naming.task)
    if links := intended(root, stated, source.parts[0]):
        sidecar["IntendedFor"] = links
    output = safe_path(naming.result(source, name))
    # One image may be denoised and resolved into the same folder: two cases.
    return Case(
        id=case_id(source, output.name),
        root=root,
        source=source,
        output=output,
        modality=modality_of_name(image),
        series=None,
        files=(image, *series.values()),
        refused=_refusal(image) or unread or unfit(series.values()),
        entities={**name.entities, "suffix": name.suffix},
        sidecar=sidecar,
        beside=series,
    )


def _refusal(image: Path) -> str:
    """Return why an image cannot be opened; empty if it can be tried."""
    found = obstacle(image)
    if found in {Obstacle.DANGLING, Obstacle.MISSING}:
        return "its content is not here (get it with git-annex or DataLad first)"
    return "" if found is None else f"is {found}, expected a file"


def _set_aside(root: Path) -> Counter[str]:
    """Count the folders that are not looked into; there may be millions of files in them."""
    found: Counter[str] = Counter()
    for entry in root.iterdir():
        if entry.name.startswith(".") and entry.is_dir():
            found["hidden folder"] += 1
        elif entry.name in {"derivatives", "sourcedata"} and entry.is_dir():
            found[f"folder of {entry.name}"] += 1
    return found


def _images(subject: Path, unlisted: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield what is named as a NIfTI file of a subject, and its kind of data: the name of its folder."""
    inside = _folders(subject, unlisted)
    sessions = [folder for folder in inside if folder.name.startswith("ses-")]
    kinds = [folder for folder in inside if folder not in sessions]
    for home in sessions:
        kinds += [one for one in _folders(home, unlisted) if not one.name.startswith("ses-")]
    for folder in kinds:
        for path in _entries(folder, unlisted):
            if path.name.lower().endswith(NIFTI.suffixes):
                yield path, folder.name


def _folders(path: Path, unlisted: list[Path]) -> list[Path]:
    """Folders in the order of their names, without hidden ones."""
    return [one for one in _entries(path, unlisted) if one.is_dir() and not one.name.startswith(".")]


def _entries(folder: Path, unlisted: list[Path]) -> list[Path]:
    """Return what a folder holds, in the order of names; a folder that cannot be listed is noted."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        unlisted.append(folder)
        return []


def _why_not(root: Path, image: Path, kind: str, name: BidsName | None) -> str:
    """Return why an image is no case; empty if it is a case."""
    if image.name.startswith("."):
        return "hidden file"
    if image.is_dir():
        return "folder that is named as an image"
    if kind not in RESTORED:
        return f"image of {kind}"
    folders = list(image.relative_to(root).parts[:-2])
    if name is None or folders != [f"{k}-{label}" for k, label in name.entities.items() if k in _PLACES]:
        return "name that is not of BIDS, or of another folder"
    if not os.path.realpath(image).startswith(f"{root}{os.sep}"):
        return "link that leads out of the data set"
    return _other_image(kind, name)


def _other_image(kind: str, name: BidsName) -> str:
    """Return what kind of image is no case; empty if the image is a case."""
    if name.entities.get("part") in _PHASES:
        return "phase, or real or imaginary part"
    if name.suffix.endswith(("mask", "dseg", "probseg")):
        return "mask"
    return "" if name.suffix in RESTORED[kind] else f"image of {kind} that is {name.suffix}"


def _stem(image: Path) -> str:
    return image.name.split(".", 1)[0]
