"""From a configuration to a model folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from torch import Tensor, nn

from medrestore.engine import RestoreOptions
from medrestore.engine.models.find import find_model, origin
from medrestore.errors import ConfigError, ModelError
from medrestore.physics.kspace import COLOUR_DETAILS
from medrestore.physics.slices import DETAILS
from medrestore.plugin import Intensity, LoadContext, ModelSpec
from medrestore.plugin.contract import load_denoiser
from medrestore.training import corpus
from medrestore.training.ct_corpus import load_ct
from medrestore.training.ct_noise import with_ct_noise
from medrestore.training.degrade import Degrade, Degraded, make_degrade
from medrestore.training.export import TrainingFacts, export_model
from medrestore.training.loop import Progress, Trainer, run
from medrestore.training.patches import PatchSampler
from medrestore.training.place import Place
from medrestore.training.recipe import TrainConfig
from medrestore.training.validate import make_cases, make_ct_cases, validator
from medrestore.types import FloatArray, Modality, Task


def train(
    config: TrainConfig,
    base: Path,
    work: Path,
    *,
    init: str | None = None,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> ModelSpec:
    """Train, or go on training, and export the model folder.

    Args:
        config: What to do.
        base: Folder that `config.data.roots` are relative to: the folder of the configuration file.
        work: Gets `checkpoint.pt`, `log.csv`, `loss.png` and, at the end, the folder `model`. A checkpoint
            in it is continued from; a kill loses the steps since.
        init: Model to start from rather than from random weights: its name, or its folder. Without effect
            where there is a checkpoint.
        device: A torch device.
        progress: Called after every step.

    Returns:
        The declaration of the exported model.

    Raises:
        ConfigError: The configuration finds no data, describes no model or one that is not what is trained,
            or has patches of a size that the network cannot halve as often as it does, or that are larger
            than every scan.
        ModelError: There is no model `init`, or it is of another network.
        InputError: A scan cannot be read.
        TrainingError: It diverges.
    """
    check_model_table(config)
    intensity = Intensity(config.model.get("intensity", Intensity.P99))
    loop = config.loop
    trainer = Trainer(config, device)
    multiple = cast("int", trainer.network.multiple)
    if loop.patch % multiple:
        raise ConfigError(f"loop.patch is {loop.patch}; expected a multiple of {multiple}")
    data, degrade = prepare(config, base, work, intensity)
    check_patch(loop.patch, data)
    sampler = PatchSampler(data, loop.patch, config.augmentation, degrade)
    scans = corpus.find(config.data, base)[2] if loop.validate_steps else []
    if config.ct is not None:
        cases = make_ct_cases(scans) if loop.validate_steps else []
    else:
        colour = bool(config.model.get("colour", False))
        cases = make_cases(scans, intensity, config.slices, colour=colour)
    if init is not None:
        origin, weights = weights_of(init)
        trainer.start_from(weights, origin)
    with TemporaryDirectory() as rehearsal:  # a fault in the [model] table is found now, not after hours
        facts = TrainingFacts(0, data.files, None, trainer.origin)
        export_model(trainer.average, config, facts, Path(rehearsal))
    run(trainer, sampler, work, validator(cases, trainer.bfloat16) if cases else None, progress)
    trainer.check_weights()  # also the weights of a checkpoint from which there was nothing left to do
    plot_log(work / "log.csv", work / "loss.png")
    facts = TrainingFacts(trainer.step, data.files, last_validation(work / "log.csv"), trainer.origin)
    return export_model(trainer.average, config, facts, work / "model")


def check_patch(patch: int, data: corpus.Corpus) -> None:
    """Refuse patches that would be mostly mirrored scan, before memory is taken for any.

    Raises:
        ConfigError: Patches are larger than every scan and label map along all of its axes.
    """
    largest = max((max(one.shape) for one in (*data.scans, *data.labels)), default=0)
    if patch > largest:
        raise ConfigError(
            f"loop.patch is {patch}, and no scan has more than {largest} voxels along any axis (air around "
            "heads is cut off); expected a patch that fits into a scan"
        )


def check_model_table(config: TrainConfig) -> None:
    """Refuse a configuration whose model would be told something else than it was trained on.

    Raises:
        ConfigError: Units, task or conditions contradict what is trained.
    """
    intensity = config.model.get("intensity", Intensity.P99)
    task, expected = config.model.get("task"), Task.DENOISE if config.slices is None else Task.SUPERRES
    details = config.network.options.get("details", 0)
    if config.ct is not None and config.slices is not None:
        raise ConfigError("[ct] and [slices] are both there; a model is trained for one of them")
    if config.ct is not None and intensity != Intensity.ATTENUATION:
        raise ConfigError(f"model.intensity is {str(intensity)!r} with [ct]; expected 'attenuation'")
    if intensity == Intensity.RAW:
        raise ConfigError("model.intensity is 'raw', and noise is told in fractions; expected 'p99'")
    if task is not None and task != expected:
        having = "without" if config.slices is None else "with"
        raise ConfigError(f"model.task is {task!r} {having} [slices]; expected {str(expected)!r}")
    coloured = config.slices is None and config.ct is None and config.degradation.coloured > 0
    wanted = DETAILS if config.slices is not None else COLOUR_DETAILS if coloured else 0
    if details != wanted:
        raise ConfigError(
            f"network.options.details is {details}; expected {wanted}: what is told of slices, or of the "
            "colour of noise where degradation.coloured is above 0"
        )
    if bool(config.model.get("colour", False)) != coloured:
        raise ConfigError(
            f"model.colour is {config.model.get('colour', False)} with degradation.coloured "
            f"{config.degradation.coloured:g}; a model is told the colour of noise if it was trained so"
        )


def prepare(
    config: TrainConfig, base: Path, work: Path, intensity: Intensity
) -> tuple[corpus.Corpus, Degrade]:
    """Read what is trained on, and return it with what degrades its patches."""
    if config.ct is None:
        data = corpus.load(config.data, base, intensity)
        return data, make_degrade(config.degradation, config.slices)
    options = config.ct
    data, bank = load_ct(config, options, base, work)

    def degrade(clean: FloatArray, place: Place, rng: np.random.Generator) -> Degraded:
        return with_ct_noise(clean, place, bank, options, rng)

    return data, degrade


def weights_of(model: str) -> tuple[str, dict[str, Tensor]]:
    """Return what a model is called, with the start of its sha256, and its weights to start from.

    Raises:
        ModelError: There is no such model, or it was not trained here.
        PluginError: Loading it failed otherwise.
    """
    options = RestoreOptions(model=model)
    ref, spec = find_model(options, Modality.UNKNOWN)
    loaded = load_denoiser(spec, LoadContext(), origin(ref, options))
    network = getattr(loaded.denoiser, "network", None)
    if not isinstance(network, nn.Module):
        raise ModelError(f"{ref.name} has no network to start from; choose one that `medrestore train` made")
    digest = "" if spec.sha256 is None else f" (sha256 {spec.sha256[:12]}...)"
    return spec.name + digest, network.state_dict()


def last_validation(log: Path) -> float | None:
    """Return the last validation score in a log, in dB."""
    with log.open() as stream:
        scores = [row["validation_psnr"] for row in csv.DictReader(stream) if row["validation_psnr"]]
    return float(scores[-1]) if scores else None


def plot_log(log: Path, picture: Path) -> None:
    """Draw the loss, as a running mean, and the validation score of a log."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only the end of a run needs

    with log.open() as stream:
        rows = list(csv.DictReader(stream))
    steps = [int(row["step"]) for row in rows]
    smooth: list[float] = []
    for row in rows:
        smooth.append(float(row["loss"]) * 0.02 + (smooth[-1] if smooth else float(row["loss"])) * 0.98)
    scored = [(int(row["step"]), float(row["validation_psnr"])) for row in rows if row["validation_psnr"]]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(steps, smooth, color="tab:blue", linewidth=1)
    axes.set(xlabel="step", ylabel="squared error / k² (running mean)")
    if scored:
        right = axes.twinx()
        right.plot(*zip(*scored, strict=True), "o-", color="tab:orange", markersize=3)
        right.set_ylabel("validation PSNR (dB)")
    figure.savefig(picture, dpi=120)
