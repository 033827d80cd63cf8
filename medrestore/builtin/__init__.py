"""The models that are shipped: a plugin like any other, with a model folder for each in `models/`."""

from __future__ import annotations

from pathlib import Path

from medrestore.plugin import ModelSpec, hookimpl, read_model_folder

MODELS = Path(__file__).parent / "models"


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare every folder in `models/` that has a description."""
    return [read_model_folder(description.parent) for description in sorted(MODELS.glob("*/model.toml"))]
