"""Scans, computed anatomy and noise for training in CT: made once, kept in the folder of the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from scipy import ndimage

from medrestore.engine import RestoreOptions, restore
from medrestore.engine.intensity import model_units
from medrestore.engine.noise_ct import estimate_ct_noise, without_padding
from medrestore.io import read
from medrestore.plugin import Intensity
from medrestore.training import anatomy
from medrestore.training.config import CtOptions, DataOptions, TrainConfig
from medrestore.training.corpus import THIN, Corpus, find, names
from medrestore.training.ct_noise import FLOOR, NoiseBank, unit_noise
from medrestore.training.grids import at_spacing, in_slices, trim_air
from medrestore.types import FloatArray
from medrestore.volume import Volume

LIFT = 1700.0
"""Added to HU before a model of magnitude images sees them: its noise is Gaussian far from zero."""

STRONGER = 1.3
"""Correlated noise has more power at low frequencies than white noise of its deviation; a model of white
noise is told so much more."""

Scan = tuple[FloatArray, tuple[float, ...]]
"""A volume (X, Y, Z) in units of the attenuation of water, and its voxel sizes in mm."""


def load_ct(config: TrainConfig, options: CtOptions, base: Path, work: Path) -> tuple[Corpus, NoiseBank]:
    """Make the corpus of a run in CT, or read what an earlier start of it has made.

    Args:
        config: What to look for, and how.
        options: Its table `ct`.
        base: Folder of the configuration file.
        work: Folder of the run; gets `ct-corpus.npz`.

    Raises:
        ConfigError: A pattern matches nothing.
        InputError: A file cannot be read.
    """
    scan_paths, label_paths, _ = find(config.data, base)
    kept = work / "ct-corpus.npz"
    key = _key(config, options, scan_paths + label_paths)
    arrays = _read(kept, key)
    if arrays is None:
        scans = [scan for path in scan_paths for scan in resolutions(read(path), config.data)]
        phantoms = _phantoms(options.phantoms, config.loop.seed, label_paths)
        rng = np.random.default_rng((config.loop.seed, 2))
        made = [(voxels, unit_noise(voxels, step, options, rng)) for voxels, step in scans + phantoms]
        arrays = {f"scan{i}": voxels for i, (voxels, _) in enumerate(made)}
        arrays |= {f"noise{i}": noise for i, (_, noise) in enumerate(made)}
        work.mkdir(parents=True, exist_ok=True)
        np.savez(kept, key=np.array(key), **arrays)  # type: ignore[arg-type]
    count = len(arrays) // 2
    corpus = Corpus(
        [arrays[f"scan{i}"] for i in range(count)],
        [],
        names(scan_paths + label_paths[: options.phantoms // 2], config.data, base),
        phantoms=options.phantoms,
        in_plane=True,
    )
    return corpus, NoiseBank([arrays[f"noise{i}"] for i in range(count)])


def _key(config: TrainConfig, options: CtOptions, paths: list[Path]) -> str:
    """Return what tells whether a corpus that was kept is that of a configuration."""
    made_of = (config.data, options, config.loop.seed, [str(path) for path in paths])
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


def _read(kept: Path, key: str) -> dict[str, FloatArray] | None:
    """Read a corpus that was kept; None where there is none, or not the right one."""
    try:
        with np.load(kept) as data:
            if str(data["key"]) != key:
                return None
            return {name: data[name] for name in data.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError):
        return None


def resolutions(volume: Volume, options: DataOptions) -> list[Scan]:
    """Return a scan as it is to be learnt from: cleaned, and at each voxel size of the options."""
    spacing = tuple(float(step) for step in volume.spacing)
    units = model_units(Intensity.ATTENUATION, volume.array)
    hounsfield = units.from_model(trim_air(units.to_model(without_padding(volume.array))))
    if options.denoise_with is not None:
        hounsfield = cleaned(hounsfield, volume, options)
    voxels = np.maximum(smooth_air(units.to_model(hounsfield)), np.float32(FLOOR))
    found: list[Scan] = [(voxels, spacing)]
    for target in options.spacings_mm:
        if min(spacing) < 0.85 * target:
            lowered = np.maximum(at_spacing(voxels, spacing, target), np.float32(FLOOR))
            found.append((lowered, tuple(max(step, target) for step in spacing)))
    if max(spacing) <= THIN:
        for thickness in options.slices_mm:
            count = round(thickness / spacing[2])
            thick = in_slices(voxels, spacing, thickness, axis=2)
            found.append((thick, (spacing[0], spacing[1], spacing[2] * count)))
    return [(np.ascontiguousarray(array, dtype=np.float32), step) for array, step in found]


def cleaned(hounsfield: FloatArray, volume: Volume, options: DataOptions) -> FloatArray:
    """Restore a scan with the model of the options: a network keeps the noise that its targets have.

    Args:
        hounsfield: (X, Y, Z) in HU, part of the scan.
        volume: The scan.
        options: With `denoise_with`.
    """
    sigma = estimate_ct_noise(hounsfield)
    if sigma < options.denoise_above * 1000:
        return hounsfield
    geometry = volume.geometry.cropped(tuple(slice(0, n) for n in hounsfield.shape))
    lifted = Volume(hounsfield + np.float32(LIFT), geometry, volume.modality)
    wish = RestoreOptions(model=options.denoise_with, noise=STRONGER * sigma, force=True)
    return np.asarray(restore(lifted, wish).volume.array - np.float32(LIFT), dtype=np.float32)


def smooth_air(voxels: FloatArray) -> FloatArray:
    """Smooth what is air all around, outside the body or in the bowel: its noise is no anatomy."""
    calm = ndimage.maximum_filter(ndimage.uniform_filter(voxels, 5), 5) < 0.06
    return np.where(calm, ndimage.uniform_filter(voxels, 5), voxels)


def _phantoms(count: int, seed: int, labels: list[Path]) -> list[Scan]:
    """Compute anatomy: bodies and, by turns with them where there are label maps of brains, heads."""
    found: list[Scan] = []
    for number in range(count):
        rng = np.random.default_rng((seed, 3, number))
        if labels and number % 2:
            made = anatomy.head(read(labels[number // 2 % len(labels)]).array.astype(np.uint8), rng)
        else:
            made = anatomy.torso(rng)
        found.append((model_units(Intensity.ATTENUATION, made.hu).to_model(made.hu), made.spacing))
    return found
