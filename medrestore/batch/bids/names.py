"""Names of BIDS: what they state of an image, and the name of its result.

A few lines instead of a library that reads whole data sets: a name is entities, a suffix and an ending.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from medrestore.errors import ConfigError
from medrestore.provenance import JSON
from medrestore.types import Task

ENTITIES = {
    **{"subject": "sub", "template": "tpl", "session": "ses", "cohort": "cohort", "sample": "sample"},
    **{"task": "task", "tracksys": "tracksys", "acquisition": "acq", "nucleus": "nuc", "volume": "voi"},
    **{"ceagent": "ce", "tracer": "trc", "stain": "stain", "reconstruction": "rec", "direction": "dir"},
    **{"run": "run", "modality": "mod", "echo": "echo", "flip": "flip", "inversion": "inv"},
    **{"mtransfer": "mt", "part": "part", "processing": "proc", "hemisphere": "hemi", "space": "space"},
    **{"split": "split", "recording": "recording", "chunk": "chunk", "atlas": "atlas"},
    **{
        "segmentation": "seg",
        "scale": "scale",
        "resolution": "res",
        "density": "den",
        "label": "label",
        "description": "desc",
    },
}
"""Short names by long ones, in the order in which they stand in a name."""

RESTORED: Mapping[str, frozenset[str]] = {
    "anat": frozenset({"T1w", "T2w", "PDw", "FLAIR", "T2star", "T2starw", "UNIT1", "inplaneT1", "inplaneT2"}),
    "func": frozenset({"bold", "cbv", "sbref"}),
    "dwi": frozenset({"dwi", "sbref"}),
    "perf": frozenset({"asl", "m0scan"}),
    "ct": frozenset({"ct"}),
}
"""Suffixes of the images that can be restored, by kind of data: the name of their folder."""

_PAIR = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
_ORDER = {short: index for index, short in enumerate(ENTITIES.values())}
_NUMBERS = frozenset({"run", "echo", "flip", "inv", "split"})


@dataclass(frozen=True)
class BidsName:
    """A name of BIDS, taken apart.

    Attributes:
        entities: Labels by the short names of entities, in the order of BIDS.
        suffix: The last part of the name, such as ``T1w``.
        datatype: Name of the folder, such as ``anat``; empty where it is not known.
    """

    entities: Mapping[str, str]
    suffix: str
    datatype: str = ""

    def __str__(self) -> str:
        """The name, without an ending."""
        return "_".join([*(f"{key}-{label}" for key, label in self.entities.items()), self.suffix])

    def but(self, **labels: str) -> BidsName:
        """Return the name with labels replaced or added, each in its place."""
        return replace(self, entities=_ordered({**self.entities, **labels}))

    def matches(self, key: str, wanted: str) -> bool:
        """Whether an entity, ``suffix`` or ``datatype`` has a label.

        Leading zeros of a number do not count; ``*`` is any label, and the empty one none.
        """
        label = {"suffix": self.suffix, "datatype": self.datatype}.get(key, self.entities.get(key, ""))
        if wanted == "*":
            return bool(label)
        if key in _NUMBERS and label.isdecimal() and wanted.isdecimal():
            return int(label) == int(wanted)
        return label == wanted


def parse_name(stem: str) -> BidsName | None:
    """Read the name of an image without its ending; None if it is no name of BIDS."""
    name = _parse(stem)
    return name if name is not None and stem.startswith("sub-") else None


def _parse(stem: str) -> BidsName | None:
    *pairs, suffix = stem.split("_")
    found = [_PAIR.fullmatch(pair) for pair in pairs]
    entities = {match[1]: match[2] for match in found if match is not None}
    if len(entities) != len(pairs) or not suffix.isalnum():
        return None
    return BidsName(_ordered(entities), suffix)


def speaks_of(stem: str, name: BidsName) -> int | None:
    """Return by how many entities a sidecar applies to an image; None if it does not apply.

    Args:
        stem: Name of the sidecar without its ending; at the top of a data set that may be just a suffix.
        name: Name of the image.
    """
    stated = _parse(stem)
    if stated is None or stated.suffix != name.suffix or not stated.entities.items() <= name.entities.items():
        return None
    return len(stated.entities)


def _ordered(entities: Mapping[str, str]) -> dict[str, str]:
    """Sort entities as BIDS does; entities unknown to BIDS come before the entities of derivatives."""
    unknown = _ORDER["chunk"] + 0.5
    return dict(sorted(entities.items(), key=lambda pair: _ORDER.get(pair[0], unknown)))


def entity_key(name: str) -> str:
    """Return the short name of an entity from its short or long name; ``suffix`` and ``datatype`` too.

    Raises:
        ConfigError: There is no such entity.
    """
    key = ENTITIES.get(name, name)
    if key not in _ORDER and key not in {"suffix", "datatype"}:
        raise ConfigError(
            f"{name[:80]!r} is no entity of BIDS; expected suffix, datatype or one of "
            f"{', '.join(ENTITIES.values())}"
        )
    return key


@dataclass(frozen=True)
class Naming:
    """How results are named.

    Attributes:
        task: The task that is done.
        spacing: For super-resolution, the voxel size across the slices as it was asked for.
    """

    task: Task = Task.DENOISE
    spacing: str = "iso"

    def result(self, source: PurePosixPath, name: BidsName) -> PurePosixPath:
        """Return the name of a result, without ending, in the folders of its source."""
        if self.task is Task.SUPERRES:
            return source.with_name(str(name.but(res=self.resolution, desc="sr")))
        return source.with_name(str(name.but(desc="denoised")))

    @property
    def resolution(self) -> str:
        """The label of ``res-``: ``iso``, or the size, with a p for the point, as labels hold no point."""
        return re.sub(r"[^A-Za-z0-9]", "", self.spacing.strip().replace(".", "p")) or "iso"

    def sidecar(self, source: PurePosixPath, *, skull_stripped: bool = False) -> dict[str, JSON]:
        """Return the metadata that BIDS requires in the JSON file of a result, beside how it was measured.

        Args:
            source: The image that it is made of, relative to the data set.
            skull_stripped: Whether the source has no skull. BIDS requires it of every derived image; an image
                as it came from the scanner has a skull.
        """
        stated: dict[str, JSON] = {
            "Description": "Denoised by medrestore.",
            "Sources": [f"bids:{RAW}:{source}"],
            "SkullStripped": skull_stripped,
        }
        if self.task is Task.SUPERRES:
            size = "that within the slices" if self.spacing == "iso" else self.spacing
            stated["Description"] = "Thick slices resolved by medrestore."
            stated["Resolution"] = f"Voxel size across the slices: {size}; within them as in the source."
        return stated


RAW = "raw"
"""The name of the source data set in links."""
