"""From a configuration to a model folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
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
from medrestore.training.checkpoint import identity
from medrestore.training.ct_corpus import load_ct
from medrestore.training.ct_noise import with_ct_noise
from medrestore.training.degrade import Degrade, Degraded, make_degrade
from medrestore.training.export import TrainingFacts, check_folder, export_model
from medrestore.training.log import last_validation, plot_log
from medrestore.training.loop import Progress, Trainer, run
from medrestore.training.patches import PatchSampler
from medrestore.training.place import Place
from medrestore.training.recipe import TrainConfig
from medrestore.training.validate import Case, make_cases, make_ct_cases, validator
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
            than every scan; or the checkpoint is damaged, or of another configuration.
        ModelError: There is no model `init`, or it is of another network.
        InputError: A scan cannot be read.
        OutputError: The folder to work in cannot be written to.
        TrainingError: It diverges.
    """
    check_model_table(config)
    intensity = Intensity(config.model.get("intensity", Intensity.P99))
    loop = config.loop
    trainer = Trainer(config, device)
    multiple = cast("int", trainer.network.multiple)
    if loop.patch % multiple:
        raise ConfigError(f"loop.patch is {loop.patch}; expected a multiple of {multiple}")
    if init is not None:
        origin, weights = weights_of(init)
        trainer.start_from(weights, origin)
    with TemporaryDirectory() as rehearsal:  # a fault in the [model] table is found now, not after hours
        export_model(trainer.average, config, TrainingFacts(0, (), None, trainer.origin), Path(rehearsal))
    for folder in (work, work / "model"):
        if folder is work or folder.exists():
            check_folder(folder)
    trainer.identity = identity(config, base)
    data, degrade = prepare(config, base, work, intensity)
    check_patch(loop.patch, data)
    sampler = PatchSampler(data, loop.patch, config.augmentation, degrade)
    cases = validation_cases(config, base, intensity) if loop.validate_steps else []
    run(trainer, sampler, work, validator(cases, trainer.bfloat16) if cases else None, progress)
    trainer.check_weights()  # also the weights of a checkpoint from which there was nothing left to do
    log = work / "log.csv"
    facts = TrainingFacts(trainer.step, data.files, last_validation(log), trainer.origin)
    spec = export_model(trainer.average, config, facts, work / "model")
    with suppress(OSError):  # a picture is not what the run was for
        plot_log(log, work / "loss.png")
    return spec


def validation_cases(config: TrainConfig, base: Path, intensity: Intensity) -> list[Case]:
    """Read what a run is validated on."""
    scans = corpus.find(config.data, base)[2]
    if config.ct is not None:
        return make_ct_cases(scans)
    return make_cases(scans, intensity, config.slices, colour=bool(config.model.get("colour", False)))


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
