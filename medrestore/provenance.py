"""Where voxels came from and what was done to them, as plain JSON-able records."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from medrestore.errors import InputError
from medrestore.findings import UNCLASSIFIED, Finding
from medrestore.paths import open_file
from medrestore.plain import JSON, plain, plain_mapping
from medrestore.types import Judgement

__all__ = [
    "JSON",
    "History",
    "ModelRef",
    "RunRecord",
    "Source",
    "Step",
    "plain",
    "series_record",
    "sha256_file",
    "software_versions",
]

SCHEMA = 2
"""Version of the JSON layout of `RunRecord`; that of 1 is read too, a newer one refused."""

_PACKAGES = ("medrestore", "numpy", "scipy", "torch", "monai", "nibabel", "pydicom", "scikit-image", "pluggy")
_BLOCK = 1 << 20


_MAPPINGS = (
    *("versions", "settings", "noise", "slices", "verdict", "intervals", "timings"),
    *("predicted", "metrics", "domain", "detectability", "output"),
)
"""Fields of `RunRecord` that are plain mappings."""

IN_PARTS = frozenset({"tile", "max_memory", "threads"})
"""Settings that say in what parts, or by how many threads, a result is computed: nothing in it changes."""


@dataclass(frozen=True)
class Step:
    """One thing done to a volume: a name and the parameters that replay it."""

    name: str
    params: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Detach the parameters from the caller's objects."""
        object.__setattr__(self, "params", plain_mapping(self.params, f"step {self.name!r}"))


History: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Source:
    """Where a volume was read from.

    Attributes:
        path: File or folder as given; empty for an array in memory.
        format: Name of its format, such as ``"nifti"`` or ``"dicom"``; ``"array"`` for what was no file.
        sha256: Hash of the file; of the sorted per-file hashes for several; None for an array.
        details: On-disk facts a writer needs (``dtype``, ``slope``, ``inter``, ...); no patient data.
    """

    path: str
    format: str
    sha256: str | None = None
    details: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the format and detach the details from the caller's objects."""
        if not isinstance(self.format, str) or not self.format:
            raise ValueError(f"format {self.format!r}, expected the name of one")
        object.__setattr__(self, "path", os.fspath(self.path))
        object.__setattr__(self, "details", plain_mapping(self.details, "source details"))


@dataclass(frozen=True)
class ModelRef:
    """Which model ran.

    Attributes:
        name: Its full name.
        plugin: The plugin that declared it; ``"folder"`` where none did.
        sha256: Hash of its weights.
        network: Name of its network, ``plugin/name`` where that is a plugin's; None where it has no name.
    """

    name: str
    plugin: str
    sha256: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """All that is needed to say how a result was made, and to make it again.

    Attributes:
        medrestore: Version of this package.
        versions: Versions of Python and of the packages that compute, those of plugins among them, by name.
        model: The model that ran.
        input: Where the scan came from.
        settings: Options of the run after defaults were filled in.
        seed: Seed of every random draw; None if nothing was drawn.
        noise: Noise level used and how it was found.
        slices: For super-resolution, how the slices were taken to be, and how well the result agrees with
            them; empty for denoising.
        verdict: Whether the result agrees with the scan, and what that rests on; empty in records of earlier
            versions.
        intervals: Level and calibration of the intervals, and the bound of PSNR and SSIM; empty without.
        timings: Seconds by phase.
        peak_memory_mb: Highest resident memory of the process, in MB; None if unknown.
        predicted: Peak memory, seconds of preparing, network and measuring, and tile, as told beforehand;
            empty where nothing was known of the model on that machine.
        metrics: Values against a reference, or the reason why there are none.
        domain: What the scan was recognised as by its content, and whether it is what the model was made for;
            empty where the model says nothing of that.
        detectability: How well virtual lesions are found in the scan and in the result, where that was asked.
        output: What was written, with hashes and clipped voxels.
        findings: What a reader of the result should know.
    """

    medrestore: str
    versions: Mapping[str, str]
    model: ModelRef
    input: Source
    settings: Mapping[str, JSON] = field(default_factory=dict)
    seed: int | None = None
    noise: Mapping[str, JSON] = field(default_factory=dict)
    slices: Mapping[str, JSON] = field(default_factory=dict)
    verdict: Mapping[str, JSON] = field(default_factory=dict)
    intervals: Mapping[str, JSON] = field(default_factory=dict)
    timings: Mapping[str, JSON] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    predicted: Mapping[str, JSON] = field(default_factory=dict)
    metrics: Mapping[str, JSON] = field(default_factory=dict)
    domain: Mapping[str, JSON] = field(default_factory=dict)
    detectability: Mapping[str, JSON] = field(default_factory=dict)
    output: Mapping[str, JSON] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        """Detach every mapping from the caller's objects."""
        for name in _MAPPINGS:
            object.__setattr__(self, name, plain_mapping(getattr(self, name), name))
        object.__setattr__(self, "findings", tuple(self.findings))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        return tuple(finding.text for finding in self.findings)

    @property
    def judgement(self) -> Judgement | None:
        """Whether the result agrees with the scan; None where nobody judged, or could."""
        stated = self.verdict.get("verdict")
        return Judgement(stated) if stated in tuple(Judgement) else None

    @property
    def cleaner(self) -> ModelRef | None:
        """The model that cleaned slices before they were resolved; None for none."""
        stated = self.slices.get("denoised_with")
        if not isinstance(stated, Mapping):
            return None
        name, digest = str(stated["name"]), stated["sha256"]
        return ModelRef(name, name.partition("/")[0], None if digest is None else str(digest))

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return the record as JSON text with stable key order; `from_json` reads it back."""
        data = {"schema": SCHEMA, **asdict(self)}
        data["findings"] = [finding.as_json() for finding in self.findings]
        return json.dumps(data, indent=indent, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Read a record written by `to_json`; keys in capitals, which are those of BIDS, are passed over.

        Raises:
            InputError: Not JSON, another schema, or fields missing or unknown.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(
                f"run record: not valid JSON ({error}); expected the sidecar of a result"
            ) from error
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if not key[:1].isupper()}
        schema = data.pop("schema", None) if isinstance(data, dict) else None
        if schema not in {1, SCHEMA}:
            raise InputError(
                f"run record: schema {schema!r}, this version of medrestore reads 1 and {SCHEMA}"
            )
        if schema == 1:  # sentences, without codes
            old = data.pop("warnings", ())
            data["findings"] = [{"code": UNCLASSIFIED.code, "text": text} for text in old]
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise InputError(
                f"run record: unknown fields {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        try:
            data["model"] = ModelRef(**data["model"])
            data["input"] = Source(**data["input"])
            data["findings"] = tuple(Finding.from_json(entry) for entry in data.get("findings", ()))
            return cls(**data)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"run record: a field is missing or of the wrong kind ({error})") from error


def series_record(records: Sequence[RunRecord]) -> RunRecord:
    """Return the record of a series: that of its first volume, with the findings and worst verdict of all."""
    order = [None, *Judgement]
    worst = max(records, key=lambda record: order.index(record.judgement))
    found = {finding.text: finding for record in records for finding in record.findings}
    return replace(records[0], verdict=worst.verdict, findings=tuple(found.values()))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_file(Path(path)) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return digest.hexdigest()


def sha256_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their sorted hashes.

    Raises:
        InputError: A file cannot be read.
    """
    digests = sorted(sha256_file(path) for path in paths)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def software_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that take part, without importing them."""
    return dict(_software_versions())


@lru_cache(maxsize=1)
def _software_versions() -> dict[str, str]:
    # Asked for every record, and parsing what pip left takes as long as reading a small scan.
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
