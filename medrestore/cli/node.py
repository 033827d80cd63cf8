"""`medrestore node`: restores what other DICOM nodes send."""

from __future__ import annotations

import logging
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medrestore.errors import ConfigError, OutputError

_GIB = 1 << 30


def node(
    route: Annotated[Path, typer.Option(metavar="ROUTES.toml", help="Who may send, and what is done.")],
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 11112,
    ae_title: Annotated[str, typer.Option(help="Own AE title.")] = "MEDRESTORE",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    spool: Annotated[Path, typer.Option(metavar="DIR", help="Files and ledger.")] = Path("spool"),
    quota: Annotated[float, typer.Option(metavar="GIB", help="Largest size of the spool.")] = 20.0,
    rest: Annotated[float, typer.Option(metavar="S", help="Quiet after which a series is complete.")] = 10.0,
    patience: Annotated[
        float, typer.Option(metavar="S", help="The same, where the transfer was cut off.")
    ] = 900.0,
    time_limit: Annotated[
        float, typer.Option(metavar="S", help="Longest time that restoring a series may take.")
    ] = 3600.0,
    tls: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option(metavar="CERT KEY CA", help="Use TLS; callers need a certificate of CA."),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
) -> None:
    """Listen for DICOM series, restore each by its route, and store the result at a destination.

    Runs until it is told to stop (Ctrl-C, SIGTERM). What it had taken in is taken up again at the next start.
    """
    require_extra()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("medrestore").setLevel(logging.DEBUG if verbose else logging.INFO)
    from medrestore.node import Node, NodeOptions, load_routes

    options = NodeOptions(
        ae_title=ae_title,
        port=port,
        host=host,
        spool=spool,
        quota=int(quota * _GIB),
        rest=rest,
        patience=patience,
        time_limit=time_limit,
        tls=tls,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with Node(options, load_routes(route)) as running:
            typer.echo(f"{ae_title} listens on {host} port {running.port}")
            while running.is_alive:
                running.wait(1.0)
        raise OutputError(f"{spool}: the worker of the node ended; see the message above")
    except KeyboardInterrupt:
        typer.echo("stopped")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def require_extra() -> None:
    """Check that what is needed to talk to others is installed.

    Raises:
        ConfigError: It is not.
    """
    missing = [name for name in ("pynetdicom", "dicomweb_client") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not installed; install the extra: pip install 'medrestore[node]'"
        )
