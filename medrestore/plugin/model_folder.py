"""A folder with `model.toml` and `model.safetensors` is a model.

`model.toml` has the fields of `ModelSpec` under their own names, and two tables::

    api = 1
    name = "mr-denoise"
    title = "Noise in head MRI"
    task = "denoise"
    modalities = ["MR"]
    licence = "Apache-2.0"
    reference = "https://..."
    intensity = "p99"
    spacing_mm = [0.6, 1.5]
    noise = [0.01, 0.15]
    halo = 64
    multiple = 8
    outputs = ["mean", "sample"]
    dtypes = ["float32", "bfloat16"]

    [network]
    name = "voxelnet"                 # in medrestore.networks, or plugin/name
    options = { widths = [64, 128] }  # its keyword arguments

    [weights]
    file = "model.safetensors"        # in the same folder
    sha256 = "..."

A key that is not known is an error: a misspelt one must not silently become a default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Set
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medrestore.errors import ModelError, PluginError
from medrestore.plugin.spec import SHOWN, Intensity, LoadContext, ModelSpec, shown
from medrestore.toml import read_toml
from medrestore.types import Modality, Task

if TYPE_CHECKING:
    from torch import nn

    from medrestore.diffusion.denoiser import Denoiser

DESCRIPTION = "model.toml"

_FROM_TABLES = {"load", "weights", "sha256", "network"}
_FIELDS = {field.name: field for field in fields(ModelSpec) if field.name not in _FROM_TABLES}
_REQUIRED = {name for name, field in _FIELDS.items() if field.default is MISSING}

# Bytes of the header of a file of weights, and of a weight in its largest type.
_HEADER, _LARGEST = 1 << 20, 8

E = TypeVar("E", bound=Enum)


def read_model_folder(path: Path) -> ModelSpec:
    """Read the description of a model; its weights are read and checked when it is loaded.

    Args:
        path: The folder.

    Raises:
        ModelError: The folder has no usable `model.toml`, or not the file of weights that it names.
    """
    description = Path(path) / DESCRIPTION
    try:
        return _spec(read_toml(description), Path(path))
    except OSError as error:
        raise ModelError(
            f"{path}: not a model folder, {DESCRIPTION} cannot be read: {error.strerror or error}; expected "
            f"{DESCRIPTION} and the file of weights that it names"
        ) from error
    except ValueError as error:
        raise ModelError(f"{description}: not TOML: {error}") from error
    except TypeError as error:
        raise ModelError(f"{description}: a key has a value of the wrong kind: {error}") from error
    except (ModelError, PluginError) as error:
        raise ModelError(f"{description}: {error}") from error


def _spec(table: dict[str, Any], folder: Path) -> ModelSpec:
    network = _table(table, "network", required={"name"}, optional={"options"})
    weights = _table(table, "weights", required={"file", "sha256"})
    _check_keys(table, "", _REQUIRED, _FIELDS.keys() - _REQUIRED)
    path = folder / str(weights["file"])
    if path.parent != folder or not path.is_file():
        raise ModelError(
            f"weights.file is {shown(weights['file'])}, expected the name of a file in the same folder"
        )
    recipe = _Recipe(str(network["name"]), network.get("options", {}), path, str(weights["sha256"]))
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    values["task"] = _member(Task, values["task"], "task")
    values["modalities"] = tuple(_member(Modality, item, "modalities") for item in table["modalities"])
    if "intensity" in values:
        values["intensity"] = _member(Intensity, values["intensity"], "intensity")
    if "outputs" in values:
        values["outputs"] = frozenset(table["outputs"])
    return ModelSpec(**values, weights=path, sha256=recipe.sha256, network=recipe.network, load=recipe)


def _table(
    table: dict[str, Any], name: str, required: Set[str], optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """Take a table out of the file and check its keys."""
    found = table.pop(name, None)
    if not isinstance(found, dict):
        raise ModelError(
            f"the table [{name}] is missing; expected keys: {', '.join(sorted(required | optional))}"
        )
    _check_keys(found, f"{name}.", required, optional)
    return found


def _check_keys(found: Mapping[str, Any], where: str, required: Set[str], optional: Set[str]) -> None:
    known = required | optional
    for key in found:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ModelError(f"unknown key {shown(where + key)}; {hint}")
    if missing := sorted(required - found.keys()):
        raise ModelError(f"missing: {', '.join(where + key for key in missing)}")


def _member(kind: type[E], value: object, key: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(repr(member.value) for member in kind)
        raise ModelError(f"{key} has {shown(value)}; expected one of {known}") from error


@dataclass(frozen=True)
class _Recipe:
    """How to load the denoiser of a folder; the `load` of its spec."""

    network: str
    options: Mapping[str, Any]
    weights: Path
    sha256: str

    def __call__(self, context: LoadContext) -> Denoiser:
        """Build the network, fill it with the checked weights and put it where it is to run."""
        import torch

        from medrestore.diffusion.precondition import TwoMeasurementDenoiser
        from medrestore.plugin.extensions.networks import build_network

        autocast = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[context.dtype]
        try:
            network = build_network(self.network, self.options, empty=True)
        except ModelError as error:
            raise ModelError(f"{self.weights.with_name(DESCRIPTION)}: {error}") from error
        self._fill(network, self.weights if context.weights is None else context.weights)
        # Layout alone is worth a factor of two for 3-D convolutions, on a CPU as on a GPU.
        network = network.eval().requires_grad_(False)
        network.to(  # type: ignore[call-overload]
            device=context.device, dtype=torch.float32, memory_format=torch.channels_last_3d
        )
        return TwoMeasurementDenoiser(network, autocast)

    def _fill(self, network: nn.Module, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        from medrestore.networks.weights import not_finite, other_kinds

        data = self._read(path, sum(value.numel() for value in network.state_dict().values()))
        # What is hashed is what is loaded: the file is read once.
        if (digest := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise ModelError(
                f"{path}: the weights are not those that {DESCRIPTION} describes: sha256 {digest}, expected "
                f"{self.sha256}; fetch or export the model folder again"
            )
        try:
            weights = load(data)
            if kinds := other_kinds(weights, network.state_dict()):
                raise RuntimeError(kinds)
            network.load_state_dict(weights, assign=True)
            fault = not_finite(weights)
        except (SafetensorError, RuntimeError, NotImplementedError) as error:
            raise ModelError(
                f"{path}: the weights do not fit the network {shown(self.network)}: {str(error)[:SHOWN]}"
            ) from error
        if fault:
            raise ModelError(f"{path}: {fault}; fetch the model again, or train it anew")

    def _read(self, path: Path, count: int) -> bytes:
        """Read a file of weights that may be as large as so many of them."""
        try:
            size, most = path.stat().st_size, _HEADER + _LARGEST * count
            if size > most:
                raise ModelError(
                    f"{path}: the weights have {size} bytes, and the network of {DESCRIPTION} has {count} "
                    f"weights, which take {most} at most; they do not fit the network"
                )
            return path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: the weights cannot be read: {error.strerror or error}") from error
