"""How well a denoiser explains a scan: noise is added to a part of it, and more than the noise may be lost.

A denoiser gives back what it takes for anatomy. Where a scan is of what it was trained on, it gives back most
of the scan; of what it never saw it takes some for noise. What it loses is compared with the known range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from medrestore.diffusion import Condition, Denoiser, volume_noise
from medrestore.engine.models.domain import FORCE, Admission
from medrestore.engine.models.load import LoadedModel
from medrestore.engine.sampling.posterior import posterior_mean
from medrestore.engine.sampling.tiled_denoiser import TiledDenoiser
from medrestore.engine.tasks.slice_grid import ct_slice_axis
from medrestore.errors import DomainError
from medrestore.findings import SCAN_NOT_EXPLAINED, Finding
from medrestore.noise.intensity import FOREGROUND, model_units, padding_in
from medrestore.physics.kspace import colour_details
from medrestore.plugin import ModelSpec
from medrestore.provenance import JSON
from medrestore.toml import read_toml
from medrestore.types import BoolArray, Float64Array, FloatArray, Task
from medrestore.volume import Volume

KNOWN = Path(__file__).with_name("explained.toml")
"""Made by `python -m benchmarks.evidence.explained`, from scans that the models know."""

SIDE = 40
"""Side in voxels of the part: two evaluations of it are 6 % of one of 128 voxels cubed."""

LEVELS, CT_LEVELS = (0.03, 0.1), (0.02, 0.08)
"""Standard deviations of the noise that is added, in model units; the last one decides."""

CT_TISSUE = 0.5
"""Attenuation over that of water above which a voxel is no air or lung."""

FEWEST = 500
"""Voxels of tissue that are needed."""

SEED = 3
"""Of the noise: the same scan gives the same figure."""


@dataclass(frozen=True)
class Explained:
    """What a denoiser loses of a part of a scan.

    Attributes:
        levels: Standard deviations of the noise that was added, in model units.
        errors: For each level, the root mean square of what came back less the scan, over the level.
        own: Noise that the part has by itself, in its finest detail and model units.
        at: First voxel of the part, in the array of the scan with its slices last.
    """

    levels: tuple[float, ...]
    errors: tuple[float, ...]
    own: float
    at: tuple[int, int, int]

    @property
    def lost(self) -> tuple[float, ...]:
        """For each level, what was lost of the scan but for its own noise, over the level."""
        pairs = zip(self.errors, self.levels, strict=True)
        return tuple(math.sqrt(max(error**2 - (self.own / level) ** 2, 0.0)) for error, level in pairs)


@dataclass(frozen=True)
class KnownRange:
    """What a model loses of scans that it knows.

    Attributes:
        sha256: Of the weights that this was measured with: of others it says nothing.
        unusual: What is lost at the last level of hardly any known scan.
        refused: What is lost of none, however few were measured.
        subjects: How many people, and computed ones, it rests on.
        inputs: How many scans of them, and parts.
    """

    sha256: str
    unusual: float
    refused: float
    subjects: int
    inputs: int


@dataclass(frozen=True)
class Judged:
    """What is said of it.

    Attributes:
        facts: For the record.
        finding: Where more is lost than of hardly any known scan.
        is_refused: Where more is lost than of any.
    """

    facts: Mapping[str, JSON]
    finding: Finding | None = None
    is_refused: bool = False


@lru_cache(maxsize=1)
def known_ranges() -> Mapping[str, KnownRange]:
    """Return the ranges that are shipped, by the hash of the weights."""
    return {table["sha256"]: KnownRange(**table) for table in read_toml(KNOWN).values()}


def tried(volume: Volume, admission: Admission, model: LoadedModel, *, force: bool) -> Admission:
    """Try how well a model explains a scan that was admitted, and refuse it all the same where it does not.

    Args:
        volume: The scan, in its own units.
        admission: What its content said.
        model: The model.
        force: Whether to go on all the same.

    Raises:
        DomainError: More is lost than of any scan that the model knows, and `force` is not set.
    """
    if not is_told(model.spec):
        return admission
    seen = explained(volume, model.spec, model.denoiser, model.device)
    said = judged(seen, known_ranges().get(model.spec.sha256 or ""))
    if said.is_refused and said.finding is not None and not force:
        raise DomainError(
            f"{volume.name}: {said.finding.text}: {model.spec.name} does not know such scans; {FORCE}"
        )
    facts = {**admission.facts, "explained": said.facts}
    if said.is_refused:
        facts["outside"] = True
    return Admission((*admission.findings, *filter(None, [said.finding])), facts)


def is_told(spec: ModelSpec) -> bool:
    """Whether this can be told of a model: it denoises, and says what it knows."""
    return spec.domain is not None and spec.task is Task.DENOISE and spec.operator is None


def evaluated(shape: tuple[int, ...]) -> int:
    """Return how many voxels the model is run over for a scan of a shape."""
    return len(LEVELS) * math.prod(min(SIDE, side) for side in shape)


def explained(volume: Volume, spec: ModelSpec, denoiser: Denoiser, device: str = "cpu") -> Explained | None:
    """Add noise to a part of a scan, and return what a denoiser loses of it.

    Args:
        volume: The scan, in its own units.
        spec: The model, of which this can be told.
        denoiser: Its denoiser, on a device.
        device: That one.

    Returns:
        None where no part has enough tissue.
    """
    voxels = np.moveaxis(volume.array, ct_slice_axis(volume.geometry) if spec.is_ct else 2, -1)
    units = model_units(spec.intensity, volume.array)
    least = CT_TISSUE if spec.is_ct else FOREGROUND
    box = _most_tissue(voxels[::2, ::2, ::2] > units.zero + least * units.one, voxels.shape)
    part = units.to_model(voxels[box])
    padding = padding_in(voxels[box], spec.intensity)
    if padding is not None:
        part[padding] = 0
    tissue = ndimage.uniform_filter(part, 3) > least
    if np.count_nonzero(tissue) < FEWEST:
        return None
    tiled = TiledDenoiser(denoiser, 2 * SIDE, spec.halo, spec.multiple, device)
    levels = CT_LEVELS if spec.is_ct else LEVELS
    details = colour_details((0.0, 0.0, 0.0)) if spec.colour else ()
    noise = volume_noise((1, 1, *part.shape), (SEED,))
    scan = torch.from_numpy(part)[None, None]
    errors = []
    for level in levels:
        found = posterior_mean(tiled, Condition(scan + level * noise, level, None, details))
        off = (found - scan)[0, 0].cpu().numpy()[tissue]
        errors.append(float(np.sqrt(np.mean(off.astype(np.float64) ** 2))) / level)
    x, y, z = (int(span.start) for span in box)
    return Explained(levels, tuple(errors), finest_noise(part), (x, y, z))


def judged(seen: Explained | None, known: KnownRange | None) -> Judged:
    """Return what a record says, and whether more is lost than of scans that the model knows.

    Args:
        seen: What the model loses; None where there is too little tissue.
        known: What it loses of scans that it knows; None where that was not measured with its weights.
    """
    if seen is None:
        return Judged({"reason": "no part of the scan has enough tissue"})
    facts: dict[str, JSON] = {
        "levels": list(seen.levels),
        "errors": [round(one, 4) for one in seen.errors],
        "lost": [round(one, 4) for one in seen.lost],
        "part": list(seen.at),
    }
    if known is None:
        return Judged(
            {**facts, "reason": "it was not measured what these weights lose of scans that they know"}
        )
    facts |= {"unusual": known.unusual, "refused": known.refused}
    if seen.lost[-1] <= known.unusual:
        return Judged(facts)
    text = (
        f"of the scan itself, with noise of {seen.levels[-1]:g} added, {seen.lost[-1]:.2f} times that noise "
        f"is lost; of scans that the model knows hardly ever more than {known.unusual:.2f}"
    )
    found = SCAN_NOT_EXPLAINED.found(text, lost=seen.lost[-1], unusual=known.unusual)
    return Judged(facts, found, seen.lost[-1] > known.refused)


def _most_tissue(tissue: BoolArray, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """Return the box of up to `SIDE` voxels with the most tissue.

    Args:
        tissue: Of every second voxel along each axis.
        shape: Of the scan.
    """
    sides = [min(SIDE // 2, side) for side in tissue.shape]
    share = ndimage.uniform_filter(tissue.astype(np.float32), sides, mode="constant")
    middle = 2 * np.array(np.unravel_index(int(share.argmax()), share.shape))
    starts = [
        min(max(int(at) - SIDE // 2, 0), max(side - SIDE, 0)) for at, side in zip(middle, shape, strict=True)
    ]
    x, y, z = (slice(start, start + SIDE) for start in starts)
    return x, y, z


def finest_noise(part: FloatArray) -> float:
    """Return the level of the noise in the finest Haar band of all three axes, which holds little anatomy."""
    band: FloatArray | Float64Array = part
    for axis in range(3):
        even = np.arange(0, part.shape[axis] // 2 * 2, 2)
        band = (np.take(band, even, axis) - np.take(band, even + 1, axis)) / np.sqrt(2)
    return float(np.median(np.abs(band))) / 0.6745
