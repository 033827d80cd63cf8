"""Whole volumes of noise alone: a cascade of diffusions, each on a finer grid than the one before.

Source: Ho et al., Cascaded Diffusion Models for High Fidelity Image Generation (JMLR 2022). The grids of all
stages lie around the middle of the field, which is 0 in RAS+ mm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medrestore.diffusion import Condition, Denoiser, SamplerStep, karras_levels
from medrestore.engine.machine.device import choose_device
from medrestore.engine.machine.memory import peak_bytes
from medrestore.engine.run import Observers, TrajectoryPoint
from medrestore.engine.sampling.posterior import evaluations_of_sample, posterior_sample
from medrestore.errors import ConfigError
from medrestore.findings import SYNTHETIC
from medrestore.geometry import Geometry
from medrestore.options import GenerateOptions
from medrestore.plugin import GeneratorSpec, LoadContext, Stage
from medrestore.plugin.extensions.generators import find_generator, load_stages, voxels_of
from medrestore.plugin.extensions.lookup import Extension
from medrestore.plugin.host import plugins
from medrestore.provenance import JSON, ModelRef, RunRecord, Source, Step, software_versions
from medrestore.types import Modality
from medrestore.volume import UNITS, Volume

SOURCE = Source("", "synthetic", details={"synthetic": True})
"""Where a volume comes from that was made of noise; files that are made of it say so."""

_TOLERANCE = 1e-6
"""Of a voxel: 192 mm hold 96 voxels of 2 mm, whatever rounding says."""


@dataclass(frozen=True)
class Generated:
    """A volume that a generator made, and how.

    Attributes:
        volume: (X, Y, Z); its source and its files say that it is synthetic.
        record: All that is needed to make it again.
    """

    volume: Volume
    record: RunRecord


@dataclass(frozen=True)
class Grid:
    """The grid of a stage: cubes around the middle of the field, and as many more as the network needs.

    Attributes:
        shape: Voxels that are wanted.
        spacing: Size of a voxel in mm.
        multiple: The sizes of what the network is given are multiples of this.
    """

    shape: tuple[int, int, int]
    spacing: float
    multiple: int

    @property
    def padded(self) -> tuple[int, int, int]:
        """Voxels that the network is given."""
        x, y, z = (-(-n // self.multiple) * self.multiple for n in self.shape)
        return x, y, z

    def middle(self, volume: Tensor) -> Tensor:
        """Return the voxels that are wanted of (1, 1, X, Y, Z) that the network was given."""
        low = self._before()
        x, y, z = (slice(a, a + n) for a, n in zip(low, self.shape, strict=True))
        return volume[:, :, x, y, z]

    def resampled(self, volume: Tensor, spacing: float) -> Tensor:
        """Bring (1, 1, X, Y, Z) of another voxel size, its middle at 0, to this grid by linear interpolation.

        Beyond its border the volume goes on as it is there.
        """
        axes = []
        for n, low, wanted, size in zip(
            self.padded, self._before(), self.shape, volume.shape[2:], strict=True
        ):
            at = (torch.arange(n, dtype=torch.float32) - low - (wanted - 1) / 2) * (self.spacing / spacing)
            axes.append(2 * at / max(size - 1, 1))
        where = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).to(volume.device)
        return F.grid_sample(volume, where[None], mode="bilinear", padding_mode="border", align_corners=True)

    def _before(self) -> tuple[int, ...]:
        return tuple((p - n) // 2 for p, n in zip(self.padded, self.shape, strict=True))


def generate(
    model: str, options: GenerateOptions | None = None, *, observers: Observers | None = None
) -> Iterator[Generated]:
    """Make volumes of noise alone, one after another.

    Args:
        model: Generator, ``plugin/name`` or the bare name while it is unique.
        options: How many, grid, seed and steps; None for one volume of the whole field.
        observers: Who is told while one is made; steps are those of the last stage, with the number of the
            volume as that of the sample.

    Yields:
        `options.count` volumes, the middle of each at 0 in RAS+ mm, with their records. The same options make
        the same volumes, but for rounding; a volume does not depend on how many are asked for.

    Raises:
        ConfigError: There is no such generator, or its field, its voxel sizes or the device do not allow
            the grid.
        ModelError: Its weights are not what they should be.
        PluginError: It does not do what a generator does.
    """
    begin, options = time.perf_counter(), options or GenerateOptions()
    declared = find_generator(model)
    device = choose_device(options.device)
    shape, spacing = grid_of(options, declared.spec)
    stages = load_stages(declared, LoadContext(device))
    run = _Run(options, declared.spec, stages, Grid(shape, spacing, stages[-1].multiple), device)
    seconds = time.perf_counter() - begin
    for index in range(options.count):
        begin = time.perf_counter()
        with torch.inference_mode():
            volume = run.volume(run.made(index, observers or Observers()))
        timings = {"load_model": seconds, "restore": time.perf_counter() - begin}
        yield Generated(volume, _record(declared, run, index, timings))


def _record(
    declared: Extension[GeneratorSpec], run: _Run, index: int, timings: Mapping[str, JSON]
) -> RunRecord:
    options, plugin = run.options, declared.name.partition("/")[0]
    taken: dict[str, JSON] = {
        "index": index,
        "shape": run.grid.shape,
        "spacing": run.grid.spacing,
        "device": run.device,
    }
    return RunRecord(
        medrestore=metadata.version("medrestore"),
        versions={**software_versions(), **plugins().versions([plugin, options.sampler.partition("/")[0]])},
        model=ModelRef(declared.name, plugin, declared.spec.sha256),
        input=SOURCE,
        settings={**asdict(options), **taken},
        seed=options.seed,
        timings=timings,
        peak_memory_mb=peak_bytes() / 1e6,
        findings=(SYNTHETIC.found(f"{declared.name} made the volume of noise: it shows no patient"),),
    )


def grid_of(options: GenerateOptions, spec: GeneratorSpec) -> tuple[tuple[int, int, int], float]:
    """Return shape and voxel size of what is asked for: the whole field at the largest size unless said.

    Raises:
        ConfigError: The generator does not make such voxels, or its field is smaller.
    """
    low, high = spec.spacing_mm
    spacing = high if options.spacing is None else options.spacing
    if not low <= spacing <= high:
        raise ConfigError(
            f"spacing is {spacing:g} mm; the generator {spec.name!r} makes voxels of {low:g} to {high:g} mm"
        )
    largest = tuple(int(size / spacing + _TOLERANCE) for size in spec.field_mm)
    shape = largest if options.voxels is None else options.voxels
    if any(n > most for n, most in zip(shape, largest, strict=True)):
        raise ConfigError(
            f"shape is {','.join(map(str, shape))} at {spacing:g} mm; the field of {spec.name!r} holds "
            f"{','.join(map(str, largest))} of such voxels at most"
        )
    x, y, z = shape
    return (x, y, z), spacing


@dataclass(frozen=True)
class _Run:
    """A generator as it makes one volume."""

    options: GenerateOptions
    spec: GeneratorSpec
    stages: Sequence[Stage]
    grid: Grid
    device: str

    def made(self, index: int, observers: Observers) -> Tensor:
        """Run all stages; return (1, 1, X, Y, Z) in model units."""
        made, spacing = torch.zeros(1, 1, 1, 1, 1, device=self.device), 1.0
        step = self._teller(index, observers)
        grids = [self._grid(stage) for stage in self.stages]
        told = _Progress(self._voxels(grids), observers)
        for number, (stage, grid) in enumerate(zip(self.stages, grids, strict=True)):
            condition = stage.condition(grid.resampled(made, spacing), grid.spacing)
            denoise = told.of(stage.denoiser, condition)
            known = math.isfinite(condition.sigma)
            sample = posterior_sample(
                denoise,
                denoise(condition.image, math.inf) if known else condition.image,
                karras_levels(self.options.steps, *stage.levels),
                self.options.sampler,
                (self.options.seed, index, number),
                step if stage is self.stages[-1] else None,
            )
            made, spacing = grid.middle(sample), grid.spacing
        return made

    def volume(self, made: Tensor) -> Volume:
        """Return (1, 1, X, Y, Z) in model units as a volume; a magnitude is never below 0."""
        array = made[0, 0].cpu().numpy() * np.float32(self.spec.scale)
        if self.spec.modality is Modality.MR:
            array = np.maximum(array, 0)
        affine = np.diag([*(self.grid.spacing,) * 3, 1.0])
        affine[:3, 3] = [-(n - 1) / 2 * self.grid.spacing for n in array.shape]
        step = Step("generate", {"model": self.spec.name, "seed": self.options.seed})
        modality = self.spec.modality
        geometry = Geometry(self.grid.shape, affine)
        return Volume(array, geometry, modality, UNITS[modality], SOURCE, (step,))

    def _grid(self, stage: Stage) -> Grid:
        if stage.spacing_mm is None:
            return self.grid
        return Grid(voxels_of(self.spec, stage.spacing_mm), stage.spacing_mm, stage.multiple)

    def _voxels(self, grids: Sequence[Grid]) -> int:
        """Return over how many voxels the networks run, every evaluation counted."""
        each = 1 + evaluations_of_sample(self.options)
        return each * sum(math.prod(grid.padded) for grid in grids)

    def _teller(self, index: int, observers: Observers) -> Callable[[SamplerStep], None] | None:
        hear = observers.step
        if hear is None:
            return None

        def tell(at: SamplerStep) -> None:
            state, estimate = (self.volume(self.grid.middle(one)) for one in (at.state, at.estimate))
            hear(TrajectoryPoint(index, at.index, at.sigma * self.spec.scale, state, estimate))

        return tell


class _Progress:
    """Counts the voxels that denoisers have gone over, for whoever wants to know."""

    def __init__(self, total: int, observers: Observers) -> None:
        self._done, self._total, self._hear = 0, total, observers.progress

    def of(self, denoiser: Denoiser, condition: Condition) -> Callable[[Tensor, float], Tensor]:
        """Return a denoiser of one condition that is counted."""

        def denoise(x: Tensor, sigma: float) -> Tensor:
            estimate = denoiser(x, sigma, condition)
            # A sampler of a plugin may evaluate more often than it says.
            self._done = min(self._done + x.numel(), self._total)
            if self._hear is not None:
                self._hear(self._done, self._total)
            return estimate

        return denoise
