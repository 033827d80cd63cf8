"""The smaller declarations: operators, metrics and readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from medrestore.plugin.spec import Declaration
from medrestore.types import BoolArray, RealArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medrestore.volume import Volume


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
class NetworkSpec(Declaration):
    """A network that `model.toml` and `train.toml` can name.

    It is called with (B, 4, X, Y, Z) and (B, 2 + D), see `medrestore.diffusion.precondition.network_inputs`,
    and returns (B, 1, X, Y, Z), the unit-variance noise that it predicts. Its attributes `halo` and
    `multiple` are those of a `ModelSpec`.

    Attributes:
        title: One line for a person.
        build: Makes it, with weights to be trained; its arguments are the ``options`` of the table
            ``[network]``.
    """

    noun: ClassVar[str] = "network"

    title: str
    build: Callable[..., nn.Module]
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(isinstance(self.title, str) and bool(self.title), "title", "some text")
        self._require(callable(self.build), "build", "a function of the network's options")


@dataclass(frozen=True, kw_only=True)
class MetricSpec(Declaration):
    """A score of an image against a reference.

    Attributes:
        definition: What exactly is computed, in a sentence; it is written beside every value.
        compute: Takes (image, reference, data_range, mask or None), both (X, Y, Z) and not to be written to,
            in the units of the scan; returns the score, a finite number. Where it raises, the value is
            absent, with that as the reason.
        higher_is_better: Its direction; written beside every value.
    """

    noun: ClassVar[str] = "metric"

    definition: str
    compute: Callable[[RealArray, RealArray, float, BoolArray | None], float]
    higher_is_better: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(bool(self.definition), "definition", "a sentence")
        self._require(callable(self.compute), "compute", "a function")


@dataclass(frozen=True, kw_only=True)
class ReaderSpec(Declaration):
    """A file format.

    Attributes:
        suffixes: Endings of its file names, such as ``(".nrrd",)``, lower case, with the dot.
        read: Reads one file.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Volume]

    def __post_init__(self) -> None:
        super().__post_init__()
        dotted = isinstance(self.suffixes, tuple) and all(
            isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower()
            for suffix in self.suffixes
        )
        self._require(
            dotted and bool(self.suffixes), "suffixes", "a tuple of lower-case endings with the dot"
        )
        self._require(callable(self.read), "read", "a function of a path")
