"""What a plugin author imports, and the host that loads plugins. Costs neither torch nor monai.

A plugin is an installed package with an entry point in the group ``medrestore`` that names a module (or an
object) with functions marked `hookimpl`; `hookspecs` has the signatures. `plugins/medrestore-median` in the
source is a whole one to copy.
"""

from __future__ import annotations

from medrestore.plugin.declarations import (
    MetricSpec,
    NetworkSpec,
    NoiseEstimatorSpec,
    Operator,
    OperatorSpec,
    ReaderSpec,
    SamplerSpec,
    VerbSpec,
)
from medrestore.plugin.hookspecs import hookimpl
from medrestore.plugin.manager import PluginInfo, PluginManager
from medrestore.plugin.model_folder import read_model_folder
from medrestore.plugin.registry import Registry
from medrestore.plugin.spec import API, ENSEMBLES, Declaration, Intensity, LoadContext, ModelSpec

__all__ = [
    "API",
    "ENSEMBLES",
    "Declaration",
    "Intensity",
    "LoadContext",
    "MetricSpec",
    "ModelSpec",
    "NetworkSpec",
    "NoiseEstimatorSpec",
    "Operator",
    "OperatorSpec",
    "PluginInfo",
    "PluginManager",
    "ReaderSpec",
    "Registry",
    "SamplerSpec",
    "VerbSpec",
    "hookimpl",
    "read_model_folder",
]
