"""From the names in options to what is declared under them, which loads nothing: no torch either."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from medrestore.errors import ModelError
from medrestore.options import RestoreOptions, Sampler, names_a_plugin
from medrestore.plugin import ModelSpec, Registry, read_model_folder
from medrestore.plugin.declarations import OperatorSpec, SamplerSpec
from medrestore.plugin.extensions.lookup import Extension, find
from medrestore.plugin.extensions.noise_estimators import find_noise_estimator
from medrestore.plugin.host import plugins
from medrestore.provenance import ModelRef
from medrestore.types import Modality


def find_model(options: RestoreOptions, modality: Modality) -> tuple[ModelRef, ModelSpec]:
    """Look a model up by name, by folder, or by what the scan is.

    Raises:
        ModelError: There is no such model, or more than one.
    """
    if options.model is not None and _is_folder(options.model):
        spec = read_model_folder(Path(options.model))
        return ModelRef(spec.name, "folder", spec.sha256, spec.network), spec
    models = Registry(plugins())
    if options.model is None:
        name = models.default_name(options.task, modality)
    else:
        name = models.resolve(options.model)
    spec = models.get(name)
    return ModelRef(name, name.split("/")[0], spec.sha256, spec.network), spec


def _is_folder(name: str) -> bool:
    """Tell a model folder from the name of a model: it is a folder, or at least looks like a path."""
    path = Path(name)
    return path.is_dir() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def origin(ref: ModelRef, options: RestoreOptions) -> str:
    """Return the name of a model and of its plugin or folder, for a message."""
    if options.model is not None and _is_folder(options.model):
        foreign = f" with the network {ref.network!r}" if ref.network and "/" in ref.network else ""
        return f"model folder {options.model}{foreign}"
    return f"{plugins().origin(ref.plugin)}, model {ref.name!r}"


def declared_sampler(name: str) -> Extension[SamplerSpec] | None:
    """Return a sampler of a plugin; None where the name is one of medrestore's own.

    Raises:
        ConfigError: No plugin has it.
    """
    own = get_args(Sampler)
    return None if name in own else find(SamplerSpec, name, builtin=own)


def declared_operator(name: str) -> Extension[OperatorSpec]:
    """Return the operator ``plugin/name``.

    Raises:
        ModelError: There is none: it is a model that names it.
    """
    return find(OperatorSpec, name, error=ModelError)


def check_names(options: RestoreOptions) -> None:
    """Refuse options that name what no plugin declares.

    Raises:
        ConfigError: They do.
    """
    declared_sampler(options.sampler)
    if names_a_plugin(options.noise):
        find_noise_estimator(str(options.noise))
