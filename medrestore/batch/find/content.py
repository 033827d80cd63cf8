"""What a case is told by: the content of its files, and of the JSON beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from medrestore.errors import InputError
from medrestore.io.nifti.bids_sampling import json_beside
from medrestore.paths import open_file
from medrestore.provenance import JSON


def content_of(files: Sequence[Path], *, alone: bool) -> str:
    """Return the SHA-256 of the files of a scan; of several files, names and order do not count.

    Args:
        files: The files.
        alone: Whether one file is the whole scan, and not one image of a series.

    Raises:
        OSError: A file cannot be read.
    """
    sums = sorted(_sha256(path) for path in files)
    return sums[0] if alone and len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def said_beside(files: Sequence[Path], sidecar: Mapping[str, JSON]) -> str:
    """Return the SHA-256 of what JSON says beside a scan; empty where none says anything.

    Args:
        files: Of the scan.
        sidecar: What the JSON files of BIDS say, those of upper folders included.
    """
    parts = [json.dumps(sidecar, sort_keys=True)] if sidecar else []
    for path in files:
        beside = json_beside(path)
        with suppress(OSError, InputError):  # what cannot be read says nothing
            parts += [_sha256(beside)] if beside != path else []
    return hashlib.sha256("".join(parts).encode()).hexdigest() if parts else ""


def _sha256(path: Path) -> str:
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
