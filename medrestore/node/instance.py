"""One image as it comes over a network: what it says of itself, and how it is told from another."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset

from medrestore.io.dicom.parse.files import inflated

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_TAGS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "ContributingEquipmentSequence",
)


@dataclass(frozen=True)
class Instance:
    """An image that came.

    Attributes:
        study: UID of its study; empty if it states none.
        series: UID of its series.
        sop: UID of the image.
        modality: Modality.
        description: Series description.
        own: Whether it is a result of medrestore.
        content: The file.
        digest: SHA-256 of its elements; see `digest_of`.
    """

    study: str
    series: str
    sop: str
    modality: str
    description: str
    own: bool
    content: bytes
    digest: str

    @classmethod
    def read(cls, content: bytes) -> Instance:
        """Read a file.

        Raises:
            ValueError: It has no UIDs.
            InputError: It inflates to more than any scan does.
        """
        data = pydicom.dcmread(_stream(content), stop_before_pixels=True, specific_tags=list(_TAGS))
        study = data.get("StudyInstanceUID")
        return cls(
            checked_uid(str(study)) if study else "",
            checked_uid(str(data.get("SeriesInstanceUID", ""))),
            checked_uid(str(data.get("SOPInstanceUID", ""))),
            str(data.get("Modality") or ""),
            str(data.get("SeriesDescription") or ""),
            is_own(data),
            content,
            digest_of(content),
        )


@dataclass(frozen=True)
class Query:
    """What is wanted: a study, by its UID, or one series of it."""

    study: str
    series: str | None = None

    def wants(self, image: Instance) -> bool:
        """Whether an image is of it."""
        return image.study == self.study and self.series in (None, image.series)


class SeriesFolders:
    """Images that were fetched, as ``SERIES/SOP.dcm`` below a folder.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, dict[str, str]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of every series; one that was sent twice is one image."""
        return {uid: len(images) for uid, images in self._digests.items()}

    def keep(self, image: Instance) -> bool:
        """Keep an image; False if another one with its UID is there, as one of the two would be lost.

        Raises:
            OSError: It cannot be written.
        """
        known = self._digests.get(image.series, {}).get(image.sop)
        if known is None:
            (self._folder / image.series).mkdir(exist_ok=True)
            (self._folder / image.series / f"{image.sop}.dcm").write_bytes(image.content)
            self._digests.setdefault(image.series, {})[image.sop] = image.digest
        return known in {None, image.digest}


def is_own(data: Dataset) -> bool:
    """Whether an image is a result of medrestore, whose UID never stands for anything else."""
    makers = data.get("ContributingEquipmentSequence") or []
    return any(item.get("Manufacturer") == "medrestore" for item in makers)


def checked_uid(uid: str) -> str:
    """Return a UID that may be the name of a file.

    Raises:
        ValueError: It is no UID.
    """
    if len(uid) > _UID_LENGTH or not _UID.fullmatch(uid):
        raise ValueError(f"{uid[:80]!r} is no UID")
    return uid


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of the elements of an image, pixels included, as they were written.

    Whether elements state their VR, lengths of groups and of sequences, and the header of the file do not
    count: they change on the way through an archive. Compressed pixels differ from uncompressed pixels, the
    order of bytes counts, and so does whether a private sequence is written as one.
    """
    digest = hashlib.sha256()
    try:
        _feed(digest, pydicom.dcmread(_stream(content)))
    except Exception:  # noqa: BLE001  what cannot be taken apart is compared byte by byte
        return hashlib.sha256(content).hexdigest()
    return digest.hexdigest()


def _stream(content: bytes) -> BinaryIO:
    return inflated(BytesIO(content), "an image")


def _feed(digest: Any, data: Dataset) -> None:
    for tag in sorted(data.keys()):
        if tag.element == 0:
            continue  # the length of its group
        item = data.get_item(tag)
        digest.update(int(tag).to_bytes(4, "big"))
        if item.VR == "SQ" or (item.VR in {None, "UN"} and _is_sequence(tag)):
            for part in data[tag].value or ():
                digest.update(b"item")
                _feed(digest, part)
            digest.update(b"end")
            continue
        value = item.value
        read = value if isinstance(value, bytes) else repr(value).encode() if value else b""
        digest.update(len(read).to_bytes(8, "big"))
        digest.update(read)


def _is_sequence(tag: int) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
