"""`medrestore push` and `medrestore pull`: series to and from an archive."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.node import require_extra
from medrestore.errors import ConfigError, InputError, OutputError

if TYPE_CHECKING:
    from medrestore.node import Destination

_NODE = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>[0-9]{1,5})")


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="DICOM files.")],
    to: Annotated[str, typer.Option(metavar="URL|AE@HOST:PORT", help="DICOMweb service, or DICOM node.")],
    ae_title: Annotated[str, typer.Option(help="Own AE title.")] = "MEDRESTORE",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Send every DICOM file of a folder to an archive, by DICOMweb (STOW) or by C-STORE."""
    require_extra()
    from medrestore.io.dicom.read import is_dicom
    from medrestore.node.transfer import send

    destination = _address(to, "--to")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = [path for path in folder.iterdir() if path.is_file() and path.name != "DICOMDIR"]
    files = sorted(str(path) for path in found if is_dicom(path))
    if not files:
        raise InputError(f"{folder}: no DICOM file in it; subfolders are not entered")
    if error := send(destination, files, ae_title):
        raise OutputError(f"{folder}: not sent; {error}")
    if not quiet:
        typer.echo(f"{len(files)} images sent to {to}")


def pull(
    source: Annotated[
        str, typer.Option("--from", metavar="URL|AE@HOST:PORT", help="DICOMweb service, or DICOM node.")
    ],
    study: Annotated[str, typer.Option(metavar="UID", help="Study instance UID.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to make.")],
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Series instance UID; all of the study by default.")
    ] = None,
    ae_title: Annotated[str, typer.Option(help="Own AE title.")] = "MEDRESTORE",
    move_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            help="Have a DICOM node send to this port of ours (C-MOVE), which it knows by our AE title; "
            "C-GET by default.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Fetch a study, or one series of it, by DICOMweb (WADO), C-GET or C-MOVE; a folder for each series."""
    require_extra()
    from medrestore.io import atomic_folder
    from medrestore.node.retrieve import retrieve

    peer = _address(source, "--from")
    if peer.url and move_port is not None:
        raise ConfigError("--move-port is for a DICOM node, AE@HOST:PORT; --from is a DICOMweb service")
    with atomic_folder(out) as folder:
        if peer.url:
            counts = _download(peer.url, study, series, folder)
        else:
            counts = retrieve(peer, (study, series), folder, ae_title, move_port)
        if not counts:
            raise InputError(f"{source}: no image of study {study}")
    if not quiet:
        for uid, count in counts.items():
            typer.echo(f"{out / uid}: {count} images")


def _download(url: str, study: str, series: str | None, folder: Path) -> dict[str, int]:
    from medrestore.node.transfer import fetch

    counts: dict[str, int] = {}
    for uid, sop, data in fetch(url, study, series):
        (folder / uid).mkdir(exist_ok=True)
        data.save_as(folder / uid / f"{sop}.dcm", enforce_file_format=True)
        counts[uid] = counts.get(uid, 0) + 1
    return counts


def _address(text: str, option: str) -> Destination:
    from medrestore.node import Destination

    if text.startswith(("http://", "https://")):
        return Destination(url=text)
    if found := _NODE.fullmatch(text):
        return Destination(found["host"], int(found["port"]), found["title"])
    raise ConfigError(f"{option} is {text!r}; expected the url of a DICOMweb service, or AE@HOST:PORT")
