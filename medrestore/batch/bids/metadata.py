"""What a data set says of an image beside it, and what of that goes along with the result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from medrestore.batch.bids.names import RAW, BidsName, speaks_of
from medrestore.errors import InputError
from medrestore.paths import Obstacle, obstacle, open_file
from medrestore.paths import read_json as read_object
from medrestore.provenance import JSON
from medrestore.types import Task

_NUMBERS = frozenset(
    {
        *("RepetitionTime", "RepetitionTimeExcitation", "RepetitionTimePreparation", "VolumeTiming"),
        *("EchoTime", "EchoTime1", "EchoTime2", "InversionTime", "FlipAngle", "DelayTime", "DwellTime"),
        *("SliceTiming", "SliceThickness", "AcquisitionDuration", "AcquisitionVoxelSize"),
        *("EffectiveEchoSpacing", "TotalReadoutTime", "WaterFatShift", "PartialFourier", "NumberShots"),
        *("ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane"),
        *("MultibandAccelerationFactor", "MagneticFieldStrength", "MTState", "SpoilingState"),
        *("NumberOfVolumesDiscardedByScanner", "NumberOfVolumesDiscardedByUser"),
        *("NonlinearGradientCorrection", "PostLabelingDelay", "LabelingDuration", "LabelingDistance"),
        *("LabelingEfficiency", "LabelingSlabThickness", "LabelingPulseAverageB1", "LabelingPulseDuration"),
        *("LabelingPulseAverageGradient", "LabelingPulseMaximumGradient", "LabelingPulseFlipAngle"),
        *("LabelingPulseInterval", "LookLocker", "TotalAcquiredPairs", "M0Estimate", "VascularCrushing"),
        *("VascularCrushingVENC", "BackgroundSuppression", "BackgroundSuppressionNumberPulses"),
        *("BackgroundSuppressionPulseTime", "BolusCutOffFlag", "BolusCutOffDelayTime"),
    }
)
"""Keys that go along where they hold numbers: how an image was measured, and neither where nor of whom."""

_DIRECTIONS = frozenset({"i", "j", "k", "i-", "j-", "k-"})
_WORDS: Mapping[str, frozenset[str]] = {
    "PhaseEncodingDirection": _DIRECTIONS,
    "SliceEncodingDirection": _DIRECTIONS,
    "MRAcquisitionType": frozenset({"1D", "2D", "3D"}),
    "ArterialSpinLabelingType": frozenset({"CASL", "PCASL", "PASL"}),
    "PCASLType": frozenset({"balanced", "unbalanced"}),
    "CASLType": frozenset({"single-coil", "double-coil"}),
    "M0Type": frozenset({"Separate", "Included", "Estimate", "Absent"}),
    "BolusCutOffTechnique": frozenset({"QUIPSS", "QUIPSSII", "Q2TIPS"}),
}
"""Keys that go along where they hold one of the words that BIDS defines for them."""

_OF_SLICES = frozenset({"SliceTiming", "SliceThickness"})
"""What is no longer true of slices that were resolved."""

_BESIDE = {"dwi": (("dwi", ".bval"), ("dwi", ".bvec")), "asl": (("aslcontext", ".tsv"),)}
"""Suffixes and endings of the files that say what each volume of a series is, by the suffix of that."""

_NUMERIC = re.compile(rb"[-+.0-9eE\s]*")
_VOLUME_TYPES = frozenset(
    {b"volume_type", b"control", b"label", b"m0scan", b"deltam", b"cbf", b"noRF", b"n/a"}
)
_MOST = 10**6
"""Bytes of a file about volumes; there are thousands of volumes at most."""

_NOT_OF_CONTEXT = frozenset({"echo", "part"})


def sidecar_of(root: Path, image: Path, name: BidsName) -> dict[str, Any]:
    """Return the metadata of an image in the JSON files of a data set, by the inheritance principle of BIDS.

    Files closer to the image, and in one folder with more entities, come first.

    Raises:
        InputError: One of them cannot be read: what it says is not known.
    """
    stated: dict[str, Any] = {}
    for path in _speaking(root, image, name, ".json"):
        try:
            stated.update(read_json(path))
        except InputError as error:
            # The ledger keeps the message, and calls nobody by a label.
            place = re.sub(r"(sub|ses)-[^_/.]+", r"\1-*", path.relative_to(root).as_posix())
            raise InputError(str(error).replace(str(path), f"its file {place}")) from error
    return stated


def carried(stated: Mapping[str, Any], name: BidsName, task: Task) -> dict[str, JSON]:
    """Return what the metadata of an image says of how it was measured, and that holds for the result too.

    All else stays behind: institutions, serial numbers, dates and times, and whatever people wrote.
    """
    gone = _OF_SLICES if task is Task.SUPERRES else frozenset()
    found = {key: stated[key] for key in sorted(_NUMBERS & stated.keys() - gone) if _is_number(stated[key])}
    found |= {key: stated[key] for key, words in _WORDS.items() if stated.get(key) in words}
    said, label = stated.get("TaskName"), name.entities.get("task", "")
    if (
        isinstance(said, str) and "".join(filter(str.isalnum, said)) == label
    ):  # as the name of the file has it
        found["TaskName"] = said
    return found


def intended(root: Path, stated: Mapping[str, Any], subject: str) -> list[JSON]:
    """Return links to the images of the data set that an image is meant for, such as an M0 scan."""
    given = stated.get("IntendedFor", [])
    names = [str(one) for one in (given if isinstance(given, list) else [given])]
    paths = [one.removeprefix("bids::") if one.startswith("bids::") else f"{subject}/{one}" for one in names]
    return [f"bids:{RAW}:{path}" for path in paths if ".." not in path and (root / path).is_file()]


def beside(root: Path, image: Path, name: BidsName) -> dict[str, Path]:
    """Return the files that say what each volume of an image is, by their names beside a result.

    Such a name has no entity of derivatives, which BIDS does not allow there: by inheritance it is of all
    images with the same entities.
    """
    found: dict[str, Path] = {}
    for suffix, ending in _BESIDE.get(name.suffix, ()):
        gone = _NOT_OF_CONTEXT if suffix != name.suffix else frozenset()
        of = BidsName({key: label for key, label in name.entities.items() if key not in gone}, suffix)
        for path in _speaking(root, image, of, ending):
            found[f"{of}{ending}"] = path  # the last one is the closest
    return found


def unfit(files: Iterable[Path]) -> str:
    """Return what is wrong with files that are to go along, such as text of anyone's; empty if nothing."""
    for path in files:
        try:
            with open_file(path) as stream:
                content = stream.read(_MOST)
        except (OSError, InputError):
            return f"its file {path.suffix} cannot be read"
        if path.suffix == ".tsv":
            fine = set(content.split()) <= _VOLUME_TYPES
        else:
            fine = _NUMERIC.fullmatch(content) is not None
        if not fine:
            return f"its file {path.suffix} holds other than numbers, or types of volumes; mend it first"
    return ""


def _speaking(root: Path, image: Path, name: BidsName, ending: str) -> Iterator[Path]:
    """Yield the files of an ending that apply to an image, the closest one last.

    A file applies if it lies in a folder from the top of the data set down to the image's folder and the
    image has all its entities.
    """
    for folder in [home for home in reversed(image.parents) if home == root or root in home.parents]:
        speaking = [(speaks_of(stem, name), stem) for stem in stems(folder, ending)]
        for _, stem in sorted((by, stem) for by, stem in speaking if by is not None):
            yield folder / f"{stem}{ending}"


@lru_cache(maxsize=64)
def stems(folder: Path, ending: str) -> tuple[str, ...]:
    """Return the names of the files of a folder with an ending, without it; remembered until cleared."""
    return tuple(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty object if nothing is there.

    Raises:
        InputError: Something is there, a link that leads nowhere too, and it cannot be read as an object.
    """
    if obstacle(path) is Obstacle.MISSING:
        return {}
    try:
        return read_object(path)
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError:  # whose message may quote the file
        why = "it holds no JSON object"
    except InputError:
        why = "it is no file"
    raise InputError(f"{path}: cannot be read ({why}); mend it, or get its content first")
