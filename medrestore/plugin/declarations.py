"""The smaller declarations: operators, metrics and readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from medrestore.plugin.spec import Declaration
from medrestore.types import BoolArray, RealArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medrestore.diffusion.samplers import Denoise, DrawNoise, OnStep
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


class Sample(Protocol):
    """A sampler: from a state and a callable to a clean volume; as `medrestore.diffusion.stochastic`."""

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        levels: Sequence[float],
        draw: DrawNoise,
        on_step: OnStep | None,
    ) -> Tensor:
        """Draw one sample.

        Args:
            denoise: Expected clean volume given a state and its level.
            x: State at the first level, (B, 1, X, Y, Z) in model units.
            levels: Falling standard deviations in model units; the last is zero.
            draw: Unit noise of the shape of `x` for a step number, the only randomness there is.
            on_step: Called with a `medrestore.diffusion.SamplerStep` after every step, where it is not None.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SamplerSpec(Declaration):
    """A way to draw a sample from the posterior.

    Attributes:
        title: One line for a person.
        sample: Draws one.
        evaluations: How often that evaluates the network, given the number of steps.
        volumes: Volumes of the size of the result that it holds at once beyond those that
            `medrestore.diffusion.euler` holds; 7 for `heun`. Memory is foreseen by it.
    """

    noun: ClassVar[str] = "sampler"

    title: str
    sample: Sample
    evaluations: Callable[[int], int]
    volumes: float = 0.0
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(isinstance(self.title, str) and bool(self.title), "title", "some text")
        self._require(callable(self.sample), "sample", "a function such as medrestore.diffusion.stochastic")
        self._require(callable(self.evaluations), "evaluations", "a function of the number of steps")
        number = isinstance(self.volumes, (int, float)) and 0 <= self.volumes < math.inf
        self._require(number, "volumes", "a number, 0 or more")


@dataclass(frozen=True, kw_only=True)
class NoiseEstimatorSpec(Declaration):
    """A way to find the noise level of a scan.

    Attributes:
        title: One line for a person.
        estimate: Takes the voxels, (X, Y, Z) in the units of the scan and not to be written to, and their
            sizes along the same axes in mm; returns the standard deviation of the noise in those units.
    """

    noun: ClassVar[str] = "noise estimator"

    title: str
    estimate: Callable[[RealArray, tuple[float, ...]], float]
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(isinstance(self.title, str) and bool(self.title), "title", "some text")
        self._require(callable(self.estimate), "estimate", "a function of voxels and their sizes")


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
