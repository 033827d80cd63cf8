"""What a configuration must be, beyond each of its keys: found before hours are spent, not after."""

from __future__ import annotations

from medrestore.errors import ConfigError
from medrestore.physics.kspace import COLOUR_DETAILS
from medrestore.physics.slices import DETAILS
from medrestore.plugin import Intensity
from medrestore.training.corpus import Corpus
from medrestore.training.recipe import TrainConfig
from medrestore.types import Task

WRITTEN = ("halo", "multiple", "network", "weights")
"""Keys of a `model.toml` that say what the network is: the export knows them."""


def check_model_table(config: TrainConfig) -> Intensity:
    """Refuse a configuration whose model would be told something else than it was trained on.

    Returns:
        The units of the model.

    Raises:
        ConfigError: Units, task or conditions contradict what is trained.
    """
    if written := [key for key in WRITTEN if key in config.model]:
        raise ConfigError(f"model.{written[0]} is known from the network that is trained; take it out")
    if config.ct is not None and config.slices is not None:
        raise ConfigError("[ct] and [slices] are both there; a model is trained for one of them")
    intensity = _intensity(config)
    task, expected = config.model.get("task"), Task.DENOISE if config.slices is None else Task.SUPERRES
    if task is not None and task != expected:
        having = "without" if config.slices is None else "with"
        raise ConfigError(f"model.task is {task!r} {having} [slices]; expected {str(expected)!r}")
    coloured = config.slices is None and config.ct is None and config.degradation.coloured > 0
    details = config.network.options.get("details", 0)
    wanted = DETAILS if config.slices is not None else COLOUR_DETAILS if coloured else 0
    if details != wanted:
        raise ConfigError(
            f"network.options.details is {details}; expected {wanted}: what is told of slices, or of the "
            "colour of noise where degradation.coloured is above 0"
        )
    if config.model.get("colour", False) is not coloured:
        raise ConfigError(
            f"model.colour is {config.model.get('colour', False)} with degradation.coloured "
            f"{config.degradation.coloured:g}; a model is told the colour of noise if it was trained so"
        )
    return intensity


def _intensity(config: TrainConfig) -> Intensity:
    given = config.model.get("intensity", Intensity.P99)
    expected = Intensity.P99 if config.ct is None else Intensity.ATTENUATION
    try:
        intensity = Intensity(given)
    except ValueError:
        raise ConfigError(f"model.intensity is {given!r}; expected {str(expected)!r}") from None
    if config.ct is not None and intensity != expected:
        raise ConfigError(f"model.intensity is {str(given)!r} with [ct]; expected {str(expected)!r}")
    if intensity == Intensity.RAW:
        raise ConfigError("model.intensity is 'raw', and noise is told in fractions; expected 'p99'")
    return intensity


def check_patch(config: TrainConfig, multiple: int) -> None:
    """Refuse patches that the network cannot halve, or that are thinner than a slice.

    Args:
        config: With the patches.
        multiple: Of which the network needs them.

    Raises:
        ConfigError: They are such patches.
    """
    patch = config.loop.patch
    if patch % multiple:
        raise ConfigError(f"loop.patch is {patch}; expected a multiple of {multiple}")
    if config.slices is not None and config.slices.factor[1] > patch:
        raise ConfigError(
            f"slices.factor goes to {config.slices.factor[1]:g} planes, and loop.patch is {patch}; expected "
            "patches of a slice or more"
        )


def check_data(config: TrainConfig, data: Corpus) -> None:
    """Refuse too little data, or patches that would be mostly mirrored scan, before memory is taken for any.

    Raises:
        ConfigError: There is nothing to train on, nothing for a share of the patches, or patches are larger
            than every scan and label map along all of its axes.
    """
    synthetic, patch = config.augmentation.synthetic, config.loop.patch
    if not data.scans and not data.labels:
        raise ConfigError(
            "there is nothing to train on; expected scans in data.scans, or label maps in data.labels"
        )
    if not data.scans and synthetic < 1:
        raise ConfigError(
            f"data.scans is empty, and augmentation.synthetic is {synthetic:g}; expected scans, or 1 to "
            "train on label maps alone"
        )
    largest = max(max(one.shape) for one in (*data.scans, *data.labels))
    if patch > largest:
        raise ConfigError(
            f"loop.patch is {patch}, and no scan has more than {largest} voxels along any axis (air around "
            "heads is cut off); expected a patch that fits into a scan"
        )
