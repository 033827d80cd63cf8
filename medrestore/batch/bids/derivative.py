"""The results of a BIDS data set as a derivative data set."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrestore import __version__
from medrestore.batch.bids.find import DESCRIPTION
from medrestore.batch.bids.metadata import read_json
from medrestore.batch.bids.names import RAW
from medrestore.batch.find.names import remove, temporary_files
from medrestore.errors import OutputError
from medrestore.io import atomic_write
from medrestore.options import MAPS
from medrestore.paths import resolved

BIDS_VERSION = "1.10.0"
"""The version of BIDS that the results follow; ``tests/batch/bids/test_bids.py`` has them checked."""

_README = """\
# Images restored by medrestore

Made of the data set that `dataset_description.json` links to. For research; not for diagnosis.

`desc-denoised` are denoised images; `desc-sr` are images whose thick slices were resolved, with `res-` for
the voxel size. The JSON file beside each image is also the record of how it was made: model, noise, settings,
software. Its keys that begin with a capital are those of BIDS; how the image was measured is as there.
`report.html` shows images before and after. The volumes of a series were restored one by one: their noise is
no longer that of the scanner, which matters for whatever is computed over the volumes.
"""
_IGNORED = "\n".join(
    (
        "# The report of the batch, maps beside the images, and images that BIDS has no place for yet.",
        *("/report.html", "/summary.csv", "/summary.json", "/cases"),
        *(f"*_{name}.nii.gz" for name in MAPS),
        *("*_ct.*", "**/ct", ""),
    )
)


def begin_derivative(raw: Path, out: Path) -> None:
    """Make the folder of results a derivative data set, or check that it is the derivative of this data set.

    Files of an earlier run are kept, with additions by people. Shards may do this at the same time.

    Args:
        raw: The data set that the images come from.
        out: Folder of results; made with those above it.

    Raises:
        OutputError: The folder is another data set or holds the results of one, or it cannot be written.
        InputError: A description is there and cannot be read.
    """
    refuse_among_subjects(raw, out)
    raw, out = raw.resolve(), out.resolve()
    # The path above both folders is left out, as it may name a person.
    link = Path(os.path.relpath(raw, out)).as_posix()
    before = read_json(out / DESCRIPTION)
    if out == raw or (before and not _is_ours(before)):
        raise OutputError(f"{out}: is a data set of its own; give the results another folder")
    links = before.get("DatasetLinks")
    if isinstance(links, dict) and links.get(RAW, link) != link:
        raise OutputError(
            f"{out}: holds the results of another data set, {links[RAW]}; give these another folder, or "
            f"remove {DESCRIPTION} there if it is the same data set, moved"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror or error})") from error
    description = {**_description(raw, link), **before, "GeneratedBy": _MAKERS}
    stated = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    _write(out / DESCRIPTION, stated, needed=description != before)
    for name, text in {"README.md": _README, ".bidsignore": _IGNORED}.items():
        _write(out / name, text, needed=not (out / name).exists())


def refuse_among_subjects(raw: Path, out: Path) -> None:
    """Refuse a folder of results within the data set, but below its ``derivatives``.

    Raises:
        OutputError: It is such a folder, whose images would be taken for those of the data set.
    """
    home = resolved(raw) / "derivatives"
    if home.parent in resolved(out).parents and home not in resolved(out).parents:
        raise OutputError(
            f"{out}: is a folder of the data set itself; expected one below its folder derivatives, such as "
            f"{raw / 'derivatives' / 'medrestore'}, or outside of it"
        )


_MAKERS = [{"Name": "medrestore", "Version": __version__}]


def _is_ours(description: Mapping[str, Any]) -> bool:
    makers = description.get("GeneratedBy")
    makers = makers if isinstance(makers, list) else []
    return any(isinstance(maker, dict) and maker.get("Name") == "medrestore" for maker in makers)


def _description(raw: Path, link: str) -> dict[str, Any]:
    """Describe the results, with the path of the source data set and, if it has one, its DOI."""
    doi = read_json(raw / DESCRIPTION).get("DatasetDOI")
    return {
        "Name": "Images restored by medrestore",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": _MAKERS,
        "SourceDatasets": [{"URL": link, **({"DOI": doi} if isinstance(doi, str) and doi else {})}],
        "DatasetLinks": {RAW: link},
    }


def _write(path: Path, text: str, *, needed: bool) -> None:
    """Write a file if that is needed, after clearing the part that a killed run left of it."""
    for left in temporary_files(path):
        remove(left)
    for tries_left in (1, 0) if needed else ():
        try:
            with atomic_write(path, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OutputError as error:
            # Another shard that begins at the same time has removed the file, and writes the same.
            if not (tries_left and isinstance(error.__cause__, FileNotFoundError)):
                raise
        else:
            return
