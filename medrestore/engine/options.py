"""What can be asked of `restore`."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
import torch

from medrestore.errors import ConfigError
from medrestore.noise.level import parse_noise
from medrestore.plugin import ENSEMBLES
from medrestore.types import Task

Output = Literal["mean", "sample"]
Sampler = Literal["heun", "euler", "stochastic"]
SliceAxis = Literal["i", "j", "k"]
SliceProfile = Literal["boxcar", "slr", "gaussian"]
NoiseMapChoice = Literal["auto", "constant"]
DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """Options of one restoration.

    Numbers of numpy, paths and the devices and types of torch are taken for what they name; whole numbers may
    be floats without a fraction. What is kept is plain: numbers, strings and booleans of Python.

    Attributes:
        model: ``plugin/model``, a bare name while it is unique, or a model folder; None for the default of
            the scan's modality and the task.
        task: What to do, where no model is named.
        noise: Standard deviation of the noise in the units of the voxels, or ``"auto"`` to estimate it, or
            a percentage of the 99th percentile of the scan, in CT of 1000 HU, such as ``"5%"``.
        spacing: Super-resolution: distance of the voxels of the result across the slices, in mm, or
            ``"iso"`` for the mean of their sizes within the slices.
        slice_axis: Super-resolution: array axis across the slices, ``"i"``, ``"j"`` or ``"k"``; None for the
            one with the largest voxels.
        slice_profile: Super-resolution: ``"boxcar"``, ``"slr"`` (a Shinnar-Le Roux pulse) or ``"gaussian"``.
        slice_thickness: Super-resolution: full width of a slice at half maximum, in mm; less than the
            distance of the slices where there is a gap. None for what the scan says, or else no gap.
        noise_map: ``"auto"`` to look whether the noise of an MR scan varies over it, and to tell the model if
            so; ``"constant"`` to take it for the same everywhere.
        output: ``"mean"``, the posterior mean, or ``"sample"``, one posterior sample.
        ensemble: Over how many estimates the posterior mean is taken, 1, 2, 4 or 8, each from the scan turned
            around and moved by a voxel; each costs an evaluation. None for what the model was declared with.
        samples: Posterior samples to draw; two or more give a map of their standard deviation.
        steps: Steps of the sampler for each sample.
        sampler: How samples are drawn.
        seed: Seed of every random draw.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: Type of the heavy arithmetic; ``"auto"`` takes bfloat16 where the device has it natively and
            the model allows it.
        tile: Largest side of a tile in voxels; None for the whole volume where it is small enough.
        max_memory: Largest memory of the process, in bytes or as in ``"6GB"``; None for 80 % of what is free
            or of what the system allows, whichever is less. Tiles are chosen to keep to it.
        force: Run a scan outside the voxel sizes or the modality that the model was made for.

    Raises:
        ConfigError: A value is out of range, or not of its kind.
    """

    model: str | None = None
    task: Task = Task.DENOISE
    noise: float | str = "auto"
    noise_map: NoiseMapChoice = "auto"
    spacing: float | str = "iso"
    slice_axis: SliceAxis | None = None
    slice_profile: SliceProfile = "boxcar"
    slice_thickness: float | None = None
    output: Output = "mean"
    ensemble: int | None = None
    samples: int = 0
    steps: int = 10
    sampler: Sampler = "heun"
    seed: int = 0
    device: str = "auto"
    dtype: DType = "auto"
    tile: int | None = None
    max_memory: int | str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Make the values plain, and check what can be checked without a scan."""
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(field.name, getattr(self, field.name)))
        for name in ("samples", "steps", "seed", "tile", "ensemble"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if not isinstance(self.model, str | None):
            raise ConfigError(f"model is {self.model!r}; expected the name of a model, or a model folder")
        if not isinstance(self.device, str):
            raise ConfigError(f"device is {self.device!r}; expected one such as 'auto', 'cpu' or 'cuda:1'")
        _choice("force", self.force, (True, False))
        object.__setattr__(self, "force", bool(self.force))
        _choice("task", self.task, tuple(Task))
        object.__setattr__(self, "task", Task(self.task))
        parse_noise(self.noise)
        parse_spacing(self.spacing)
        if self.slice_axis is not None:
            _choice("slice_axis", self.slice_axis, get_args(SliceAxis))
        _choice("slice_profile", self.slice_profile, get_args(SliceProfile))
        thickness = self.slice_thickness
        if thickness is not None and not (_is_number(thickness) and 0 < thickness < math.inf):
            raise ConfigError(f"slice_thickness is {thickness!r}; expected a length in mm")
        _choice("noise_map", self.noise_map, get_args(NoiseMapChoice))
        _choice("output", self.output, get_args(Output))
        _choice("sampler", self.sampler, get_args(Sampler))
        _choice("dtype", self.dtype, get_args(DType))
        if self.ensemble is not None:
            _choice("ensemble", self.ensemble, ENSEMBLES)
        _least("samples", self.samples, 0)
        _least("steps", self.steps, 1)
        _least("seed", self.seed, 0)
        if self.tile is not None:
            _least("tile", self.tile, 1)
        if self.max_memory is not None:
            parse_memory(self.max_memory)


def parse_spacing(wish: float | str) -> float | None:
    """Read a wish for a voxel size, such as 1, ``"1"`` or ``"1 mm"``; None for ``"iso"``.

    Raises:
        ConfigError: It is no length.
    """
    if wish == "iso":
        return None
    try:
        length = float(str(wish).strip().removesuffix("mm"))
    except ValueError:
        length = -1.0
    if not 0 < length < math.inf:
        raise ConfigError(f"spacing is {wish!r}; expected 'iso', or a length in mm such as '1mm'")
    return length


def parse_memory(wish: int | str) -> int:
    """Read an amount of memory in bytes, such as 6_000_000_000, ``"6GB"`` or ``"5.5 GiB"``.

    Raises:
        ConfigError: It is none.
    """
    match = re.fullmatch(r"(\d+\.?\d*) *([kmgt]?)(i?)b?", str(wish).strip().lower())
    amount = float(match[1]) if match else 0.0
    if match is None or not 0 < amount < math.inf:
        raise ConfigError(f"max_memory is {wish!r}; expected an amount such as '6GB' or '800MiB'")
    return int(amount * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " "))


def _plain(name: str, value: Any) -> Any:
    """Return what a number of numpy, a path, or a device or type of torch stands for."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        if value.ndim:
            raise ConfigError(f"{name} is an array of shape {tuple(value.shape)}; expected one value")
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, torch.device | torch.dtype):
        return str(value).removeprefix("torch.")
    return value


def _whole(name: str, value: Any) -> int | None:
    """Return a whole number as one of Python; None, where it is left open, as it is."""
    if value is None and name in ("tile", "ensemble"):
        return None
    if _is_number(value) and value % 1 == 0:
        return int(value)
    raise ConfigError(f"{name} is {value!r}; expected a whole number")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _choice(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(map(str, known))}")


def _least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; expected {least} or more")
