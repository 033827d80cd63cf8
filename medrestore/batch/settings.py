"""How the cases of a batch are restored, as plain JSON: it goes to workers, and into the key of a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medrestore import __version__
from medrestore.provenance import IN_PARTS, JSON
from medrestore.types import Modality

# Where and in what parts it is computed; the model is in the key by its hash.
_INDIFFERENT = {*IN_PARTS, "device", "model"}


@dataclass(frozen=True)
class Settings:
    """The settings of a batch.

    Attributes:
        restore: Fields of `RestoreOptions`.
        policy: Fields of `ReadPolicy`.
        modality: What scans are that do not say it.
        form: ``"nifti"``, ``"dicom"``, ``"both"``; None for what the scan is.
        dtype: Type of the voxels in NIfTI files.
        save_std: Whether the standard deviation of samples is written.
        pictures: Whether pictures are kept for the report.
    """

    restore: Mapping[str, JSON] = field(default_factory=dict)
    policy: Mapping[str, JSON] = field(default_factory=dict)
    modality: Modality | None = None
    form: str | None = None
    dtype: str = "float32"
    save_std: bool = False
    pictures: bool = True

    def sha256(self) -> str:
        """Return a hash of all that may change a result; where and in what tiles it is computed does not."""
        stated = asdict(self)
        del stated["pictures"]
        stated["restore"] = {name: value for name, value in self.restore.items() if name not in _INDIFFERENT}
        text = json.dumps([__version__, stated], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def absolute_model(model: str | None) -> str | None:
    """Return the name of a model, or the absolute path of a model folder: workers run elsewhere."""
    return str(Path(model).resolve()) if model is not None and Path(model).is_dir() else model
