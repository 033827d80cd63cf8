"""What is shipped: a plugin like any other, with a model folder for each in `models/`, and two formats."""

from __future__ import annotations

from pathlib import Path

from medrestore.io import DICOM, NIFTI
from medrestore.plugin import FormatSpec, ModelSpec, hookimpl, read_model_folder

MODELS = Path(__file__).parent / "models"


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare every folder in `models/` that has a description."""
    return [read_model_folder(description.parent) for description in sorted(MODELS.glob("*/model.toml"))]


@hookimpl
def medrestore_formats() -> list[FormatSpec]:
    """Declare DICOM and NIfTI; their readers are imported when a file is theirs."""
    return [
        FormatSpec(name=DICOM.name, title=DICOM.title, load=lambda: DICOM),
        FormatSpec(name=NIFTI.name, title=NIFTI.title, load=lambda: NIFTI),
    ]
