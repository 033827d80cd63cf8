"""`verify`: a model is put through every check."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata

from medrestore.engine.cost.calibration import processor
from medrestore.errors import ConfigError
from medrestore.plugin import ModelSpec
from medrestore.plugin.containment import describe
from medrestore.provenance import JSON, software_versions
from medrestore.testing.checks import Check
from medrestore.testing.conduct import CONDUCT
from medrestore.testing.fidelity import FIDELITY
from medrestore.testing.fourier_ring import HALLUCINATION
from medrestore.testing.gain import GAIN
from medrestore.testing.intervals import INTERVALS
from medrestore.testing.lesions import LESIONS
from medrestore.testing.low_contrast import LOW_CONTRAST
from medrestore.testing.outcome import NotTriedError, Outcome, Verification
from medrestore.testing.processes import NoNetworkError, Source
from medrestore.testing.shown import volumes
from medrestore.testing.trial import Trial, TrialOptions

_ALL = (*CONDUCT, *FIDELITY, *GAIN, *LESIONS, *INTERVALS, *HALLUCINATION, *LOW_CONTRAST)

CHECKS: Mapping[str, Check] = {check.name: check for check in _ALL}
"""Every check by its name, in the order in which they are made."""

LONE = {"determinism", "offline"}
"""Checks that look at what a model does in a process of its own."""

OnCheck = Callable[[Check], None]


def verify(
    model: str | ModelSpec, options: TrialOptions | None = None, on_check: OnCheck | None = None
) -> Verification:
    """Put a model through every check, or through those that are asked for.

    A check that raises has failed, with that as the problem: whatever a model does, the others are made.

    Args:
        model: ``plugin/model``, a bare name while it is unique, a model folder, or a declaration.
        options: How it is tried; None for the defaults.
        on_check: Called with each check before it is made.

    Raises:
        ModelError, PluginError: There is no such model, or it cannot be loaded.
        ConfigError: There is no check of a name, or no such device; or a scan for a model of series.
        InputError: A scan that is given holds one value alone.
    """
    options = options or TrialOptions()
    chosen = _chosen(options.only)
    source = Source(model, options.device, options.dtype)
    trial = Trial(source, options)
    if trial.can_be_told and not LONE.isdisjoint(check.name for check in chosen):
        _ = trial.seen_alone  # before it is loaded here: a model may keep what it fetched
    if trial.spec.series is not None and options.scans:
        raise ConfigError(
            f"{trial.spec.name} takes series, and a scan to try a model on is one volume: leave the scan out"
        )
    outcomes = {}
    for check in chosen:
        if on_check is not None:
            on_check(check)
        outcomes[check.name] = _made(check, trial)
    return Verification(
        {**asdict(trial.model.ref), "task": str(trial.spec.task), "licence": trial.spec.licence},
        trial.spec.title,
        _setup(trial),
        outcomes,
        {check.name: check.question for check in chosen},
        {check.name: check.limit for check in chosen},
    )


def _chosen(names: Sequence[str]) -> list[Check]:
    if unknown := [name for name in names if name not in CHECKS]:
        raise ConfigError(f"no check is named {unknown[0]!r}; there are {', '.join(CHECKS)}")
    return [check for name, check in CHECKS.items() if not names or name in names]


def _made(check: Check, trial: Trial) -> Outcome:
    try:
        return check.run(trial)
    except NotTriedError as error:
        return Outcome(skipped=str(error))
    except NoNetworkError as error:  # what it needs is no fault in what is asked here
        cause = "" if error.__cause__ is None else f": {describe(error.__cause__)}"
        return Outcome(skipped=f"it fails where it is refused the network, see `offline`{cause}")
    except Exception as error:  # noqa: BLE001 - whatever a model does, it is what is reported
        return Outcome(problems=(describe(error),))


def _setup(trial: Trial) -> dict[str, JSON]:
    """Return all that is needed to do it again; no path of a scan, which may hold a person's name."""
    options = trial.options
    return {
        "medrestore": metadata.version("medrestore"),
        "date": datetime.now(UTC).date().isoformat(),
        "device": trial.model.device,
        "dtype": trial.model.dtype,
        "processor": processor(),
        "cores": os.cpu_count(),
        "side": options.side,
        "modalities": [str(one) for one in trial.spec.modalities],
        "volumes": volumes(trial.spec),
        "seed": options.seed,
        "scans": [
            {"sha256": None if scan.source is None else scan.source.sha256, "shape": list(scan.shape)}
            for scan in options.scans
        ],
        "fda": options.fda is not None,
        "versions": dict(software_versions()),
    }
