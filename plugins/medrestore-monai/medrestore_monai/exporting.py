"""From a model of medrestore to a bundle, which MONAI's own tools load and run."""

from __future__ import annotations

import json
import shutil
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from medrestore.errors import ModelError
from medrestore.plugin import Intensity, ModelSpec
from medrestore.types import Task
from medrestore_monai.folders import new_folder

SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
TILE = 96
"""Side of the windows that MONAI slides, at least; rounded up to the model's multiple."""


def export_model(spec: ModelSpec, folder: Path) -> None:
    """Write a bundle of a denoiser: `configs`, `models/model.pt`, `docs`, and its licence.

    Args:
        spec: The model; from a folder, with a network of `medrestore.networks`.
        folder: Made; it must not be there yet.

    Raises:
        ModelError: It is no denoiser, or its network is that of a plugin.
        OutputError: The folder is there already, or cannot be written.
    """
    import torch

    from medrestore.plugin import LoadContext

    if spec.task is not Task.DENOISE or spec.operator is not None or spec.intensity is Intensity.RAW:
        raise ModelError(f"model {spec.name!r}: only denoisers in units of p99 or attenuation become bundles")
    if spec.weights is None or spec.network is None or "/" in spec.network:
        raise ModelError(
            f"model {spec.name!r}: it has no folder with weights of a network of medrestore itself"
        )
    options = tomllib.loads(spec.weights.with_name("model.toml").read_text())["network"].get("options", {})
    denoiser: Any = spec.load(LoadContext())  # weights are checked by their hash here
    state = {f"network.{name}": value for name, value in denoiser.network.state_dict().items()}
    with new_folder(folder):
        for part in ("configs", "models", "docs"):
            (folder / part).mkdir()
        _write(folder / "configs/metadata.json", describe(spec))
        _write(folder / "configs/inference.json", inference(spec, options))
        torch.save(state, folder / "models/model.pt")
        (folder / "LICENSE").write_text(f"{spec.licence}\n", encoding="utf-8")
        cards = (spec.weights.with_name(name) for name in ("README.md", "LICENSE"))
        for path in (card for card in cards if card.is_file()):
            shutil.copyfile(path, folder / "docs" / path.name)


def _write(path: Path, table: dict[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def describe(spec: ModelSpec) -> dict[str, Any]:
    """Return `metadata.json`."""
    size = f"{spec.multiple}*n"
    volume = {"type": "image", "num_channels": 1, "spatial_shape": [size, size, size], "dtype": "float32"}
    modality = str(spec.modalities[0])
    units = "HU / 1000 + 1" if spec.is_ct else "the scan over its 99th percentile"
    given = {
        **volume,
        "num_channels": 2,
        "format": "magnitude",
        "modality": modality,
        "value_range": [0, 1],
        "is_patch_data": True,
        "channel_def": {"0": f"scan: {units}", "1": "standard deviation of its noise, in the same units"},
    }
    made = {**volume, "format": "magnitude", "value_range": [0, 1], "channel_def": {"0": "restored scan"}}
    return {
        "schema": SCHEMA,
        "version": metadata.version("medrestore"),
        "changelog": {metadata.version("medrestore"): "exported by medrestore-monai"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {
            "medrestore": metadata.version("medrestore"),
            "medrestore-monai": "0.1.0",
        },
        "name": spec.title,
        "task": "denoising",
        "description": f"{spec.title}; the posterior mean of a scan, given the level of its noise.",
        "authors": spec.reference,
        "copyright": spec.licence,
        "intended_use": "Research; not for diagnosis.",
        "network_data_format": {"inputs": {"image": given}, "outputs": {"pred": made}},
    }


def inference(spec: ModelSpec, options: dict[str, Any]) -> dict[str, Any]:
    """Return `inference.json`: `image`, `sigma` and `output_dir` are to be given."""
    tile = -(-TILE // spec.multiple) * spec.multiple
    return {
        "bundle_root": ".",
        "image": "",
        "sigma": 0.0,
        "output_dir": "$@bundle_root + '/eval'",
        "network_def": {
            "_target_": "medrestore_monai.exported.ScanDenoiser",
            "name": spec.network,
            "options": options,
        },
        "load": {"_target_": "LoadImage", "image_only": True, "ensure_channel_first": True},
        "units": {
            "_target_": "medrestore_monai.exported.ToModelUnits",
            "intensity": str(spec.intensity),
            "sigma": "@sigma",
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [tile, tile, tile],
            "overlap": 0.5,
            "mode": "gaussian",
            "padding_mode": "replicate",  # a border without noise would be none of the scan's
        },
        "save": {
            "_target_": "SaveImage",
            "output_dir": "@output_dir",
            "output_postfix": "restored",
            "separate_folder": False,
            "resample": False,
        },
        "network": {
            "_target_": "medrestore_monai.exported.with_weights",
            "network": "@network_def",
            "path": "$@bundle_root + '/models/model.pt'",
        },
        "scan": "$@load(@image)",
        "restored": "$@units.back(@inferer(@units(@scan)[None], @network)[0], @scan)",
        "run": ["$@save(@restored)"],
    }
