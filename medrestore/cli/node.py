"""`medrestore node`: restores what other DICOM nodes send."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from medrestore.cli.options import takes
from medrestore.errors import ConfigError, OutputError
from medrestore.options import NodeOptions


@takes("options", NodeOptions)
def node(
    route: Annotated[Path, typer.Option(metavar="ROUTES.toml", help="Who may send, and what is done.")],
    options: NodeOptions,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")] = False,
) -> None:
    """Listen for DICOM series, restore each by its route, and store the result at a destination.

    Runs until it is told to stop (Ctrl-C, SIGTERM). What it had taken in is taken up again at the next start.
    """
    require_extra()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    # pydicom quotes the values that it warns of.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    logging.getLogger("medrestore").setLevel(logging.DEBUG if verbose else logging.INFO)
    from medrestore.node import Node, check_routes

    warnings.filterwarnings("ignore", module="pydicom")  # they quote values of headers
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # No exception, which could come anywhere, a second one in the midst of an orderly stop.
        signal.signal(number, lambda *_: asked.set())
    with Node(options, check_routes(route)) as running:
        typer.echo(f"{options.ae_title} listens on {options.host} port {running.port}")
        while running.is_alive and not asked.wait(1.0):
            pass
    for number in (signal.SIGINT, signal.SIGTERM):
        # While Python ends it takes its handlers away, and one more signal would make a failure of the stop.
        signal.signal(number, signal.SIG_IGN)
    if not asked.is_set():
        raise OutputError(f"{options.spool}: the worker of the node ended; see the message above")
    typer.echo("stopped")


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
