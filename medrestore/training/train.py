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
from medrestore.errors import ModelError
from medrestore.plugin import Intensity, LoadContext, ModelSpec
from medrestore.plugin.contract import load_denoiser
from medrestore.training import corpus
from medrestore.training.check import check_data, check_model_table, check_patch
from medrestore.training.checkpoint import CHECKPOINT, go_on, identity
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
from medrestore.types import FloatArray, Modality


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
        ModelError: There is no model `init` or `data.denoise_with`, or the first is of another network.
        InputError: A scan cannot be read.
        OutputError: The folder to work in cannot be written to.
        TrainingError: It diverges.
    """
    intensity = check_model_table(config)
    loop = config.loop
    trainer = Trainer(config, device)
    check_patch(config, cast("int", trainer.network.multiple))
    if config.data.denoise_with is not None:
        find_model(RestoreOptions(model=config.data.denoise_with), Modality.UNKNOWN)
    if init is not None:
        origin, weights = weights_of(init)
        trainer.start_from(weights, origin)
    with TemporaryDirectory() as rehearsal:  # a fault in the [model] table is found now, not after hours
        facts = TrainingFacts(0, (), None, trainer.origin)
        export_model(trainer.average, config, facts, Path(rehearsal))
    check_folder(work)
    if (work / "model").exists():
        check_folder(work / "model")
    trainer.identity = identity(config, base)
    if (work / CHECKPOINT).exists():
        go_on(trainer, work / CHECKPOINT)
    data, degrade = prepare(config, base, work, intensity)
    check_data(config, data)
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
