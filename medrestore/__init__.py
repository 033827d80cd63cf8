"""medrestore restores 3-D medical scans with diffusion models, and says what it did.

>>> import medrestore
>>> scan = medrestore.read("noisy.nii.gz")
>>> result = medrestore.restore(scan)
>>> medrestore.write(result.volume, "restored.nii.gz")

The names below are loaded on first use: `import medrestore` costs neither torch nor monai.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from medrestore.lazy import on_first_use

if TYPE_CHECKING:
    from medrestore.api import restore
    from medrestore.engine import Observers, Restoration
    from medrestore.engine.generate import generate
    from medrestore.errors import MedrestoreError
    from medrestore.files import read, read_series, write
    from medrestore.geometry import Geometry
    from medrestore.job.run import restore_file
    from medrestore.options import (
        FileOptions,
        GenerateOptions,
        OutputRequest,
        ReadPolicy,
        ReadRequest,
        RestoreOptions,
    )
    from medrestore.plugin import Intensity, LoadContext, ModelSpec, hookimpl
    from medrestore.types import Modality, Task
    from medrestore.volume import Volume

__version__ = "0.1.0"

# Every activation of a network is new memory, and asking for it in pages of 4 KiB costs a fifth of an
# evaluation on a CPU. torch takes huge pages on Linux where this is set before torch is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_HOMES = {
    "FileOptions": "medrestore.options",
    "GenerateOptions": "medrestore.options",
    "Geometry": "medrestore.geometry",
    "Intensity": "medrestore.plugin",
    "LoadContext": "medrestore.plugin",
    "MedrestoreError": "medrestore.errors",
    "Modality": "medrestore.types",
    "ModelSpec": "medrestore.plugin",
    "Observers": "medrestore.engine",
    "OutputRequest": "medrestore.options",
    "ReadPolicy": "medrestore.options",
    "ReadRequest": "medrestore.options",
    "Restoration": "medrestore.engine",
    "RestoreOptions": "medrestore.options",
    "Task": "medrestore.types",
    "Volume": "medrestore.volume",
    "generate": "medrestore.engine.generate",
    "hookimpl": "medrestore.plugin",
    "read": "medrestore.files",
    "read_series": "medrestore.files",
    "restore": "medrestore.api",
    "restore_file": "medrestore.job.run",
    "write": "medrestore.files",
}

__all__ = [
    "FileOptions",
    "GenerateOptions",
    "Geometry",
    "Intensity",
    "LoadContext",
    "MedrestoreError",
    "Modality",
    "ModelSpec",
    "Observers",
    "OutputRequest",
    "ReadPolicy",
    "ReadRequest",
    "Restoration",
    "RestoreOptions",
    "Task",
    "Volume",
    "__version__",
    "generate",
    "hookimpl",
    "read",
    "read_series",
    "restore",
    "restore_file",
    "write",
]


__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
