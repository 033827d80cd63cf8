"""`medrestore push` and `medrestore pull`: series to and from an archive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.node import require_extra
from medrestore.errors import ConfigError, InputError, OutputError

_NODE = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>[0-9]{1,5})")


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="DICOM files.")],
    to: Annotated[str, typer.Option(metavar="URL|AE@HOST:PORT", help="DICOMweb service, or DICOM node.")],
    ae_title: Annotated[str, typer.Option(help="Own AE title.")] = "MEDRESTORE",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Send every DICOM file of a folder to an archive, by DICOMweb (STOW) or by C-STORE."""
    require_extra()
    from medrestore.io.dicom import is_dicom
    from medrestore.node import Destination
    from medrestore.node.transfer import send

    if to.startswith(("http://", "https://")):
        destination = Destination(url=to)
    elif found := _NODE.fullmatch(to):
        destination = Destination(found["host"], int(found["port"]), found["title"])
    else:
        raise ConfigError(f"--to is {to!r}; expected the url of a DICOMweb service, or AE@HOST:PORT")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(str(path) for path in folder.iterdir() if path.is_file() and is_dicom(path))
    if not files:
        raise InputError(f"{folder}: no DICOM file in it; subfolders are not entered")
    if error := send(destination, files, ae_title):
        raise OutputError(f"{folder}: not sent; {error}")
    if not quiet:
        typer.echo(f"{len(files)} images sent to {to}")


def pull(
    source: Annotated[str, typer.Option("--from", metavar="URL", help="DICOMweb service.")],
    study: Annotated[str, typer.Option(metavar="UID", help="Study instance UID.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to make.")],
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Series instance UID; all of the study by default.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Fetch a study, or one series of it, from a DICOMweb service (WADO); a folder for each series."""
    require_extra()
    from medrestore.io import atomic_folder
    from medrestore.node.transfer import fetch

    counts: dict[str, int] = {}
    with atomic_folder(out) as folder:
        for uid, sop, data in fetch(source, study, series):
            (folder / uid).mkdir(exist_ok=True)
            data.save_as(folder / uid / f"{sop}.dcm", enforce_file_format=True)
            counts[uid] = counts.get(uid, 0) + 1
        if not counts:
            raise InputError(f"{source}: no image of study {study}")
    if not quiet:
        for uid, count in counts.items():
            typer.echo(f"{out / uid}: {count} images")
