"""`medrestore bids`: `medrestore batch` on a BIDS data set, called as BIDS Apps are."""

from __future__ import annotations

import inspect
import os
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from medrestore.cli.batch import batch
from medrestore.cli.options import takes
from medrestore.errors import OutputError
from medrestore.options.declare import OptionInfo, option

_LABELS = ("--participant-label", "--session-label")
_SPELT = {
    **{label: label for label in _LABELS},
    **{name: name for name in ("--bids-filter-file", "--skip-bids-validation", "--work-dir")},
    "--n-cpus": "--threads",
    "--mem": "--max-memory",
}
"""Options as BIDS Apps spell them, with hyphens or underscores, and as they are spelt here."""


def _info(text: str, metavar: str | None = None, *short: str) -> OptionInfo:
    return OptionInfo(text, "BIDS", metavar, short=short)


class Level(StrEnum):
    """What BIDS Apps are asked to do; there is nothing to be done with a group."""

    PARTICIPANT = "participant"


class BidsCommand(TyperCommand):
    """Takes several labels behind one option, as BIDS Apps do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the option before each of its labels, where they come after all that has no option."""
        level = args.index(Level.PARTICIPANT) + 1 if Level.PARTICIPANT in args else len(args)
        spread, option = args[:level], ""
        for word in args[level:]:
            word = _spelt(word)  # noqa: PLW2901
            if word.startswith("-"):
                option = word if word in _LABELS else ""
            elif option and spread[-1] != option:
                spread.append(option)
            spread.append(word)
        return super().parse_args(ctx, spread)


def _spelt(word: str) -> str:
    """Return an option as it is spelt here."""
    name, equals, value = word.partition("=")
    return f"{_SPELT.get(name.replace('_', '-'), name)}{equals}{value}"


@dataclass(frozen=True, kw_only=True)
class BidsRequest:
    """What is asked for in the way of BIDS Apps, beside the options of `batch`.

    Attributes:
        participant_label: These alone, with or without ``sub-``; one or more after the level. None for all.
        session_label: These alone, with or without ``ses-``. None for all.
        work_dir: Folder for temporary files and what is measured of the machine; made if it is missing.
        skip_bids_validation: Nothing: no validator is run in any case.
    """

    participant_label: list[str] | None = option(None, _info("With or without sub-.", "LABEL..."))
    session_label: list[str] | None = option(None, _info("With or without ses-.", "LABEL..."))
    work_dir: Path | None = option(None, _info("For temporary files.", "DIR", "-w"))
    skip_bids_validation: bool = option(False, _info("None is made anyway."))


@takes("request", BidsRequest)
def bids(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="The data set.")],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder of the derivatives.")],
    level: Annotated[Level, typer.Argument(metavar="participant", help="One after another.")],
    request: BidsRequest,
    **options: Any,
) -> None:
    """Restore the images of a BIDS data set; all options of `batch` are taken.

    `--n_cpus` and `--mem` are other names of `--threads` and `--max-memory`.
    Exit status: 0 all done, 3 some failed or could not be listed, 2 nothing could start.
    """
    from medrestore.batch.bids.find import check_dataset

    check_dataset(bids_dir)
    if request.work_dir is not None:
        _work_in(request.work_dir)
    labels = [
        f"{key}={label}"
        for key, given in (("sub", request.participant_label), ("ses", request.session_label))
        for label in given or ()
    ]
    filters = [*(options.pop("bids_filter") or ()), *labels]
    batch(scans=bids_dir, out=out_dir, bids_filter=filters, **options)


def _work_in(folder: Path) -> None:
    """Have temporary files, and what is measured of this machine, in a folder; workers inherit that.

    Raises:
        OutputError: It is not there, and cannot be made, or cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.environ |= {"TMPDIR": str(folder.resolve()), "XDG_CACHE_HOME": str(folder.resolve())}
    except OSError as error:
        raise OutputError(f"{folder}: cannot be worked in ({error.strerror or error})") from error


def _with_options_of_batch() -> inspect.Signature:
    """Return the signature of `bids` with the options of `batch` for `options`, which typer cannot read."""
    own = inspect.signature(bids, eval_str=True)
    mine = [one for one in own.parameters.values() if one.name != "options"]
    theirs = inspect.signature(batch, eval_str=True).parameters.values()
    return own.replace(parameters=[*mine, *(one for one in theirs if one.name not in {"scans", "out"})])


setattr(bids, "__signature__", _with_options_of_batch())  # noqa: B010  functions have it, their type does not
