"""From a scan and a model to a model of that scan: a folder, with the weights that were judged the better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from medrestore import LoadContext, ModelSpec, Observers, Restoration, RestoreOptions, Volume, restore
from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ModelError, OutputError
from medrestore.plugin import Registry, read_model_folder
from medrestore.plugin.host import plugins
from medrestore.types import Judgement as Verdict
from medrestore.types import Task
from medrestore_adapt.fit import Fitted, Judgement, Mean, Plan, fit

COLOURED = 0.3
"""Correlation of neighbours beyond which the risk is not believed: what lies further apart is not known."""

PARTS = (1.0, 0.5, 0.25)
"""Of the change of the weights that are tried, until the verdict is no worse than that of the model."""


@dataclass(frozen=True)
class Adaptation:
    """What became of a model.

    Attributes:
        kept: Whether the fitted weights are the better ones; else the folder has those of the model.
        reason: Why, in a sentence.
        judgement: The risk before and after; None where nothing was fitted.
        verdicts: On the result of the model, and on that of the fitted one, where both were made.
    """

    kept: bool
    reason: str
    judgement: Judgement | None = None
    verdicts: tuple[str, ...] = ()


@dataclass
class _Seen:
    """What the engine measured of a scan, and the mean that it made."""

    condition: Condition | None = None
    mean: Mean | None = None

    def __call__(self, measurement: Any, mean: Tensor) -> None:
        self.condition = measurement.condition
        self.mean = Mean(mean.clone(), measurement.nonnegative)


def adapt(
    scan: Volume,
    folder: Path,
    options: RestoreOptions,
    plan: Plan | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Adaptation:
    """Fit a model to a scan, and write a model folder for that scan.

    Args:
        scan: The scan.
        folder: Made; it must not be there yet.
        options: As `medrestore.restore` takes them; `model` is the name of a denoiser or its folder.
        plan: How it is fitted; None for the defaults.
        on_step: Called with the number of a step and the risk of its patch.

    Raises:
        ModelError: It is no denoiser with weights of a network of medrestore.
        OutputError: The folder is there already, its parent is not, or it cannot be written.
    """
    spec = find_denoiser(options.model)
    with _unfinished(folder) as made:
        seen = _Seen()
        first = restore(scan, options, observers=Observers(mean=seen))
        denoiser: Any = spec.load(LoadContext())
        fitted = _fitted(denoiser, seen, plan or Plan(), on_step)
        if isinstance(fitted, str):
            found = Adaptation(False, fitted)
        else:
            found = _tried(fitted, spec, made, lambda: _as_in(made, scan, options), first)
        if not found.kept:
            original: Any = spec.load(LoadContext())
            write_folder(spec, made, original.network.state_dict(), found)
    return found


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Give a folder that takes the name when the body is done: one that is stopped leaves none."""
    if folder.exists():
        raise OutputError(f"{folder}: is there already; remove it, or name another folder")
    try:
        with TemporaryDirectory(prefix=".adapt-", dir=folder.parent) as room:
            made = Path(room) / folder.name
            made.mkdir()
            yield made
            made.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _tried(
    fitted: Fitted, spec: ModelSpec, folder: Path, again: Callable[[], Restoration], first: Restoration
) -> Adaptation:
    """Write the largest part of what was fitted that the risk and the verdict allow, if there is one."""
    for part in PARTS:
        found = _by_risk(fitted.taken(part), part)
        if found.kept:
            write_folder(spec, folder, fitted.denoiser.network.state_dict(), found)
            found = _by_verdict(found, first, again())
        if found.kept:
            return found
    return found


