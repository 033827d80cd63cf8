"""`medrestore calibrate`: restore scans whose truth is known, and write how far the model was off."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from medrestore.engine import LoadedModel, Observers, RestoreOptions, restore
from medrestore.engine.evidence.intervals import scan_facts
from medrestore.engine.intervals.calibration import IntervalCalibration
from medrestore.engine.intervals.features import error_features, noise_of, slabs, texture
from medrestore.engine.intervals.fit import CalibratedModel, RestoredScan, as_table, fit_calibration
from medrestore.engine.intervals.predict import head_lattice
from medrestore.engine.models.checks import assumed_modality
from medrestore.engine.sampling.ensemble import ensemble_size
from medrestore.engine.tasks.measurement import Measurement
from medrestore.errors import GeometryError, InputError, ModelError, OutputError
from medrestore.files import read_header, read_volumes
from medrestore.io import atomic_write
from medrestore.metrics import head_mask, measured, psnr, reference_range, ssim
from medrestore.options import CalibrateOptions
from medrestore.training.pairs import check_pairs, measured_pair
from medrestore.training.simulate import Simulated, noise_span, simulate, what_noise
from medrestore.training.truths import Truths
from medrestore.types import FloatArray, Modality
from medrestore.volume import Volume, taken_as

VOXELS = 12_000
"""Voxels drawn from the head of each restored scan."""

OnScan = Callable[[int, int, str, str], None]
"""Called with truths done, truths in all, the name of the last one, and why it was left out, empty if not."""


def calibrate(
    model: LoadedModel,
    truths: Truths,
    options: CalibrateOptions | None = None,
    on_scan: OnScan | None = None,
) -> IntervalCalibration:
    """Restore what is made of truths, and calibrate the intervals of a model by its errors.

    Args:
        model: The model.
        truths: Scans with as little noise as can be had.
        options: `draws`, `seed` and `note`; None for the defaults.
        on_scan: Hears how far it has come.

    Raises:
        ConfigError: There are too few subjects; scans that cannot be read, or that the model was not made
            for, are left out.
    """
    held_out, tuning = truths.split()
    told = on_scan or (lambda done, total, name, reason: None)
    options = options or CalibrateOptions()
    if truths.measured:
        check_pairs(model.spec)
    found: dict[Path, list[RestoredScan]] = {}
    for path in (*tuning, *held_out):
        reason = ""
        try:
            found[path] = _restored(model, path, truths, options)
        except (GeometryError, InputError, ModelError) as error:
            found[path], reason = [], str(error)
        told(len(found), len(tuning) + len(held_out), path.name, reason)
    learnt, kept = ([one for path in part for one in found[path]] for part in (tuning, held_out))
    noise = _measured_noise(kept) if truths.measured else None
    return fit_calibration(learnt, kept, calibrated_model(model, options.note, noise))


def _measured_noise(scans: Sequence[RestoredScan]) -> str:
    """Return, in words, what noise measured scans have."""
    levels = [one.facts.noise[0] for one in scans] or [0.0]
    return (
        f"pairs that were measured, {min(levels):.1%} to {max(levels):.1%} of the bright level as it was read"
    )


def calibrated_model(model: LoadedModel, note: str = "", noise: str | None = None) -> CalibratedModel:
    """Return what a calibration says of the model that it is of.

    Args:
        model: The model.
        note: What else should be known.
        noise: What noise the scans had, in words; None for what `simulate` adds.
    """
    spec = model.spec
    noise = what_noise(spec, noise_span(spec)) if noise is None else noise
    size = ensemble_size(RestoreOptions(), spec)
    return CalibratedModel(model.ref.name, spec.sha256 or "", size, noise, note)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before an hour is spent.

    Raises:
        OutputError: It exists and is not to be replaced, or its folder does not exist.
    """
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: the folder does not exist; make it first")
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path}: exists already; pass --overwrite to replace it, or choose another name")


def write_calibration(calibration: IntervalCalibration, path: Path, *, overwrite: bool = False) -> None:
    """Write a calibration as `calibration.toml`.

    Raises:
        OutputError: It exists and is not to be replaced, or cannot be written.
    """
    import tomli_w  # noqa: PLC0415  of the extra for training

    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(tomli_w.dumps(as_table(calibration)), encoding="utf-8")


