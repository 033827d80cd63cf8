"""NRRD, MetaImage, MGH and Analyze for medrestore; what reads them is imported when a file is theirs."""

from __future__ import annotations

from functools import partial

from medrestore import hookimpl
from medrestore.plugin import Format, FormatSpec

TITLES = {
    "nrrd": "NRRD",
    "nhdr": "NRRD with a detached header",
    "mha": "MetaImage",
    "mhd": "MetaImage with a detached header",
    "mgz": "MGH",
    "analyze": "Analyze",
}


@hookimpl
def medrestore_formats() -> list[FormatSpec]:
    """Declare them all; those in two files are read only."""
    return [FormatSpec(name=name, title=title, load=partial(load, name)) for name, title in TITLES.items()]


def load(name: str) -> Format:
    """Return one of them."""
    from medrestore_formats import itk, surfer

    return {**itk.FORMATS, **surfer.FORMATS}[name]