def find_denoiser(name: str | None) -> ModelSpec:
    """Return the declaration of a model that can be fitted.

    Raises:
        ModelError: There is none of the name, or it is no denoiser of a folder.
    """
    if name is None:
        raise ModelError("say which model is to be fitted; `medrestore models` lists them")
    spec = read_model_folder(Path(name)) if Path(name).is_dir() else Registry(plugins()).get(name)
    if spec.task is not Task.DENOISE or spec.operator is not None or spec.weights is None:
        raise ModelError(
            f"model {name!r}: expected a denoiser with weights, which alone can be fitted to a scan"
        )
    return spec


def _fitted(
    denoiser: Any, seen: _Seen, plan: Plan, on_step: Callable[[int, float], None] | None
) -> Fitted | str:
    """Fit; return why not, where that cannot be."""
    if seen.condition is None or seen.mean is None:
        return "the model has nothing to take out of this scan"
    if not isinstance(denoiser, TwoMeasurementDenoiser):
        raise ModelError("the model is none of medrestore's networks, of which scales and shifts are known")
    told = seen.condition.details
    if told and (not told[-1] or max(map(abs, told[:3])) > 4 * COLOURED):
        return "its noise is of a colour for which the error cannot be estimated"
    fitted = fit(denoiser, seen.condition, seen.mean, plan, on_step)
    return fitted or "there is too little tissue to fit to and to judge by"


def _by_risk(found: Judgement, part: float) -> Adaptation:
    """Judge a part of the change by the risk."""
    change = f"risk {found.before:.4f} before and {found.after:.4f} after, give or take {found.error:.4f}"
    if not found.better:
        return Adaptation(False, f"the error did not fall beyond doubt: {change}", found)
    much = "" if part == 1 else f" with {part:.0%} of the change, as the verdict was worse with more"
    return Adaptation(True, f"the error fell{much}: {change}", found)


def _by_verdict(found: Adaptation, first: Restoration, second: Restoration) -> Adaptation:
    """Let the verdict have the last word: what is judged worse than the model's own result is not kept."""
    verdicts = tuple(str(one.record.verdict.get("verdict")) for one in (first, second))
    order = [str(one) for one in Verdict]
    worse = all(one in order for one in verdicts) and order.index(verdicts[1]) > order.index(verdicts[0])
    if worse:
        reason = f"the verdict went from {verdicts[0]} to {verdicts[1]}"
        return Adaptation(False, reason, found.judgement, verdicts)
    return Adaptation(True, found.reason, found.judgement, verdicts)


def _as_in(folder: Path, scan: Volume, options: RestoreOptions) -> Restoration:
    """Restore with the model of a folder."""
    return restore(scan, replace(options, model=str(folder.resolve())))


def write_folder(spec: ModelSpec, folder: Path, weights: dict[str, Tensor], found: Adaptation) -> None:
    """Write into a folder a model beside which the original one can be gone."""
    import hashlib
    import tomllib

    import tomli_w
    from safetensors.torch import save

    assert spec.weights is not None
    data = save({name: value.detach().to(torch.float32).contiguous() for name, value in weights.items()})
    table = tomllib.loads(spec.weights.with_name("model.toml").read_text(encoding="utf-8"))
    table["name"] = f"{spec.name}-adapted" if found.kept else spec.name
    table["weights"] = {"file": "model.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    table.pop(
        "domain", None
    )  # what the scan is of was asked when it was restored, and may be new to the model
    (folder / "model.safetensors").write_bytes(data)
    (folder / "model.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    (folder / "README.md").write_text(card(spec, found), encoding="utf-8")


def card(spec: ModelSpec, found: Adaptation) -> str:
    """Return the model card."""
    weights = f"fitted to one scan, from {spec.name}" if found.kept else f"those of {spec.name}, unchanged"
    return f"""# {spec.name}, of one scan

- Weights: {weights} (sha256 {spec.sha256}).
- {found.reason[:1].upper()}{found.reason[1:]}.
- For the scan that it was made from and no other; `medrestore restore` with any other is not what was judged.
- No calibration of intervals goes with it. Not for diagnosis.
- Licence: {spec.licence}, as that of the model.
"""
