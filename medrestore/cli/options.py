"""Options of every command that restores, made of what is declared in `medrestore.options`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from keyword import iskeyword
from typing import Annotated, Any, TypeAlias

import typer

from medrestore.options import (
    FileOptions,
    OutputRequest,
    ReadPolicy,
    ReadRequest,
    RestoreOptions,
    declared_options,
)
from medrestore.options.declare import REQUIRED, DeclaredOption

_KINDS = (RestoreOptions, FileOptions, OutputRequest, ReadPolicy, ReadRequest)
"""What the options of a restoration are declared in, in the order of the help."""

Quiet: TypeAlias = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_THREADS_OPTION = inspect.Parameter(
    "threads",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[int | None, typer.Option(min=1, help="Of the processor.")],
)

Declared: TypeAlias = Mapping[type, list[DeclaredOption]]


def takes_file_options(*, one_scan: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every declared option; it hears of them as its argument `options`, a `FileOptions`.

    Args:
        one_scan: Whether it restores one scan, and so has the options that make sense for one alone.
    """
    kinds: Declared = {
        kind: [one for one in declared_options(kind) if one_scan or one.info.shared] for kind in _KINDS
    }
    return _adding(kinds, "options", _file_options)


def takes(name: str, kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a dataclass; it hears of them as its argument `name`."""
    return _adding({kind: list(declared_options(kind))}, name, lambda values: kind(**values[kind]))


def takes_reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading DICOM; it hears of them as its argument `reading`."""
    kinds: Declared = {kind: list(declared_options(kind)) for kind in (ReadPolicy, ReadRequest)}
    return _adding(kinds, "reading", _read_request)(command)


def limits_threads(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that restores nothing the option `--threads`, of which it need not hear."""
    own = inspect.signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(threads: int | None = None, **values: Any) -> None:
        if threads is not None:  # before the libraries that compute are loaded, which is when they look
            os.environ |= {name: str(threads) for name in _THREADS}
        command(**values)

    kept = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    return _with_parameters(run, [*kept, _THREADS_OPTION])


def _adding(
    kinds: Declared,
    name: str,
    build: Callable[[Mapping[type, Mapping[str, Any]]], object],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces the argument `name` by options, and builds it of their values."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @wraps(command)
        def run(**values: Any) -> None:
            found = {
                kind: {one.name: values.pop(_parameter(one)) for one in options}
                for kind, options in kinds.items()
            }
            command(**values, **{name: build(found)})

        parameters = []
        for parameter in own.values():
            added = _parameters(kinds) if parameter.name == name else iter((parameter,))
            parameters += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in added]
        return _with_parameters(run, parameters)

    return decorate


def _with_parameters(
    command: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """Return a command whose parameters, as typer reads them, are these."""
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _read_request(values: Mapping[type, Mapping[str, Any]]) -> ReadRequest:
    return ReadRequest(ReadPolicy(**values[ReadPolicy]), **values[ReadRequest])


def _file_options(values: Mapping[type, Mapping[str, Any]]) -> FileOptions:
    return FileOptions(
        restore=RestoreOptions(**values[RestoreOptions]),
        reading=_read_request(values),
        output=OutputRequest(**values[OutputRequest]),
        **values[FileOptions],
    )


def _parameters(kinds: Declared) -> Iterator[inspect.Parameter]:
    for one in (one for options in kinds.values() for one in options):
        metavar = one.info.metavar or ("|".join(one.choices) or None)
        flag = one.info.flag or f"--{one.name.replace('_', '-')}"
        shown = typer.Option(
            *one.info.short,
            flag,
            help=one.info.help,
            metavar=metavar,
            rich_help_panel=one.info.panel or None,
            case_sensitive=False,
        )
        yield inspect.Parameter(
            _parameter(one),
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is REQUIRED else one.default,
            annotation=Annotated[one.kind, shown],
        )


def _parameter(one: DeclaredOption) -> str:
    """Return the name of an option among the parameters of a command: that which it is written by."""
    name = one.name if one.info.flag is None else one.info.flag.removeprefix("--").replace("-", "_")
    return f"{name}_" if iskeyword(name) else name