def _restored(
    model: LoadedModel, path: Path, truths: Truths, options: CalibrateOptions
) -> list[RestoredScan]:
    """Restore what was measured beside a truth, or what is made of it."""
    truth, subject, measured = _read(path, model), truths.subjects[path], truths.measured.get(path)
    if measured is None:
        return restored_scans(model, truth, subject, options)
    rng = np.random.default_rng([options.seed, zlib.crc32(subject.encode())])
    made = measured_pair(_read(measured, model), truth, model.spec)
    return [restored_scan(model, made, subject, rng)]


def _read(path: Path, model: LoadedModel) -> Volume:
    volume = read_volumes(read_header(path))[0]
    if volume.modality is Modality.UNKNOWN:
        volume = taken_as(volume, assumed_modality(volume, model.spec), "the model")[0]
    return volume


def restored_scans(
    model: LoadedModel, truth: Volume, subject: str, options: CalibrateOptions
) -> list[RestoredScan]:
    """Make scans of a truth and restore them.

    A draw that is no scan for the model, as the slices are too few, is left out.

    Raises:
        InputError: None of the draws is.
    """
    found, reason = [], ""
    for draw in range(options.draws):
        rng = np.random.default_rng([options.seed, draw, zlib.crc32(subject.encode())])
        try:
            made = simulate(truth, model.spec, rng)
            found.append(restored_scan(model, made, subject, rng))
        except (GeometryError, InputError, ModelError) as error:
            reason = str(error)
    if not found:
        raise InputError(f"{truth.name}: {reason}")
    return found


def restored_scan(
    model: LoadedModel, made: Simulated, subject: str, rng: np.random.Generator
) -> RestoredScan:
    """Restore a scan whose truth is known, and draw voxels of it.

    Raises:
        GeometryError, ModelError: The model does not take the scan.
        InputError: It leaves the scan, or some of its noise, as it is.
    """
    drawn: list[_Drawn] = []
    held: list[Measurement] = []

    def keep(measurement: Measurement, mean: Tensor) -> None:
        held.append(measurement)
        drawn.append(_draw(measurement, mean, measurement.as_given(made.truth.array), rng))

    options = replace(made.options, model=None)
    result = restore(made.scan, options, model=model, observers=Observers(mean=keep)).volume
    if not drawn or held[0].share < 1:
        raise InputError("the noise was found too weak to remove all of it")
    modality = assumed_modality(made.scan, model.spec)
    truth, image = (measured(one.array, modality) for one in (made.truth, result))
    data_range, head = reference_range(truth), head_mask(truth)
    try:
        similarity = ssim(image, truth, data_range=data_range, mask=head)
    except InputError:  # too thin
        similarity = None
    return RestoredScan(
        subject=subject,
        features=drawn[0].features,
        noise=drawn[0].noise,
        errors=drawn[0].errors,
        texture=drawn[0].texture,
        data_range=reference_range(image) / held[0].units.one,
        psnr=psnr(image, truth, data_range=data_range, mask=head),
        ssim=similarity,
        facts=scan_facts(held[0], result),
        in_doubt=held[0].noise.in_doubt,
    )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Voxels of a head; the fields are those of `RestoredScan`."""

    features: FloatArray
    noise: FloatArray
    errors: FloatArray
    texture: FloatArray


def _draw(measurement: Measurement, mean: Tensor, truth: FloatArray, rng: np.random.Generator) -> _Drawn:
    condition, image = measurement.condition, mean[0, 0].numpy()
    every, inside = head_lattice(image)
    chosen = np.zeros(inside.shape, np.bool_)
    places = np.flatnonzero(inside)
    chosen.flat[rng.choice(places, min(VOXELS, places.size), replace=False)] = True
    where = np.zeros(image.shape, np.bool_)
    where[every] = chosen
    parts: list[_Drawn] = []
    for rows, new in slabs(image.shape):
        here = where[rows][new]
        noise = np.broadcast_to(noise_of(condition, rows), image[rows].shape)[new]
        parts.append(
            _Drawn(
                error_features(condition, mean, rows)[:, new][:, here],
                noise[here],
                (truth[rows] - image[rows])[new][here],
                texture(image[rows])[new][here],
            )
        )
    return _Drawn(
        *(
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("features", "noise", "errors", "texture")
        )
    )
