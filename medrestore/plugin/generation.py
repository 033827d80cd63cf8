"""The declaration of a generator: a model that makes whole volumes of noise alone, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from medrestore.plugin.fields import is_range
from medrestore.plugin.spec import Declaration, LoadContext
from medrestore.types import Modality

if TYPE_CHECKING:
    from torch import Tensor

    from medrestore.diffusion.denoiser import Condition, Denoiser


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One resolution of a generator: a diffusion of its own, given what the coarser stage made.

    Attributes:
        denoiser: Returns the expected volume given a state, its level and the condition.
        condition: Makes the condition of what the stage before made, brought to the grid of this stage,
            (1, 1, X, Y, Z) in model units (zeros for the first stage), and of the voxel size in mm.
        levels: First and last standard deviation of the noise, in model units. The sampler begins with noise
            of the first around what is expected of the condition alone (at an infinite level), or around its
            `image` where its own level is infinite too.
        spacing_mm: Size of its voxels, all over the field; None for the last stage, whose grid is that of
            the result.
        multiple: Every size that the denoiser is given is a multiple of this.
    """

    denoiser: Denoiser
    condition: Callable[[Tensor, float], Condition]
    levels: tuple[float, float]
    spacing_mm: float | None = None
    multiple: int = 1


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec(Declaration):
    """A generator: what its volumes look like, and how to load it.

    Attributes:
        title: One line for a person.
        modality: What its volumes imitate.
        licence: SPDX expression of code and weights together, the stricter of the two.
        reference: The page that says how it was made, and of whom.
        spacing_mm: Smallest and largest voxel size of its volumes, in mm; voxels are cubes.
        field_mm: Size in mm, along X, Y and Z, of what it can show; a volume shows it, or the middle of it.
        load: Called when it is to run, and not before; returns the stages, the coarsest first.
        scale: What a value of 1 in model units is written as.
        weights: Its file of weights, if it has one.
        sha256: Of that file, in hexadecimal.
    """

    noun: ClassVar[str] = "generator"

    title: str
    modality: Modality
    licence: str
    reference: str
    spacing_mm: tuple[float, float]
    field_mm: tuple[float, float, float]
    load: Callable[[LoadContext], Sequence[Stage]]
    scale: float = 1.0
    weights: Path | None = None
    sha256: str | None = None
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_texts("title", "licence", "reference")
        self._require(isinstance(self.modality, Modality), "modality", "a medrestore.Modality")
        self._require(callable(self.load), "load", "a function of a LoadContext")
        self._require(
            is_range(self.spacing_mm, positive=True), "spacing_mm", "(low, high) in mm, 0 < low <= high"
        )
        fine = isinstance(self.field_mm, tuple) and len(self.field_mm) == 3
        fine = fine and all(is_range((size, size), positive=True) for size in self.field_mm)
        self._require(fine, "field_mm", "(x, y, z) in mm")
        self._require(is_range((self.scale, self.scale), positive=True), "scale", "a positive number")
        self._require_weights(self.weights, self.sha256)
