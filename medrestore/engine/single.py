"""The path of one scan: measure it, run the model over it, and say what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from medrestore.engine.cleaning import measured
from medrestore.engine.conclude import Run, conclude
from medrestore.engine.cost.budget import Beside, Budget, predict
from medrestore.engine.cost.calibration import is_known, too_small_to_measure
from medrestore.engine.evidence.explained import tried
from medrestore.engine.evidence.intervals import IntervalRequest
from medrestore.engine.evidence.restoration import Restoration, check_reference
from medrestore.engine.intervals.calibration import find_calibration
from medrestore.engine.machine.memory import release_memory, resident_bytes
from medrestore.engine.models.checks import check_outputs, check_scan, check_series, computable
from medrestore.engine.models.domain import Admission, admit, settled
from medrestore.engine.models.find import find_model
from medrestore.engine.models.load import LoadedModel, load_model
from medrestore.engine.models.recognise import Recognition
from medrestore.engine.run import ModelRun, Observers
from medrestore.engine.tasks.slice_grid import network_shape, target_grid
from medrestore.findings import Finding
from medrestore.geometry import Geometry
from medrestore.options import RestoreOptions
from medrestore.volume import Volume, stated_modality


@dataclass(frozen=True)
class Known:
    """What is known around a scan before it is restored.

    Attributes:
        budget: Memory and tile as they were predicted from its header; None for a scan that is too small for
            that.
        series: Where it is one of a series: it and its neighbours there, in order. Where they differ by noise
            alone, the noise is read in that.
        seen: What its content says that it is of, where that was looked at.
    """

    budget: Budget | None = None
    series: Sequence[Volume] = ()
    seen: Recognition | None = None


def restore(
    volume: Volume,
    options: RestoreOptions | None = None,
    *,
    reference: Volume | None = None,
    model: LoadedModel | None = None,
    observers: Observers | None = None,
    known: Known | None = None,
) -> Restoration:
    """Restore one scan.

    Args:
        volume: The scan, (X, Y, Z), any grid.
        options: What to do; None for the defaults.
        reference: The truth, on the grid of the result, for PSNR and SSIM.
        model: A model already loaded, to use it for many scans; None loads the one that `options` name.
        observers: Who is told while it runs.
        known: What is known around the scan; None where that is nothing.

    Returns:
        The restored volume with its evidence, in the units of the scan and, but for super-resolution, on its
        grid.

    Raises:
        ModelError: No model fits, or it offers no samples and some are asked for.
        DomainError: The scan is outside what the model was made for, or it does not say what it is and its
            content does not tell.
        ConfigError: An option cannot be had on this machine, or does not fit the scan or the model passed.
        InputError: The voxels are so large or so small that computing with them would go beyond float32.
        GeometryError: The reference is not on the grid of the result, or there are no slices to resolve.
    """
    start = time.perf_counter()
    options, observers = options or RestoreOptions(), observers or Observers()
    volume, grid, admission = checked(computable(volume), options, reference, model, known)
    model = model or load_model(options, volume.modality)
    check_outputs(model.ref, model.spec, options)
    admission = tried(volume, admission, model, force=options.force)
    known = known or Known(predict_budget(volume, grid, options, model, reference))
    run = ModelRun(model, options, known.budget, observers, _intervals(model, options))
    measurement = measured(volume, run, known.series)
    prepared = time.perf_counter()
    measurement, more = run.settled(measurement)
    outcome = run.result(measurement)
    detectability, lost = run.detectability(measurement)
    release_memory()
    timings = {"prepare": prepared - start, "network": time.perf_counter() - prepared}
    done = Run(model, options, known.budget, admission, timings, more, detectability, lost)
    return conclude(measurement, outcome, done, reference)


def checked(
    volume: Volume,
    options: RestoreOptions,
    reference: Volume | None,
    model: LoadedModel | None,
    known: Known | None = None,
    volumes: int = 1,
) -> tuple[Volume, Geometry, Admission]:
    """Return the scan as what it is taken for, the grid of the result, and what should be known of that.

    Nothing is loaded. Arguments and errors are those of `restore`; the volume is one of so many `volumes`
    that are restored as one.
    """
    assumed, seen = tuple[Finding, ...](), None if known is None else known.seen
    if model is None:
        taken = settled([volume], options)
        (volume,), assumed, seen = taken.volumes, taken.findings, taken.seen
    else:
        model.check_options(options)
    ref, spec = find_model(options, volume.modality) if model is None else (model.ref, model.spec)
    check_series(ref, spec, options, volumes)
    grid = target_grid(volume.geometry, spec.task, options)
    stated = check_scan(volume.geometry, stated_modality(volume), spec, grid, options.force)
    if reference is not None:
        check_reference(grid, reference.geometry)
    content = admit(volume, spec, force=options.force, seen=seen)
    return volume, grid, replace(content, findings=assumed + stated + content.findings)


def _intervals(model: LoadedModel, options: RestoreOptions) -> IntervalRequest | None:
    """Return the intervals that are asked for, with the calibration of the model."""
    if options.interval is None:
        return None
    found = find_calibration(model.ref.name, model.spec, options.calibration)
    return IntervalRequest(found, options.interval)


def predict_budget(
    volume: Volume,
    grid: Geometry,
    options: RestoreOptions,
    model: LoadedModel,
    reference: Volume | None,
    volumes: int = 1,
) -> Budget | None:
    """Predict what a scan will take; None where it is smaller than what would have to be measured first.

    Args:
        volume: The scan, or one of the volumes of a series.
        grid: Of the result.
        options: What is asked for.
        model: The model.
        reference: The truth; None for none.
        volumes: How many are restored as one.
    """
    small = too_small_to_measure(math.prod(grid.shape), options, volumes)
    if small and not is_known(options, volume.modality, model):
        return None
    held = resident_bytes() - volumes * volume.array.nbytes
    shape = network_shape(volume.geometry, grid, model.spec, options)
    beside = Beside(reference is not None, held, at_once=volumes, scan_voxels=math.prod(volume.shape))
    return predict(shape, options, model=model, beside=beside)
