"""`medrestore verify`: a model is put on trial."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import limits_threads, takes
from medrestore.options.declare import OptionInfo, option

if TYPE_CHECKING:
    from medrestore.testing import TrialOptions, Verification

FAILED = 1
"""Exit status where a check failed."""


_TRIAL, _REPORT = "Trial", "Report"


@dataclass(frozen=True, kw_only=True)
class VerifyRequest:
    """How a model is tried, and what is written of it.

    Attributes:
        scan: Scans to try it on beside computed ones, such as it was made for; None for none.
        fda: Folder of FDA's low-contrast phantom (DIDSR's LCD-CT), for a model that denoises CT.
        only: Names of checks to make; None for all.
        quick: Smaller computed scenes: less time, wider intervals.
        seed: Of anatomy, noise, lesions and intervals.
        device: Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        dtype: Type of the heavy arithmetic, ``"auto"`` as `restore` takes it.
        as_json: Print JSON, with every figure.
        html: Page to write, which needs no other file.
        markdown: Page to write; in one that is there, what is between the marks is replaced.
        overwrite: Replace a page of HTML that is there.
    """

    scan: list[Path] | None = option(
        None, OptionInfo("A scan to try it on too; again for more.", _TRIAL, "PATH")
    )
    fda: Path | None = option(None, OptionInfo("Folder of FDA's low-contrast phantom.", _TRIAL, "FOLDER"))
    only: list[str] | None = option(None, OptionInfo("A check to make; again for more.", _TRIAL, "CHECK"))
    quick: bool = option(False, OptionInfo("Smaller scenes: less time, wider intervals.", _TRIAL))
    seed: int = option(0, OptionInfo("Same seed, same figures.", _TRIAL))
    device: str = option("auto", OptionInfo("Where to compute.", _TRIAL, "auto|cpu|cuda|mps"))
    dtype: str = option("auto", OptionInfo("Heavy arithmetic.", _TRIAL, "auto|float32|bfloat16|float16"))
    as_json: bool = option(False, OptionInfo("Print JSON.", _REPORT, flag="--json"))
    html: Path | None = option(None, OptionInfo("Page to write.", _REPORT, "FILE.html"))
    markdown: Path | None = option(None, OptionInfo("Page to write, or a part of one.", _REPORT, "FILE.md"))
    overwrite: bool = option(False, OptionInfo("Replace a page of HTML that is there.", _REPORT))


@limits_threads
@takes("request", VerifyRequest)
def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="See `medrestore models`, or a folder.")],
    *,
    request: VerifyRequest,
) -> None:
    """Put a model through every check: conduct, fidelity, lesions, noise, low contrast, memory.

    It runs on computed scenes, and on scans that are given. Exit status: 0 all passed, 1 some failed.
    """
    from medrestore.plugin.loading import stdout_on_stderr
    from medrestore.testing import verify as try_model
    from medrestore.testing.pages import write_html, write_markdown

    _check_pages(request)
    options = _options(request)
    with stdout_on_stderr():  # what the model prints must not come between JSON
        found = try_model(model, options, lambda check: typer.echo(f"{check.name} ...", err=True))
    if request.html is not None:
        write_html(request.html, found, overwrite=request.overwrite)
    if request.markdown is not None:
        write_markdown(request.markdown, found)
    if request.as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.failed:
        raise typer.Exit(FAILED)


def _check_pages(request: VerifyRequest) -> None:
    """Refuse pages that cannot be written before minutes are spent on them."""
    from medrestore.io.atomic import check_target
    from medrestore.testing.pages import page_around

    if request.html is not None:
        check_target(request.html, request.overwrite)
    if request.markdown is not None:
        page_around(request.markdown)


def _options(request: VerifyRequest) -> TrialOptions:
    from medrestore.files import read
    from medrestore.testing import TrialOptions
    from medrestore.testing.trial import QUICK, SIDE

    return TrialOptions(
        scans=tuple(read(path) for path in request.scan or ()),
        fda=request.fda,
        only=tuple(request.only or ()),
        side=QUICK if request.quick else SIDE,
        seed=request.seed,
        device=request.device,
        dtype=request.dtype,
    )


def _print(found: Verification) -> None:
    from medrestore.cli.table import print_table
    from medrestore.testing.pages import conditions, counts, rows

    print_table(("check", "", "what decided"), rows(found))
    typer.echo(f"\n{counts(found)}\n{conditions(found)}")
