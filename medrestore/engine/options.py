"""What can be asked of `restore`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medrestore.engine.noise import parse_noise
from medrestore.errors import ConfigError
from medrestore.types import Task

Output = Literal["mean", "sample"]
Sampler = Literal["heun", "euler", "stochastic"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Options of one restoration.

    Attributes:
        model: ``plugin/model``, a bare name while it is unique, or a model folder; None for the default of
            the scan's modality and the task.
        task: What to do, where no model is named.
        noise: Standard deviation of the noise in the units of the voxels, or ``"auto"`` to estimate it, or
            a percentage of the 99th percentile of the scan, such as ``"5%"``.
        output: ``"mean"``, the posterior mean in one evaluation, or ``"sample"``, one posterior sample.
        samples: Posterior samples to draw; two or more give a map of their standard deviation.
        steps: Steps of the sampler for each sample.
        sampler: How samples are drawn.
        seed: Seed of every random draw.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: Type of the heavy arithmetic; ``"auto"`` takes bfloat16 where the device has it natively and
            the model allows it.
        tile: Largest side of a tile in voxels; None for the whole volume where it is small enough.
        force: Run a scan outside the voxel sizes or the modality that the model was made for.

    Raises:
        ConfigError: A value is out of range.
    """

    model: str | None = None
    task: Task = Task.DENOISE
    noise: float | str = "auto"
    output: Output = "mean"
    samples: int = 0
    steps: int = 10
    sampler: Sampler = "heun"
    seed: int = 0
    device: str = "auto"
    dtype: DType = "auto"
    tile: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked without a scan."""
        parse_noise(self.noise)
        _choice("output", self.output, get_args(Output))
        _choice("sampler", self.sampler, get_args(Sampler))
        _choice("dtype", self.dtype, get_args(DType))
        _least("samples", self.samples, 0)
        _least("steps", self.steps, 1)
        _least("seed", self.seed, 0)
        if self.tile is not None:
            _least("tile", self.tile, 1)


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(known)}")


def _least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; expected {least} or more")
