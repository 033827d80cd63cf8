"""The declaration of a model, and what every declaration shares. No torch here: listing models is cheap."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medrestore.errors import PluginError
from medrestore.plugin.fields import all_are, chosen, is_integer, is_range
from medrestore.types import Modality, Task

if TYPE_CHECKING:
    from medrestore.diffusion.denoiser import Denoiser

API = 2
"""Version of the hooks and of the declarations that this medrestore has."""

OLDEST_API = 1
"""What was declared for this version, and for those between, goes on working."""

OUTPUTS = frozenset({"mean", "sample"})
DTYPES = frozenset({"float32", "bfloat16", "float16"})
ENSEMBLES = (1, 2, 4, 8)
"""How many estimates, from the scan turned around and moved, a mean may be taken over."""

DOMAINS = {"mr-head": Modality.MR, "ct": Modality.CT}
"""What scans can be of that their content tells, with the modality of each."""

LEAST_FACTOR = 1.2
"""Slices closer than this many voxels of the result are as good as voxels: there is nothing to resolve."""

SHOWN = 200
"""Characters of a value that a message shows."""

_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
# No model is near these; what is beyond takes memory, or fills records and messages.
_LONGEST_NAME, _LONGEST_TEXT, _WIDEST_HALO, _LARGEST_MULTIPLE = 100, 1000, 4096, 1024

NAMES = f"lower-case letters and digits with single '.', '_' or '-' between them, {_LONGEST_NAME} at most"
"""What a name consists of, for a message."""


class Intensity(StrEnum):
    """What a model means by 1.0."""

    P99 = "p99"
    """The voxels divided by the 99th percentile of the scan."""
    ATTENUATION = "attenuation"
    """The attenuation relative to water, HU / 1000 + 1: air is 0, water 1. Slices lie along the last axis."""
    RAW = "raw"
    """The numbers as they are in the file."""


_NOT_IN = {Intensity.P99: Modality.CT, Intensity.ATTENUATION: Modality.MR}
"""What is not measured in them: 0 HU is water, a magnitude of 0 no signal, and their noise differs."""


@dataclass(frozen=True)
class LoadContext:
    """Where and how a model is to run.

    Attributes:
        device: A torch device, such as ``"cpu"`` or ``"cuda:0"``.
        dtype: Type of the heavy arithmetic, one of the model's `ModelSpec.dtypes`; the denoiser takes and
            returns float32 whatever it is.
        weights: File to load instead of `ModelSpec.weights`, with the same sha256; None for that one.
    """

    device: str = "cpu"
    dtype: str = "float32"
    weights: Path | None = None


def is_name(text: object) -> bool:
    """Tell whether `text` may name a plugin or a declaration, either side of the "/"."""
    return isinstance(text, str) and len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a plugin offers; the fields that everything offered has.

    Attributes:
        name: Lower-case letters, digits, and ``.``, ``_``, ``-`` between them; unique in its plugin.
        api: The API that the plugin was written for. The default stays 1 when `API` moves on: a plugin that
            does not say was written for the first.

    Raises:
        PluginError: A field is out of its range, or the API is newer or too old.
    """

    noun: ClassVar[str] = "declaration"
    """What a person calls one of them."""

    name: str
    api: int = 1

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise PluginError(f"{type(self).__name__}: name is {shown(self.name)}; expected {NAMES}")
        if not (isinstance(self.api, int) and OLDEST_API <= self.api <= API):
            remedy = "update medrestore" if _newer(self.api) else "update the plugin"
            raise PluginError(
                f"{type(self).__name__} {self.name!r} is for plugin API {shown(self.api)}; this medrestore "
                f"has API {API}: {remedy}"
            )

    def _require(self, fine: bool, field: str, expected: str) -> None:
        if not fine:
            raise PluginError(
                f"{type(self).__name__} {self.name!r}: {field} is {shown(getattr(self, field))}; "
                f"expected {expected}"
            )

    def _require_texts(self, *fields: str) -> None:
        for field in fields:
            text = getattr(self, field)
            fine = isinstance(text, str) and bool(text.strip()) and len(text) <= _LONGEST_TEXT
            self._require(fine, field, f"some text of at most {_LONGEST_TEXT} characters")

    def _require_weights(self, weights: Path | None, sha256: str | None) -> None:
        self._require(weights is None or isinstance(weights, Path), "weights", "a pathlib.Path or None")
        if weights is None:
            self._require(sha256 is None, "sha256", "None where there are no weights")
        else:
            digest = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None
            self._require(digest, "sha256", "64 hexadecimal digits, lower case, where there are weights")


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Declaration):
    """A model: what it is for, what it needs, and how to load it.

    Attributes:
        title: One line for a person.
        task: What it does.
        modalities: What it does it to. A model for both MR and CT is two, in the units of each; but for
            `Intensity.RAW`.
        licence: SPDX expression of the code and weights together, the stricter of the two.
        reference: The paper, or the page that says how it was made.
        load: Called when the model is to run, and not before; may import anything.
        intensity: Units of the voxels that it is given.
        spacing_mm: Smallest and largest voxel size, in mm, that it was made for.
        noise: Lowest and highest standard deviation of the noise that it was made for, as fractions of the
            99th percentile of the scan, or of the attenuation of water.
        factor: For super-resolution, smallest and largest distance of the slices, in voxels of the result,
            that it was made for; None for any, and for denoising. `spacing_mm` speaks of the voxels of the
            result.
        weights: Its file of weights, if it has one.
        sha256: Of that file, in hexadecimal.
        network: Name of its network, ``plugin/name`` where that is a plugin's; None where there is no name.
        halo: Voxels around an output voxel that take part in its value, on every side. A tile with so much
            around it gives the very result of the whole volume.
        multiple: Every size given to the denoiser, and every start of a tile, is a multiple of this.
        outputs: ``"mean"``: an infinite noise level of the state gives the posterior mean given the scan.
            Every model offers it. ``"sample"``: finite levels work, and a sampler may draw from the
            posterior.
        dtypes: Types of the heavy arithmetic that keep its quality, the reference type first.
        ensemble: Over how many estimates the mean is taken unless the user says otherwise, each from the scan
            turned around and moved by a voxel, and each an evaluation: 1, 2, 4 or 8.
        operator: For denoising, ``plugin/name`` of the operator that the scans went through and that the
            model undoes beside the noise: the residual is then that of the scan and of what would have been
            measured of the result. None for noise alone.
        colour: For denoising, whether it is told the correlations of the noise between neighbouring voxels;
            see `Condition.details`.
        denoise_with: For super-resolution, full name ``plugin/name`` of the model that takes the noise out of
            the slices first, on the grid that they were measured on; this model is told of what is left.
            `noise` speaks of the scan. None where this model is told of all of the noise.
        series: For denoising, the fewest volumes of a series that it takes at once: it is given them as a
            batch, which it may mix, and nothing else. None for a model of one volume, which keeps the scans
            of a batch apart.
        domain: What its scans are of, one of `DOMAINS`: others are refused, as far as their content tells
            them. None where nothing can be said; then nothing is refused for its content.
    """

    noun: ClassVar[str] = "model"

    title: str
    task: Task
    modalities: tuple[Modality, ...]
    licence: str
    reference: str
    load: Callable[[LoadContext], Denoiser]
    intensity: Intensity = Intensity.P99
    spacing_mm: tuple[float, float]
    noise: tuple[float, float]
    factor: tuple[float, float] | None = None
    weights: Path | None = None
    sha256: str | None = None
    network: str | None = None
    halo: int
    multiple: int = 1
    outputs: frozenset[str] = frozenset({"mean"})
    dtypes: tuple[str, ...] = ("float32",)
    ensemble: int = 1
    operator: str | None = None
    colour: bool = False
    denoise_with: str | None = None
    series: int | None = None
    domain: str | None = None

    @property
    def is_ct(self) -> bool:
        """Whether it is given attenuations, as CT measures them."""
        return self.intensity is Intensity.ATTENUATION

    @property
    def is_mr(self) -> bool:
        """Whether it is given magnitudes of MR, relative to the bright level."""
        return self.intensity is Intensity.P99 and Modality.MR in self.modalities

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_texts("title", "licence", "reference")
        self._require(isinstance(self.task, Task), "task", "a medrestore.Task")
        self._require(isinstance(self.intensity, Intensity), "intensity", "a medrestore.Intensity")
        unitless = self.task is not Task.SUPERRES or self.intensity is not Intensity.RAW
        self._require(unitless, "intensity", "p99 or attenuation for the task superres")
        self._require(all_are(self.modalities, Modality), "modalities", "a tuple of medrestore.Modality")
        other = _NOT_IN.get(self.intensity)
        expected = (
            f"no {other} with the intensity {self.intensity}: p99 is for MR, attenuation for CT; declare a "
            "model of each where it is for both"
        )
        self._require(other not in self.modalities, "modalities", expected)
        self._require(callable(self.load), "load", "a function of a LoadContext")
        if self.network is not None:
            self._require_texts("network")
        self._check_numbers()
        self._require_weights(self.weights, self.sha256)

    def _check_numbers(self) -> None:
        self._require(
            is_range(self.spacing_mm, positive=True), "spacing_mm", "(low, high) in mm, 0 < low <= high"
        )
        self._require(is_range(self.noise), "noise", "(low, high) fractions, 0 <= low <= high")
        self._require(
            self.factor is None or (self.task is Task.SUPERRES and _is_factor(self.factor)),
            "factor",
            f"(low, high) voxels, 0 < low <= high >= {LEAST_FACTOR}, for the task superres, or None",
        )
        for field, least, most in (("halo", 0, _WIDEST_HALO), ("multiple", 1, _LARGEST_MULTIPLE)):
            value = getattr(self, field)
            fine = is_integer(value, least) and value <= most
            self._require(fine, field, f"a whole number of voxels, {least} to {most}")
        self._require(
            is_integer(self.ensemble, 1) and self.ensemble in ENSEMBLES, "ensemble", f"one of {ENSEMBLES}"
        )
        fine = isinstance(self.colour, bool) and (not self.colour or self.task is Task.DENOISE)
        self._require(fine, "colour", "true or false, true for the task denoise only")
        self._check_series()
        known = isinstance(self.domain, str) and DOMAINS.get(self.domain) in self.modalities
        fine = self.domain is None or known
        self._require(fine, "domain", f"one of {', '.join(DOMAINS)}, of a modality of the model, or None")
        for field, task in (("operator", Task.DENOISE), ("denoise_with", Task.SUPERRES)):
            value = getattr(self, field)
            fine = value is None or (_is_full_name(value) and self.task is task)
            self._require(fine, field, f"plugin/name for the task {task}, or None")
        offered = chosen(self.outputs, frozenset, OUTPUTS) and "mean" in self.outputs
        self._require(offered, "outputs", "a frozenset of 'mean' and, where it has them, 'sample'")
        self._require(chosen(self.dtypes, tuple, DTYPES), "dtypes", f"a tuple of {sorted(DTYPES)}")

    def _check_series(self) -> None:
        alone = self.task is Task.DENOISE and self.operator is None and self.outputs == {"mean"}
        fine = is_integer(self.series, 2) and alone
        self._require(
            self.series is None or fine,
            "series",
            "a whole number, 2 or more, for the task denoise, the mean alone and no operator, or None",
        )


def shown(value: object) -> str:
    """What was found, for a message: as much of it as can be read."""
    try:
        return f"{value!r}"[:SHOWN]
    except (ValueError, RecursionError):  # a number of thousands of digits, say
        return f"a {type(value).__name__} that is too long to show"


def _is_full_name(value: object) -> bool:
    return isinstance(value, str) and "/" in value and all(map(is_name, value.split("/", 1)))


def _is_factor(pair: tuple[float, float]) -> bool:
    return is_range(pair, positive=True) and pair[1] >= LEAST_FACTOR


def _newer(api: object) -> bool:
    return isinstance(api, int) and api > API
