"""A bundle read as data: its network, scheduler and weights, and nothing of it executed."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from medrestore.errors import ModelError, reason_of
from medrestore_monai.allowed import NETWORKS, SCHEDULERS, allowed_name, check_plain

CONFIGS = ("inference.json", "train.json", "inference.yaml", "train.yaml")
WEIGHTS = ("model.safetensors", "model.pt", "model.pth")
MOST_BYTES = 1 << 22
"""Of a configuration."""

_DEEPEST = 16
_DESCRIBES = {"_target_", "_desc_"}
"""Special keys of a component that are read; all others would change what is made."""


@dataclass(frozen=True)
class Component:
    """Something that a configuration makes.

    Attributes:
        name: Of the class, in `allowed`.
        arguments: Plain data.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """What is taken of a bundle.

    Attributes:
        folder: Where it is.
        metadata: Its `configs/metadata.json`.
        network: Its network.
        scheduler: That the network was trained with, if it has one.
    """

    folder: Path
    metadata: Mapping[str, Any]
    network: Component
    scheduler: Component | None

    @property
    def value_range(self) -> tuple[float, float] | None:
        """What the metadata say that its input reaches from and to; None where they say nothing."""
        formats: Any = self.metadata.get("network_data_format")
        try:
            low, high = formats["inputs"]["image"]["value_range"]
            return (float(low), float(high)) if high > low else None
        except (KeyError, TypeError, ValueError):
            return None


def read_bundle(
    folder: Path, config: str | None = None, key: str | None = None, scheduler_key: str | None = None
) -> Bundle:
    """Read a bundle.

    Args:
        folder: With `configs` and `models`.
        config: Name of the file in `configs`; None for the first of `CONFIGS` that is there.
        key: Under which the configuration has the network, where it has several.
        scheduler_key: The same for the scheduler.

    Raises:
        ModelError: It is none, or its network is made of what is not allowed.
    """
    configs = folder / "configs"
    metadata = _read(configs / "metadata.json") if (configs / "metadata.json").is_file() else {}
    names = CONFIGS if config is None else (config,)
    path = next((configs / name for name in names if (configs / name).is_file()), None)
    if path is None:
        raise ModelError(f"{folder}: no bundle of MONAI: expected {' or '.join(names)} in its folder configs")
    table = _read(path)
    try:
        network = _component(table, "networks", key)
        scheduler = _component(table, "schedulers", scheduler_key, needed=False)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    assert network is not None
    return Bundle(folder, metadata, network, scheduler if network.name == "DiffusionModelUNet" else None)


def _read(path: Path) -> dict[str, Any]:
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ModelError(f"{path}: {size} bytes; expected at most {MOST_BYTES} of a configuration")
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: no configuration: {reason_of(error)}; expected JSON or YAML") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path}: expected a table of components by name")
    return table


def _yaml(text: str) -> object:
    import yaml  # comes with whatever made a bundle in YAML

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _component(
    table: Mapping[str, Any], kind: str, key: str | None, *, needed: bool = True
) -> Component | None:
    """Find the one component of a kind among the entries at the top, and resolve its arguments."""
    known = NETWORKS if kind == "networks" else SCHEDULERS
    made = {name: one for name, one in table.items() if isinstance(one, dict) and "_target_" in one}
    if key is not None:
        if key not in made:
            raise ModelError(
                f"it makes nothing named {key!r:.60}; it makes {', '.join(map(str, made))[:200]}"
            )
        made = {key: made[key]}
    found = {name: one for name, one in made.items() if allowed_name(one["_target_"], kind)}
    if len(found) > 1:
        raise ModelError(f"it has several {kind}: {', '.join(found)[:200]}; say which")
    if not found:
        if not needed:
            return None
        targets = ", ".join(repr(one["_target_"])[:60] for one in made.values())[:200]
        raise ModelError(
            f"none of {targets or 'nothing'} is a network that is built here; there are {', '.join(known)}"
        )
    name, one = next(iter(found.items()))
    if special := sorted(part for part in one if part.startswith("_") and part not in _DESCRIBES):
        raise ModelError(
            f"{name} has {special[0]!r}, which is not heeded; expected _target_ and plain arguments"
        )
    arguments = {part: _resolved(table, value) for part, value in one.items() if part not in _DESCRIBES}
    check_plain(arguments, name)
    return Component(str(allowed_name(one["_target_"], kind)), arguments)


def _resolved(table: Mapping[str, Any], value: object, depth: int = 0) -> object:
    """Replace references by the plain data that they lead to; what is no data is left for `check_plain`."""
    if depth > _DEEPEST:
        raise ModelError(f"its values are nested, or refer to each other, deeper than {_DEEPEST} levels")
    if isinstance(value, str) and value.startswith("@"):
        found: Any = table
        for part in value[1:].replace("::", "#").split("#"):
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, TypeError, ValueError):
                return value
        return _resolved(table, found, depth + 1)
    if isinstance(value, list):
        return [_resolved(table, one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {key: _resolved(table, one, depth + 1) for key, one in value.items()}
    return value


def read_weights(
    bundle: Bundle, name: str | None = None, key: str | None = None
) -> tuple[dict[str, Tensor], str]:
    """Return the weights of a bundle and the sha256 of their file; no object is unpickled.

    Args:
        bundle: The bundle.
        name: Of the file in `models`; None for the first of `WEIGHTS` that is there.
        key: Where the file has several tables of weights: which.

    Raises:
        ModelError: There are none, or the file holds other things than tensors.
    """
    names = WEIGHTS if name is None else (name,)
    models = bundle.folder / "models"
    path = next((models / one for one in names if (models / one).is_file()), None)
    if path is None:
        raise ModelError(f"{models}: no weights: expected {' or '.join(names)}")
    if path.suffix == ".ts":
        raise ModelError(
            f"{path}: TorchScript is a program; expected weights alone, in {' or '.join(WEIGHTS)}"
        )
    return _tensors(_loaded(path), path, key), hashlib.sha256(path.read_bytes()).hexdigest()


def _loaded(path: Path) -> object:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: no weights alone: {reason_of(error)}; expected tensors by name, as "
            "torch.save(network.state_dict()) writes them; pickled objects are not loaded, they can execute"
        ) from error


def _tensors(found: object, path: Path, key: str | None) -> dict[str, Tensor]:
    tables = {"": found} if _is_state(found) else {}
    if isinstance(found, Mapping):
        tables |= {str(name): one for name, one in found.items() if _is_state(one)}
    if key is not None:
        tables = {name: one for name, one in tables.items() if name == key}
    if len(tables) != 1:
        names = f": {', '.join(tables)[:200]}" if tables else ""
        raise ModelError(f"{path}: {len(tables)} tables of weights{names}; expected one, or its name")
    return dict(next(iter(tables.values())))  # type: ignore[call-overload]


def _is_state(found: object) -> bool:
    return (
        isinstance(found, Mapping) and bool(found) and all(isinstance(one, Tensor) for one in found.values())
    )
