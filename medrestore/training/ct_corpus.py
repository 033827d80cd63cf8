"""Scans, computed anatomy and noise for training in CT: made once, kept in the folder of the run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy import ndimage

from medrestore.engine import RestoreOptions, restore
from medrestore.engine.models.find import find_model
from medrestore.io import atomic_write, read
from medrestore.noise.ct import estimate_ct_noise, without_padding
from medrestore.noise.intensity import model_units
from medrestore.plugin import Intensity
from medrestore.training import anatomy
from medrestore.training.corpus import THIN, Corpus, extent, find, names, read_labels
from medrestore.training.ct_noise import FLOOR, NoiseBank, unit_noise
from medrestore.training.grids import at_spacing, can_be_sliced, in_slices, trim_air
from medrestore.training.recipe import CtOptions, DataOptions, TrainConfig
from medrestore.types import FloatArray, Modality
from medrestore.volume import Volume

Scan = tuple[FloatArray, tuple[float, ...], float]
"""A volume (X, Y, Z) in units of the attenuation of water, its voxel sizes in mm, and the level of the noise
that it was measured with, in the same units."""


def load_ct(config: TrainConfig, options: CtOptions, base: Path, work: Path) -> tuple[Corpus, NoiseBank]:
    """Make the corpus of a run in CT, or read what an earlier start of it has made.

    Args:
        config: What to look for, and how.
        options: Its table `ct`.
        base: Folder of the configuration file.
        work: Folder of the run; gets `ct-corpus.npz`.

    Raises:
        ConfigError: A pattern is no glob pattern, matches nothing, or only what is set apart.
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
        found = scans + phantoms
        arrays = {f"scan{i}": voxels for i, (voxels, _, _) in enumerate(found)}
        arrays |= {f"noise{i}": unit_noise(*scan[:2], options, rng) for i, scan in enumerate(found)}
        arrays["own"] = np.array([own for _, _, own in found], dtype=np.float32)
        work.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept, overwrite=True) as temporary, temporary.open("wb") as stream:
            np.savez(stream, key=np.array(key), **arrays)  # type: ignore[arg-type]
    count = len(arrays["own"])
    corpus = Corpus(
        [arrays[f"scan{i}"] for i in range(count)],
        [],
        names(scan_paths + label_paths[: options.phantoms // 2], config.data, base),
        phantoms=options.phantoms,
        in_plane=True,
    )
    return corpus, NoiseBank([arrays[f"noise{i}"] for i in range(count)], arrays["own"].tolist())


def _key(config: TrainConfig, options: CtOptions, paths: list[Path]) -> str:
    """Return what tells whether a corpus that was kept is of a configuration, its files and its model."""
    model = config.data.denoise_with
    weights = None if model is None else find_model(RestoreOptions(model=model), Modality.CT)[1].sha256
    made_of = (config.data, options, config.loop.seed, weights, [(str(path), extent(path)) for path in paths])
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


def _read(kept: Path, key: str) -> dict[str, FloatArray] | None:
    """Read a corpus that was kept; None if there is no corpus, or another one."""
    try:
        with np.load(kept) as data:
            if str(data["key"]) != key:
                return None
            return {name: data[name] for name in data.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def resolutions(volume: Volume, options: DataOptions) -> list[Scan]:
    """Return a scan as it is to be learnt from: cleaned, and at each voxel size of the options."""
    spacing = tuple(float(step) for step in volume.spacing)
    units = model_units(Intensity.ATTENUATION, volume.array)
    measured = units.from_model(trim_air(units.to_model(without_padding(volume.array))))
    voxels = cleaned(measured, volume, options) if options.denoise_with is not None else measured
    voxels = np.maximum(smooth_air(units.to_model(voxels)), np.float32(FLOOR))
    found = at_each_size(voxels, spacing, options)
    noise = [estimate_ct_noise(scan) / 1000 for scan, _ in at_each_size(measured, spacing, options)]
    return [
        (np.maximum(np.ascontiguousarray(scan, dtype=np.float32), np.float32(FLOOR)), step, own)
        for (scan, step), own in zip(found, noise, strict=True)
    ]


def at_each_size(
    voxels: FloatArray, spacing: tuple[float, ...], options: DataOptions
) -> list[tuple[FloatArray, tuple[float, ...]]]:
    """Return (X, Y, Z) voxels as they are and at each larger voxel size of the options, with their sizes."""
    found = [(voxels, spacing)]
    for target in options.spacings_mm:
        if min(spacing) < 0.85 * target:
            found.append((at_spacing(voxels, spacing, target), tuple(max(step, target) for step in spacing)))
    if max(spacing) <= THIN:
        for thickness in options.slices_mm:
            if not can_be_sliced(voxels.shape, spacing, thickness, 2):
                continue
            count = round(thickness / spacing[2])
            thick = in_slices(voxels, spacing, thickness, axis=2)
            found.append((thick, (spacing[0], spacing[1], spacing[2] * count)))
    return found


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
    requested = RestoreOptions(model=options.denoise_with, noise=sigma, force=True)
    return restore(Volume(hounsfield, geometry, Modality.CT), requested).volume.array.astype(np.float32)


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
            made = anatomy.head(read_labels(labels[number // 2 % len(labels)]), rng)
        else:
            made = anatomy.torso(rng)
        voxels = model_units(Intensity.ATTENUATION, made.hu).to_model(made.hu)
        found.append((voxels, made.spacing, 0.0))
    return found
