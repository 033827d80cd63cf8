"""The plugins of this process, and the formats that they declare, held to what `Format` says."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from medrestore.errors import InputError, MedrestoreError, PluginError
from medrestore.io.formats import Format, Formats, ScanHeader, StoredVoxels
from medrestore.plugin.declarations import FormatSpec
from medrestore.plugin.manager import VARIABLE, PluginManager
from medrestore.volume import Volume

_ADVICE = (
    "the scan is not the cause: tell the authors of the plugin, and leave it out meanwhile by naming the "
    f"others in {VARIABLE}"
)


@cache
def plugins() -> PluginManager:
    """Return the plugin host of this process: entry points do not change while it runs."""
    return PluginManager()


def installed_formats() -> Formats:
    """Return the formats of every plugin that works, the built-in ones first.

    One that cannot be loaded is named where no other reads or writes what is asked for.
    """
    return formats_of(plugins())


@cache
def formats_of(manager: PluginManager) -> Formats:
    """Return the formats that the plugins of a host declare."""
    loaded: dict[str, Format] = {}
    owners: dict[str, str] = {}
    broken: list[PluginError] = []
    for full_name, spec in manager.declared(FormatSpec).items():
        plugin = full_name.partition("/")[0]
        origin = f"plugin {plugin!r}, format {spec.name!r}"
        try:
            if spec.name in owners:
                raise PluginError(
                    f"{origin}: the plugin {owners[spec.name]!r} has a format of that name too; leave one of "
                    f"them out by naming the others in {VARIABLE}"
                )
            owners[spec.name] = plugin
            loaded[spec.name] = _load(spec, origin)
        except PluginError as error:
            broken.append(error)
    return Formats(loaded.values(), broken)


def _load(spec: FormatSpec, origin: str) -> Format:
    """Return a format each of whose functions names it where it breaks the contract.

    Raises:
        PluginError: It cannot be loaded, or is another than was declared.
    """
    try:
        found = spec.load()
    except (Exception, SystemExit) as error:
        why = str(error) if isinstance(error, MedrestoreError) else f"{type(error).__name__}: {error}"
        raise PluginError(
            f"{origin}: cannot be loaded ({why}{_where(error, spec.load)}); {_ADVICE}"
        ) from error
    if not isinstance(found, Format) or found.name != spec.name:
        raise PluginError(f"{origin}: load returned {found!r:.80}; expected a Format of that name")
    optional: dict[str, Any] = {
        name: _contained(origin, name, do, check)
        for name, check in (("recognises", _is_anything), ("write", _is_stored), ("files", _is_anything))
        if (do := getattr(found, name)) is not None
    }
    return replace(
        found,
        title=spec.title,
        header=_contained(origin, "header", found.header, _is_header),
        read=_contained(origin, "read", found.read, _are_volumes),
        **optional,
    )


def _contained(
    origin: str, name: str, do: Callable[..., Any], check: Callable[[Any, Any], str]
) -> Callable[..., Any]:
    """Return a function of a format whose failures are those of the plugin, by name, and not of the scan.

    What a plugin says of a scan passes, as does want of memory; what the system refuses is said of the file.
    The words of other errors stay behind: they may quote a header.
    """

    def run(*given: Any) -> Any:
        try:
            made = do(*given)
        except Exception as error:
            if isinstance(error, MedrestoreError | MemoryError):
                raise
            if isinstance(error, OSError) and error.errno is not None:
                if name == "write":  # what writes it to its place says so
                    raise
                path = getattr(given[0], "path", given[0])
                raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
            raise PluginError(
                f"{origin}: {name} raised {type(error).__name__}{_where(error, do)}; {_ADVICE}"
            ) from error
        if problem := check(given[0], made):
            raise PluginError(f"{origin}: {name} returned {problem}; {_ADVICE}")
        return made

    return run


def _where(error: BaseException, do: Callable[..., Any]) -> str:
    """Return the line of the plugin that failed, else that of the library that it called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    home = getattr(getattr(do, "__code__", None), "co_filename", "")
    own = [frame for frame in frames if frame.filename == home] or frames
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def _is_anything(_: object, __: object) -> str:
    return ""


def _is_header(_: Path, made: object) -> str:
    return "" if isinstance(made, ScanHeader) else f"{type(made).__name__}, expected a ScanHeader"


def _are_volumes(header: ScanHeader, made: Any) -> str:
    if not isinstance(made, tuple | list) or not all(isinstance(one, Volume) for one in made):
        return f"{type(made).__name__}, expected a tuple of Volume"
    if len(made) != header.volumes:
        return f"{len(made)} volumes, expected the {header.volumes} of its header"
    if not all(one.geometry.allclose(header.geometry) for one in made):
        return "volumes on another grid than that of its header"
    return ""


def _is_stored(_: object, made: object) -> str:
    return "" if isinstance(made, StoredVoxels) else f"{type(made).__name__}, expected StoredVoxels"
