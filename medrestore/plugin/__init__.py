"""What a plugin author imports, and the host that loads plugins. Costs neither torch nor monai.

A plugin is an installed package with an entry point in the group ``medrestore`` that names a module (or an
object) with functions marked `hookimpl`; `hookspecs` has the signatures. `plugins/medrestore-median` in the
source is a whole one to copy.
"""

from __future__ import annotations

from medrestore.errors import PluginError
from medrestore.io.encoding import encode
from medrestore.io.formats import Format, ScanHeader, StoredVoxels, header_by_name, volumes_of
from medrestore.plugin.declarations import (
    FormatSpec,
    MetricSpec,
    NetworkSpec,
    NoiseEstimatorSpec,
    Operator,
    OperatorSpec,
    SamplerSpec,
    VerbSpec,
)
from medrestore.plugin.generation import GeneratorSpec, Stage
from medrestore.plugin.hookspecs import REMOVED, hookimpl
from medrestore.plugin.host import installed_formats
from medrestore.plugin.installed import PluginInfo, fingerprint
from medrestore.plugin.manager import PluginManager
from medrestore.plugin.model_folder import read_model_folder
from medrestore.plugin.registry import Registry
from medrestore.plugin.spec import API, ENSEMBLES, Declaration, Intensity, LoadContext, ModelSpec

__all__ = [
    "API",
    "ENSEMBLES",
    "Declaration",
    "Format",
    "FormatSpec",
    "GeneratorSpec",
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
    "Registry",
    "SamplerSpec",
    "ScanHeader",
    "Stage",
    "StoredVoxels",
    "VerbSpec",
    "encode",
    "fingerprint",
    "header_by_name",
    "hookimpl",
    "installed_formats",
    "read_model_folder",
    "volumes_of",
]


def __getattr__(name: str) -> object:
    if name == "ReaderSpec":  # or a plugin of API 1 would be told of a failed import alone
        raise PluginError(REMOVED["medrestore_readers"])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
