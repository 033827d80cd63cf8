"""Files that are no slices, or cannot be read and may be some: which ones, and which series they block.

This is the one place that decides it, for the plan that is shown and for the series that is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from medrestore.io.dicom.parse.files import is_blank
from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader
from medrestore.io.dicom.plan.series import PlannedSeries
from medrestore.io.tree import Entry
from medrestore.paths import Obstacle

_WHY = {Obstacle.OUTSIDE: SkipReason.LINK, Obstacle.UNLISTED: SkipReason.UNLISTED}
_NUMBERS = re.compile(r"[0-9A-Fa-f]{6,}|\d+")


def blocker_of(series: PlannedSeries, left_out: Sequence[LeftOut]) -> LeftOut | None:
    """Return a file that cannot be used and may have slices of a series; None where there is none.

    Nothing in a classic header says how many slices a series has: one that lacks its last slices looks whole.
    So a file of the series' own UID counts, and one whose UID is cut or cannot be read if it lies where the
    files of the series lie: in their folder, or below the folder that all of theirs have in common.

    Args:
        series: The series.
        left_out: Files without a usable slice.
    """
    uids = {head.series for head in series.heads}
    folders = {head.path.parent for head in series.heads}

    def may_be_of_it(item: LeftOut) -> bool:
        if item.series in uids:
            return True
        # Where a length is damaged, a UID is cut, or gone: "" is the start of any.
        cut = any(uid.startswith(item.series) for uid in uids)
        here = item.path.parent in folders if len(folders) == 1 else item.path.is_relative_to(series.home)
        return cut and here

    return next((item for item in left_out if item.why.blocking and may_be_of_it(item)), None)


def without_pictures(heads: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[LeftOut]]:
    """Return the slices without pictures of another class, and those pictures.

    Beside a scan, a secondary capture is a picture of it, though it may have its place; alone it is a scan in
    a wrong class, and so it is in a series of a scan, as a slice of its size.
    """
    stated = [head for head in heads if head.otherwise is None]
    sizes = {(head.series, head.modality, head.size) for head in stated}
    pictures = [
        head
        for head in heads
        if stated and head.otherwise and (head.series, head.modality, head.size) not in sizes
    ]
    text = "its class is not MR, CT or PET, and other files beside it say that they are"
    left_out = {
        head.path: LeftOut.of(head, head.otherwise or SkipReason.OTHER, f"{head.path}: {text}")
        for head in pictures
    }
    return [head for head in heads if head.path not in left_out], list(left_out.values())


def damaged_siblings(others: Sequence[Path], heads: Sequence[SliceHeader]) -> list[LeftOut]:
    """Return the files that are no DICOM by content, lie among images, and are named as images are.

    Args:
        others: Files whose content is not that of DICOM.
        heads: Slices that were read.
    """
    names = _Names(heads)
    damaged = []
    for file in others:
        if not names.end_as(file):
            continue
        blank = is_blank(file)
        if blank or names.are_as(file):
            what = "empty, or nothing but zeros where a header should be" if blank else "no DICOM by content"
            text = f"{file}: {what}, and named as the images beside it; get the file again, or remove it"
            damaged.append(LeftOut(file, SkipReason.DAMAGED, text))
    return damaged


def hindered_paths(entries: Sequence[Entry], heads: Sequence[SliceHeader]) -> list[LeftOut]:
    """Return what cannot be opened; as damaged files where it is named as the images beside it are.

    Args:
        entries: Files and folders, with what hinders.
        heads: Slices that were read.
    """
    names = _Names(heads)
    found = []
    for entry in entries:
        path = entry.path
        otherwise = SkipReason.DAMAGED if names.are_as(path) else SkipReason.NO_FILE
        text = f"{path}: is {entry.obstacle}, and is not read; put the file itself there, or remove it"
        found.append(LeftOut(path, _WHY.get(entry.obstacle or Obstacle.MISSING, otherwise), text))
    return found


class _Names:
    """How the files of slices are named, folder by folder."""

    def __init__(self, heads: Sequence[SliceHeader]) -> None:
        self._endings = {(head.path.parent, _ending(head.path)) for head in heads}
        self._forms = {(head.path.parent, _form(head.path)) for head in heads}

    def end_as(self, file: Path) -> bool:
        """Whether images beside a file have its ending."""
        return (file.parent, _ending(file)) in self._endings

    def are_as(self, file: Path) -> bool:
        """Whether images beside a file are named as it is; without an ending, the form of the name tells."""
        return self.end_as(file) and bool(_ending(file) or (file.parent, _form(file)) in self._forms)


def _ending(file: Path) -> str:
    """Return the suffix of a file; empty for a name that is a number or a UID."""
    return "" if file.suffix[1:].isdigit() else file.suffix.lower()


def _form(file: Path) -> str:
    """Return a name with ``#`` for its numbers, which are the same for all slices but their numbers."""
    return re.sub(r"#(\.#)+", "#", _NUMBERS.sub("#", file.name.lower()))
