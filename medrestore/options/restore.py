"""What can be asked of `restore`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

from medrestore.errors import ConfigError
from medrestore.options.declare import OptionInfo, check_choices, option
from medrestore.options.parse import PLUGIN_NAME, check_noise, parse_memory, parse_spacing
from medrestore.types import Task

_COUNTS = {"samples": 0, "steps": 1, "seed": 0, "threads": 1, "tile": 1, "ensemble": 1}
"""Options that are whole numbers, with the least that each may be."""

_LEVELS = (0.5, 0.95)
"""Least and largest share of the voxels that intervals can be had for."""

_OPEN = frozenset({"threads", "tile", "ensemble"})
"""Those of them that may be left to the machine or the model."""

Sampler = Literal["heun", "euler", "stochastic"]


def _info(panel: str, text: str, metavar: str | None = None) -> OptionInfo:
    return OptionInfo(text, panel, metavar)


_model, _slices, _run = (partial(_info, panel) for panel in ("Model", "Slices (--task superres)", "Run"))


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
            a percentage of the 99th percentile of the scan, in CT of 1000 HU, such as ``"5%"``, or the name
            of a plugin's estimator, ``plugin/name``.
        spacing: Super-resolution: distance of the voxels of the result across the slices, in mm, or
            ``"iso"`` for the mean of their sizes within the slices.
        slice_axis: Super-resolution: array axis across the slices, ``"i"``, ``"j"`` or ``"k"``; None for the
            one with the largest voxels.
        slice_profile: Super-resolution: ``"boxcar"``, ``"slr"`` (a Shinnar-Le Roux pulse) or ``"gaussian"``.
        slice_thickness: Super-resolution: full width of a slice at half maximum, in mm; less than the
            distance of the slices where there is a gap. None for what the scan says, or else no gap.
        noise_map: ``"auto"`` to look whether the noise of an MR scan varies over it, and to tell the model if
            so; ``"constant"`` to take it for the same everywhere.
        volumes: How a scan of several volumes is restored: ``"each"`` volume by itself, or ``"joint"``, all
            as one: by a model that takes series, or by another, whose results are then held to the mean over
            the series, which was measured best.
        output: ``"mean"``, the posterior mean, or ``"sample"``, one posterior sample.
        ensemble: Over how many estimates the posterior mean is taken, 1, 2, 4 or 8, each from the scan turned
            around and moved by a voxel; each costs an evaluation. None for what the model was declared with.
        samples: Posterior samples to draw; two or more give a map of their standard deviation.
        steps: Steps of the sampler for each sample.
        sampler: How samples are drawn: ``"heun"``, ``"euler"``, ``"stochastic"``, or ``plugin/name``.
        seed: Seed of every random draw.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        dtype: Type of the heavy arithmetic; ``"auto"`` takes bfloat16 where the device has it natively and
            the model allows it.
        threads: Threads of the processor that torch computes with; None for as many as it would take.
        tile: Largest side of a tile in voxels; None for the whole volume where it is small enough. A tile
            overlaps its neighbours by the reach of the model on every side (56 voxels with the shipped ones),
            so that sides of less than 200 take many times as long; `max_memory` finds what fits, and faster.
        max_memory: Largest memory of the process, in bytes or as in ``"6GB"``; None for 80 % of what is free
            or of what the system allows, whichever is less. Tiles are chosen to keep to it.
        interval: Share of the voxels, 0.5 to 0.95, whose truth is to lie in an interval around the mean; its
            ends are maps of the result, and PSNR and SSIM get a lower bound. None for no intervals.
        calibration: ``calibration.toml`` of the model, see ``medrestore calibrate``; None for the one beside
            its weights.
        save_map: ``"null"``: where slices are resolved, a map of the part of the result that no slice shows,
            which is the model's alone. None for none.
        quality: Judge scan and result without a reference too: SNR, CNR, CJV, EFC, FBER, edge width.
        detectability: For denoising: put virtual spheres into a part of this scan, restore it with them and
            without, and tell how well a model observer finds them before and after, at strengths from 0 to 1.
        strength: How much of the restoration is done, from 0 to 1: the result lies on the straight line from
            the scan (or, for slices, the cubic spline through them) to what the model returns.
        force: Run a scan that the model was not made for: another modality, voxel size or content.

    Raises:
        ConfigError: A value is out of range, or not of its kind.
    """

    model: str | None = option(None, _model("See `medrestore models`.", "NAME|PATH"))
    task: Task = option(Task.DENOISE, _model("What to do, where no model is named."))
    noise: float | str = option(
        "auto", _run("Level in voxel units or % of p99.", f"auto|VALUE|P%|{PLUGIN_NAME}")
    )
    noise_map: Literal["auto", "constant"] = option("auto", _run("Whether noise may vary over the scan."))
    spacing: float | str = option("iso", _slices("Voxel size across the slices; iso: as within.", "MM|iso"))
    slice_axis: Literal["i", "j", "k"] | None = option(
        None, _slices("Array axis across the slices; else the coarsest.")
    )
    slice_profile: Literal["boxcar", "slr", "gaussian"] = option("boxcar", _slices("Shape of a slice."))
    slice_thickness: float | None = option(None, _slices("Where slices have gaps or overlap.", "MM"))
    volumes: Literal["each", "joint"] = option("each", _run("Volumes of a 4-D scan: one by one, or as one."))
    output: Literal["mean", "sample"] = option("mean", _run("Posterior mean, or a sample."))
    ensemble: Literal[1, 2, 4, 8] | None = option(None, _run("Estimates that the mean is taken over."))
    samples: int = option(0, _run("Posterior samples to draw."))
    steps: int = option(10, _run("Steps for each sample."))
    sampler: Sampler | str = option("heun", _run("How to draw."))
    seed: int = option(0, _run("Same seed, same result."))
    device: str = option("auto", _run("Where to compute.", "auto|cpu|cuda|mps"))
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto", _run("Heavy arithmetic."))
    threads: int | None = option(None, _run("Of the processor; for each worker of a batch."))
    tile: int | None = option(None, _run("Largest side of a tile in voxels: less memory."))
    max_memory: int | str | None = option(
        None, _run("Such as 6GB; else 80 % of what is free or allowed.", "AMOUNT")
    )
    save_map: Literal["null"] | None = option(
        None, _run("Write OUT_null: what no slice shows, and the model made up.")
    )
    interval: float | None = option(
        None, _run("Write OUT_lower, OUT_upper: that share of voxels lies between.", "0.9")
    )
    calibration: str | None = option(None, _run("For --interval; else that of the model.", "FILE"))
    quality: bool = option(False, _run("SNR, contrast and edge width too, without a reference."))
    detectability: bool = option(False, _run("Whether virtual lesions in this scan are found as well after."))
    strength: float = option(1.0, _run("From 0, the scan, to 1, all that the model would do.", "0..1"))
    force: bool = option(False, _model("Run a model on what it was not made for."))

    def __post_init__(self) -> None:
        """Make the values plain, and check what can be checked without a scan."""
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(field.name, getattr(self, field.name)))
        for name, least in _COUNTS.items():
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        self._check_kinds()
        object.__setattr__(self, "force", bool(self.force))
        object.__setattr__(self, "quality", bool(self.quality))
        object.__setattr__(self, "detectability", bool(self.detectability))
        object.__setattr__(self, "strength", float(self.strength))
        object.__setattr__(self, "task", Task(self.task))
        self._check_interval()
        if self.detectability and self.output == "sample":
            raise ConfigError(
                "detectability is that of the mean, and output is 'sample'; leave one of them out"
            )
        check_choices(self)
        self._check_series()
        check_noise(self.noise)
        parse_spacing(self.spacing)
        if self.max_memory is not None:
            parse_memory(self.max_memory)

    def _check_interval(self) -> None:
        level, (least, most) = self.interval, _LEVELS
        if level is None:
            if self.calibration is not None:
                raise ConfigError(
                    "calibration is for intervals, and none are asked for; pass interval=0.9, say"
                )
            return
        if not (_is_number(level) and least <= level <= most):
            raise ConfigError(f"interval is {level!r}; expected a share of {least} to {most}")
        object.__setattr__(self, "interval", float(level))
        if not isinstance(self.calibration, str | None):
            raise ConfigError(f"calibration is {self.calibration!r}; expected the path of a calibration.toml")
        other = "output is 'sample'" if self.output == "sample" else f"strength is {self.strength:g}"
        if self.output == "sample" or self.strength < 1:
            raise ConfigError(f"intervals are those of the whole mean, and {other}; leave one of them out")

    def _check_series(self) -> None:
        """Refuse what is told of one volume alone, where a series is restored as one."""
        more = {
            "output": self.output == "sample",
            "samples": self.samples > 0,
            "interval": self.interval is not None,
            "detectability": self.detectability,
        }
        if self.volumes == "joint" and (asked := [name for name, is_asked in more.items() if is_asked]):
            raise ConfigError(
                f"volumes is 'joint', which gives the mean of every volume and no more, and {asked[0]} is "
                "asked for; leave one of them out"
            )

    def _check_kinds(self) -> None:
        if not isinstance(self.model, str | None):
            raise ConfigError(f"model is {self.model!r}; expected the name of a model, or a model folder")
        if not isinstance(self.device, str):
            raise ConfigError(f"device is {self.device!r}; expected one such as 'auto', 'cpu' or 'cuda:1'")
        if not (_is_number(self.strength) and 0 <= self.strength <= 1):
            raise ConfigError(f"strength is {self.strength!r}; expected a number from 0 to 1")
        for name in ("force", "quality", "detectability"):
            if (value := getattr(self, name)) not in (True, False):
                raise ConfigError(f"{name} is {value!r}; expected True or False")
        if self.task not in tuple(Task):
            raise ConfigError(f"task is {self.task!r}; expected one of {', '.join(Task)}")
        thickness = self.slice_thickness
        if thickness is not None and not (_is_number(thickness) and 0 < thickness < math.inf):
            raise ConfigError(f"slice_thickness is {thickness!r}; expected a length in mm")


def _plain(name: str, value: Any) -> Any:
    """Return what a number of numpy, a path, or a device or type of torch stands for."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    package = type(value).__module__.partition(".")[0]  # torch is not imported for the question
    if package == "torch" and not hasattr(value, "ndim"):
        return str(value).removeprefix("torch.")
    if package in {"numpy", "torch"}:
        if value.ndim:
            raise ConfigError(f"{name} is an array of shape {tuple(value.shape)}; expected one value")
        return value.item()
    return value


def _whole(name: str, value: Any, least: int) -> int | None:
    """Return a whole number as one of Python; None, where it is left open, as it is."""
    if value is None and name in _OPEN:
        return None
    if not (_is_number(value) and value % 1 == 0):
        raise ConfigError(f"{name} is {value!r}; expected a whole number")
    if value < least:
        raise ConfigError(f"{name} is {value}; expected {least} or more")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
