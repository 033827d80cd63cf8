"""`medrestore calibrate`: the intervals of a model, calibrated on scans of a site's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import Quiet, limits_threads, takes
from medrestore.cli.output import if_anybody_hears
from medrestore.errors import MedrestoreError
from medrestore.options import CalibrateOptions
from medrestore.types import Modality

if TYPE_CHECKING:
    from medrestore.engine import LoadedModel
    from medrestore.engine.intervals.calibration import IntervalCalibration
    from medrestore.training.truths import Truths


@limits_threads
@takes("options", CalibrateOptions)
def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Its name, or its folder.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="NIfTI files of unseen subjects, free of noise.")
    ],
    options: CalibrateOptions,
    quiet: Quiet = False,
) -> None:
    """Calibrate the intervals of a model, for `medrestore restore --interval 0.9 --calibration FILE`.

    Noise of the kinds that the model is for is added to each file, or its slices are made thick (or, with
    --measured, a noisy scan of each was measured); the model restores that, and how far it was off sets how
    wide intervals are. `sub-...` in a name tells subjects apart, else every file is another one.
    """
    _require_extra()
    from medrestore.engine import RestoreOptions, load_model
    from medrestore.training.calibrate import check_target, write_calibration
    from medrestore.training.truths import find_truths

    truths, out = find_truths(folder, options.tune, options.measured), options.out
    check_target(out, overwrite=options.overwrite)
    loaded = load_model(RestoreOptions(model=model, device=options.device), Modality.UNKNOWN)
    made = _calibrated(loaded, truths, options, quiet=quiet)
    write_calibration(made, out, overwrite=options.overwrite)
    if not quiet:
        whom = made.population
        with if_anybody_hears():
            typer.echo(f"{out}: {whom.scans} scans of {whom.subjects} subjects, tuned on {whom.tuned_on}")
            typer.echo(f"medrestore restore IN -o OUT --model {model} --interval 0.9 --calibration {out}")


def _calibrated(
    model: LoadedModel, truths: Truths, options: CalibrateOptions, *, quiet: bool
) -> IntervalCalibration:
    from medrestore.cli.progress import Meter
    from medrestore.training.calibrate import calibrate as run

    with Meter(f"Calibrating {model.spec.name}", quiet=quiet) as meter:

        def show(done: int, total: int, name: str, reason: str) -> None:
            meter.update(done, total, f"{done} of {total} files, the last {name}")
            if reason:
                typer.echo(f"Warning: {name} is left out: {reason}", err=True)

        return run(model, truths, options, show)


def _require_extra() -> None:
    """Report a missing package before an hour is spent, not after.

    Raises:
        MedrestoreError: The package that writes the file is missing.
    """
    if find_spec("tomli_w") is None:
        raise MedrestoreError("writing a calibration needs tomli_w; run: pip install 'medrestore[train]'")
