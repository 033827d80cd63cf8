"""The smaller declarations: operators, metrics and file formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from medrestore.plugin.spec import Declaration
from medrestore.types import BoolArray, RealArray

if TYPE_CHECKING:
    from torch import Tensor

    from medrestore.io.formats import Format


class Operator(Protocol):
    """A linear degradation A; ``<A x, y> == <x, A^T y>`` holds to rounding."""

    def forward(self, image: Tensor) -> Tensor:
        """Return A x: (B, 1, X, Y, Z), the clean volume, to what would have been measured of it."""
        ...

    def adjoint(self, measured: Tensor) -> Tensor:
        """Return A^T y, of the shape that `forward` takes."""
        ...


@dataclass(frozen=True, kw_only=True)
class OperatorSpec(Declaration):
    """A degradation that a restoration can undo.

    Attributes:
        title: One line for a person.
        build: Makes the operator for the (X, Y, Z) grid of a clean volume; further arguments are its options.
    """

    title: str
    build: Callable[..., Operator]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(callable(self.build), "build", "a function of a grid shape")


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Declaration):
    """A score of an image against a reference.

    Attributes:
        definition: What exactly is computed, in a sentence; it is written beside every value.
        compute: Takes (image, reference, data_range, mask or None), both (X, Y, Z); returns the score.
        higher_is_better: Its direction.
    """

    definition: str
    compute: Callable[[RealArray, RealArray, float, BoolArray | None], float]
    higher_is_better: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(bool(self.definition), "definition", "a sentence")
        self._require(callable(self.compute), "compute", "a function")


@dataclass(frozen=True, kw_only=True)
class FormatSpec(Declaration):
    """A file format.

    Attributes:
        title: What a person calls it, such as ``"NRRD"``.
        load: Returns the format, which has the same name; called when a scan is read or written.
    """

    title: str
    load: Callable[[], Format]
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.name != "both", "name", "another: both is what --format calls NIfTI and DICOM")
        self._require(isinstance(self.title, str) and bool(self.title), "title", "a name for people")
        self._require(callable(self.load), "load", "a function without arguments")
