"""`medrestore push` and `medrestore pull`: series to and from an archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.node import require_extra
from medrestore.cli.options import Quiet, takes
from medrestore.errors import ConfigError, InputError, OutputError
from medrestore.options.declare import REQUIRED, OptionInfo, option
from medrestore.options.node import check_ae_title, check_port

if TYPE_CHECKING:
    from medrestore.node import Destination
    from medrestore.node.instance import Query

_NODE = re.compile(
    r"(?P<title>[^@\\]{1,16})@(?:\[(?P<address>[^@\]]+)\]|(?P<host>[^@\[\]]+)):(?P<port>[0-9]{1,5})"
)


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="DICOM files.")],
    to: Annotated[str, typer.Option(metavar="URL|AE@HOST:PORT", help="DICOMweb service, or DICOM node.")],
    ae_title: Annotated[str, typer.Option(help="Own AE title.")] = "MEDRESTORE",
    quiet: Quiet = False,
) -> None:
    """Send every DICOM file of a folder to an archive, by DICOMweb (STOW) or by C-STORE."""
    check_ae_title(ae_title)
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


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """The study or series that is fetched, and how it is fetched.

    Attributes:
        source: DICOMweb service, or DICOM node.
        study: Study instance UID.
        series: Series instance UID; None for all of the study.
        ae_title: Own AE title.
        move_port: Port of ours that a DICOM node sends to (C-MOVE); None for C-GET.
    """

    source: str = option(
        REQUIRED, OptionInfo("DICOMweb service, or DICOM node.", metavar="URL|AE@HOST:PORT", flag="--from")
    )
    study: str = option(REQUIRED, OptionInfo("Study instance UID.", metavar="UID"))
    series: str | None = option(
        None, OptionInfo("Series instance UID; all of the study by default.", metavar="UID")
    )
    ae_title: str = option("MEDRESTORE", OptionInfo("Own AE title."))
    move_port: int | None = option(
        None,
        OptionInfo(
            "Have a DICOM node send to this port of ours (C-MOVE), which it knows by our AE title; C-GET by "
            "default.",
            metavar="PORT",
        ),
    )

    def __post_init__(self) -> None:
        """Check what DICOM and sockets bound."""
        check_ae_title(self.ae_title)
        if self.move_port is not None:
            check_port(self.move_port)


@takes("wanted", PullRequest)
def pull(
    wanted: PullRequest,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to make.")],
    quiet: Quiet = False,
) -> None:
    """Fetch a study, or one series of it, by DICOMweb (WADO), C-GET or C-MOVE; a folder for each series."""
    require_extra()
    from medrestore.io import atomic_folder
    from medrestore.node.instance import Query
    from medrestore.node.retrieve import retrieve

    peer = _address(wanted.source, "--from")
    if peer.url and wanted.move_port is not None:
        raise ConfigError("--move-port is for a DICOM node, AE@HOST:PORT; --from is a DICOMweb service")
    query = Query(wanted.study, wanted.series)
    with atomic_folder(out) as folder:
        if peer.url:
            counts = _download(peer.url, query, folder)
        else:
            counts = retrieve(peer, query, folder, wanted.ae_title, wanted.move_port)
        if not counts:
            raise InputError(f"{wanted.source}: no image of study {wanted.study}")
    if not quiet:
        for uid, count in counts.items():
            typer.echo(f"{out / uid}: {count} images")


def _download(url: str, query: Query, folder: Path) -> dict[str, int]:
    from medrestore.node.instance import SeriesFolders
    from medrestore.node.wado import fetch

    kept = SeriesFolders(folder)
    for image in fetch(url, query):
        if not kept.keep(image):
            raise InputError(f"{url}: two different images of the study have one UID; nothing is kept")
    return kept.counts


def _address(text: str, option: str) -> Destination:
    from medrestore.node import Destination

    if text.startswith(("http://", "https://")):
        return Destination(url=text)
    if found := _NODE.fullmatch(text):
        return Destination(found["address"] or found["host"], int(found["port"]), found["title"])
    raise ConfigError(f"{option} is {text!r}; expected the url of a DICOMweb service, or AE@HOST:PORT")
