"""`medrestore bids`: `medrestore batch` on a BIDS data set, called as BIDS Apps are."""

from __future__ import annotations

import inspect
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from medrestore.cli.batch import batch

_LABELS = ("--participant-label", "--session-label")
_PANEL = "BIDS"


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
    """Return an option as it is spelt here: BIDS Apps have underscores in those of labels."""
    name, equals, value = word.partition("=")
    plain = name.replace("_", "-")
    return f"{plain}{equals}{value}" if plain in _LABELS else word


def bids(
    bids_dir: Annotated[Path, typer.Argument(metavar="BIDS_DIR", help="The data set.")],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder of the derivatives.")],
    level: Annotated[Level, typer.Argument(metavar="participant", help="One after another.")],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL...", help="These alone, with or without sub-.", rich_help_panel=_PANEL),
    ] = None,
    session_label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL...", help="These alone, with or without ses-.", rich_help_panel=_PANEL),
    ] = None,
    bids_filter: Annotated[
        list[str] | None,
        typer.Option(metavar="ENTITY=VALUE", help="Such as acq=mprage; repeatable.", rich_help_panel=_PANEL),
    ] = None,
    **options: Any,
) -> None:
    """Restore the anatomical images of a BIDS data set; all options of `batch` are taken.

    Exit status: 0 all done, 3 some failed, 2 nothing could start.
    """
    from medrestore.batch.bids.find import check_dataset

    check_dataset(bids_dir)
    labels = [
        f"{key}={label}"
        for key, given in (("sub", participant_label), ("ses", session_label))
        for label in given or ()
    ]
    batch(scans=bids_dir, out=out_dir, bids_filter=[*(bids_filter or ()), *labels], **options)


def _with_options_of_batch() -> inspect.Signature:
    """Return the signature of `bids` with the options of `batch` for `options`, which typer cannot read."""
    own = inspect.signature(bids, eval_str=True)
    mine = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    theirs = inspect.signature(batch, eval_str=True).parameters.values()
    names = {"scans", "out", *(one.name for one in mine)}
    return own.replace(parameters=[*mine, *(one for one in theirs if one.name not in names)])


setattr(bids, "__signature__", _with_options_of_batch())  # noqa: B010  functions have it, their type does not
