"""What lies among DICOM files and cannot be opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrestore.io.dicom.parse.header import LeftOut, SkipReason, SliceHeader
from medrestore.io.tree import Entry
from medrestore.paths import Obstacle

_WHY = {Obstacle.OUTSIDE: SkipReason.LINK, Obstacle.UNLISTED: SkipReason.UNLISTED}


def hindered_files(entries: Sequence[Entry], heads: Sequence[SliceHeader]) -> list[LeftOut]:
    """Return what cannot be opened; as damaged files where they are named as the images beside them.

    Args:
        entries: The paths, with what hinders.
        heads: The images of the tree.
    """
    named = {(head.path.parent, _ending(head.path)) for head in heads}
    found = []
    for entry in entries:
        like_images = (entry.path.parent, _ending(entry.path)) in named
        otherwise = SkipReason.DAMAGED if like_images else SkipReason.NO_FILE
        text = f"{entry.path}: is {entry.obstacle}, and is not read; put the file itself there, or remove it"
        found.append(LeftOut(entry.path, _WHY.get(entry.obstacle or Obstacle.MISSING, otherwise), text))
    return found


def _ending(path: Path) -> str:
    """Return the suffix of a file; empty for a name that is a number or a UID."""
    return "" if path.suffix[1:].isdigit() else path.suffix.lower()
