"""The command line. Each subcommand is a module here that imports what is heavy when it runs."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Annotated

import typer

from medrestore import __version__
from medrestore.cli.archive import pull, push
from medrestore.cli.batch import batch
from medrestore.cli.bids import BidsCommand, bids
from medrestore.cli.calibrate import calibrate
from medrestore.cli.generate import generate
from medrestore.cli.metrics import metrics
from medrestore.cli.models import models
from medrestore.cli.node import node
from medrestore.cli.noise import noise
from medrestore.cli.output import prepare_streams
from medrestore.cli.plugins import plugin, plugins
from medrestore.cli.restore import restore
from medrestore.cli.scan import scan
from medrestore.cli.train import train
from medrestore.cli.verbs import VerbGroup
from medrestore.cli.verify import verify
from medrestore.errors import DomainError, MedrestoreError, TrainingError, is_out_of_memory

REPORT = (
    f"medrestore {__version__}: this is a bug. Please report it with the lines above, once you have looked "
    "through them for names of files and people."
)
"""What is said below a traceback."""

OUT_OF_MEMORY = (
    "medrestore: memory did not suffice; expected more of it, a smaller scan, or a smaller --tile or "
    "--max-memory where the command has them"
)

STATUS = {TrainingError: 1, DomainError: 5}
"""Exit status of errors that a message tells; of all others it is 2."""

app = typer.Typer(
    name="medrestore",
    cls=VerbGroup,
    help="Restore 3-D medical scans with diffusion models. For research; not for diagnosis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(restore)
app.command()(batch)
app.command(cls=BidsCommand)(bids)
app.command()(generate)
app.command()(scan)
app.command()(noise)
app.command()(metrics)
app.command()(train)
app.command()(verify)
app.command()(calibrate)
app.command()(node)
app.command()(push)
app.command()(pull)
app.command()(models)
app.command()(plugins)
app.add_typer(plugin)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medrestore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a subcommand."""


def main() -> None:
    """Run the command line.

    What a user can mend is a message and exit status 2; for a scan that the model was not made for that is 5,
    for a training that diverged 1; anything else is a traceback, and a request to report it, with status 1.
    """
    prepare_streams()
    try:
        app()
    except MedrestoreError as error:
        typer.echo(f"medrestore: {error}", err=True)
        sys.exit(next((status for kind, status in STATUS.items() if isinstance(error, kind)), 2))
    except Exception as error:  # noqa: BLE001  whatever it is, it is a bug here, and not the user's
        if is_out_of_memory(error):
            typer.echo(OUT_OF_MEMORY, err=True)
            sys.exit(2)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # files say so by errors of their own
            typer.echo(f"medrestore: the output cannot be written ({error.strerror})", err=True)
            sys.exit(2)
        traceback.print_exc()
        typer.echo(REPORT, err=True)
        sys.exit(1)
