"""The smaller declarations: operators, metrics and file formats."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from medrestore.plugin.spec import Declaration
from medrestore.types import BoolArray, RealArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medrestore.diffusion.samplers import Denoise, DrawNoise, OnStep
    from medrestore.io.formats import Format


BUILTIN_VERBS = frozenset(
    {
        *("restore", "batch", "bids", "generate", "scan", "noise", "metrics"),
        *("train", "calibrate", "verify", "node", "push", "pull", "models", "plugins", "plugin"),
    }
)
"""Commands of medrestore itself, whose names no plugin can take."""


class Operator(Protocol):
    """A linear degradation A on one grid; ``<A x, y> == <x, A^T y>`` holds to rounding."""

    def forward(self, image: Tensor) -> Tensor:
        """Return A x, what a scan of a clean volume would be without noise; both (B, 1, X, Y, Z)."""
        ...

    def adjoint(self, measured: Tensor) -> Tensor:
        """Return A^T y, likewise."""
        ...


@dataclass(frozen=True, kw_only=True)
class OperatorSpec(Declaration):
    """A degradation that scans went through, beside their noise, and that a model undoes.

    Attributes:
        title: One line for a person.
        build: Makes the operator for a grid, given its shape (X, Y, Z) and the sizes of its voxels in mm.
    """

    noun: ClassVar[str] = "operator"

    title: str
    build: Callable[[tuple[int, int, int], tuple[float, float, float]], Operator]
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(isinstance(self.title, str) and bool(self.title), "title", "some text")
        fine = callable(self.build) and _takes_two(self.build)
        self._require(
            fine, "build", "a function of shape and voxel sizes, (X, Y, Z) and mm; in API 1 it took the first"
        )


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # one that cannot be looked at
        return True
    return True


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
class VerbSpec(Declaration):
    """A command: ``medrestore NAME`` runs it.

    Attributes:
        help: One line for a person; ``medrestore --help`` shows it.
        load: Called when the command is to run, and not before; may import anything. Returns a function with
            annotations as typer reads them, a ``typer.Typer`` or a command of click.
    """

    noun: ClassVar[str] = "command"

    help: str
    load: Callable[[], Callable[..., object]]
    api: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.name not in BUILTIN_VERBS, "name", "one that is no command of medrestore itself")
        self._require(isinstance(self.help, str) and bool(self.help), "help", "one line of text")
        self._require(callable(self.load), "load", "a function without arguments")


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
        self._require(isinstance(self.definition, str) and bool(self.definition), "definition", "a sentence")
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
