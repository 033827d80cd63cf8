"""Checkpoints: all that a run needs to go on, and what it is of, so that no other run takes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch

from medrestore.errors import SEEN_CHARACTERS, ConfigError, reason_of
from medrestore.io import atomic_write
from medrestore.plugin import Intensity
from medrestore.training.corpus import extent, find, names
from medrestore.training.recipe import TrainConfig

if TYPE_CHECKING:
    from medrestore.training.loop import Trainer

CHECKPOINT = "checkpoint.pt"

FREE = {
    "data.roots",
    *(f"loop.{key}" for key in ("steps", "rate", "warmup", "checkpoint_minutes", "validate_steps")),
    *(f"loop.{key}" for key in ("bfloat16", "compile", "workers")),
}
"""Keys that may change between two starts of a run: how long, how fast, where and by what it is computed."""

DAMAGED = (OSError, EOFError, RuntimeError, UnpicklingError)
OF_ANOTHER_FORM = (AttributeError, IndexError, KeyError, TypeError, ValueError)


def identity(config: TrainConfig, base: Path) -> dict[str, str]:
    """Return what a run learns from and how, by key of the configuration.

    Of `[model]` it is the units only: what a model says of itself may be put better after the training. Files
    are told by name and size, so that a run goes on in a copy of its folders.

    Args:
        config: Of the run.
        base: Folder of the configuration file.
    """
    tables = asdict(config)
    tables["model"] = {"intensity": str(config.model.get("intensity", Intensity.P99))}
    found = {
        f"{table}.{key}": json.dumps(value, sort_keys=True, default=str)
        for table, values in tables.items()
        for key, value in ({"": None} if values is None else values).items()
        if f"{table}.{key}" not in FREE
    }
    paths = [path for kind in find(config.data, base) for path in kind]
    sizes = zip(names(paths, config.data, base), (extent(path)[0] for path in paths), strict=True)
    return found | {"the files": ", ".join(f"{name} ({size} bytes)" for name, size in sizes)}


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old or the new one.

    Raises:
        OutputError: The system refuses: a full disk, say.
    """
    with atomic_write(path, overwrite=True) as temporary:
        try:
            torch.save(trainer.state_dict(), temporary)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(reason_of(error)) from error


def go_on(trainer: Trainer, checkpoint: Path) -> None:
    """Go on from a checkpoint.

    Raises:
        ConfigError: It is damaged, or of another configuration.
    """
    try:
        # Networks and optimisers take what they load to their own device; the rest stays here.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        difference = _difference(state["identity"], trainer.identity) if "identity" in state else None
    except (*DAMAGED, *OF_ANOTHER_FORM) as error:
        raise _refused(
            checkpoint, f"it is damaged, or no checkpoint of a training ({reason_of(error)})"
        ) from error
    if difference is None:
        raise _refused(checkpoint, "it does not say what it was configured with, as in older versions")
    if difference:
        raise _refused(checkpoint, f"it is of another configuration: {difference}")
    try:
        trainer.load_state_dict(state)
    except (*DAMAGED, *OF_ANOTHER_FORM) as error:
        raise _refused(checkpoint, f"it does not fit the network ({reason_of(error)})") from error


def _difference(saved: dict[str, str], now: dict[str, str]) -> str:
    """Say where two identities differ; empty if nowhere."""
    return "; ".join(
        f"{key.rstrip('.')} was {_shown(saved, key)} and is {_shown(now, key)}"
        for key in sorted(saved.keys() | now.keys())
        if saved.get(key) != now.get(key)
    )


def _shown(values: dict[str, str], key: str) -> str:
    value = values.get(key, "not there")
    return value if len(value) <= SEEN_CHARACTERS else f"{value[:SEEN_CHARACTERS]}..."


def _refused(checkpoint: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{checkpoint}: cannot go on from this checkpoint: {why}; choose another folder with -o, or "
        "remove it to start again"
    )
