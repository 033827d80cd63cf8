"""Formats of plugins, held to what `Format` says."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrestore.errors import InputError, MedrestoreError, PluginError
from medrestore.geometry import Geometry
from medrestore.io.formats import Format, ScanHeader, StoredVoxels
from medrestore.plugin.declarations import FormatSpec
from medrestore.plugin.installed import BUILTIN
from medrestore.plugin.loading import stdout_on_stderr
from medrestore.plugin.manager import VARIABLE
from medrestore.plugin.process_state import process_state_kept
from medrestore.volume import Volume

_ADVICE = (
    "the scan is not the cause: tell the authors of the plugin, and leave it out meanwhile by naming the "
    f"others in {VARIABLE}"
)


def load_format(plugin: str, spec: FormatSpec) -> Format:
    """Return a format each of whose functions names it where it breaks the contract.

    Raises:
        PluginError: It cannot be loaded, or is another than was declared.
    """
    holder = _Holder(f"plugin {plugin!r}, format {spec.name!r}", plugin == BUILTIN)
    found = holder.loaded(spec)
    held = {
        name: holder.held(name, do, check)
        for name, check in _CHECKS.items()
        if (do := getattr(found, name)) is not None
    }
    changes: dict[str, Any] = {"title": spec.title, **held}
    return replace(found, **changes)


@dataclass(frozen=True)
class _Holder:
    """Runs what is a format's.

    Attributes:
        origin: What to call it, and its plugin, in a message.
        ours: Whether it is one of medrestore's own, which change nothing of the process: it is asked about
            every file of a folder, and to look after it costs more than many an answer.
    """

    origin: str
    ours: bool

    def loaded(self, spec: FormatSpec) -> Format:
        """Load it; see `load_format`."""
        try:
            with self._contained():
                found: object = spec.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            why = str(error) if isinstance(error, MedrestoreError) else f"{type(error).__name__}: {error}"
            raise PluginError(
                f"{self.origin}: cannot be loaded ({why}{_where(error, spec.load)}); {_ADVICE}"
            ) from error
        if not isinstance(found, Format) or found.name != spec.name:
            raise PluginError(f"{self.origin}: load returned {found!r:.80}; expected a Format of that name")
        return found

    def held(self, name: str, do: Callable[..., Any], check: Callable[[Any, Any], str]) -> Callable[..., Any]:
        """Return a function of it whose failures are those of the plugin, by name, and not of the scan.

        What a plugin says of a scan passes, as do want of memory and the user's interruption; what the system
        refuses is said of the file. The words of other errors stay behind: they may quote a header.
        """

        def run(*given: Any) -> Any:
            try:
                with self._contained():
                    made = do(*given)
            except BaseException as error:
                if isinstance(error, MedrestoreError | MemoryError | KeyboardInterrupt):
                    raise
                if isinstance(error, OSError) and error.errno is not None:
                    if name == "write":  # what writes it to its place says so
                        raise
                    path = getattr(given[0], "path", given[0])
                    raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
                raise PluginError(
                    f"{self.origin}: {name} raised {type(error).__name__}{_where(error, do)}; {_ADVICE}"
                ) from error
            if problem := check(given[0], made):
                raise PluginError(f"{self.origin}: {name} returned {problem}; {_ADVICE}")
            return made

        return run

    @contextmanager
    def _contained(self) -> Iterator[None]:
        if self.ours:
            yield
            return
        with process_state_kept(), stdout_on_stderr():
            yield


def _where(error: BaseException, do: Callable[..., Any]) -> str:
    """Return the line of the plugin that failed, else that of the library that it called."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    home = getattr(getattr(do, "__code__", None), "co_filename", "")
    own = [frame for frame in frames if frame.filename == home] or frames
    return f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def _is_anything(_: object, __: object) -> str:
    return ""


def _is_header(_: Path, made: object) -> str:
    if not isinstance(made, ScanHeader):
        return f"{type(made).__name__}, expected a ScanHeader"
    if not isinstance(made.geometry, Geometry):
        return f"a header whose geometry is {type(made.geometry).__name__}, expected a Geometry"
    count: object = made.volumes
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return f"a header with {count!r:.80} volumes, expected a whole number, 1 or more"
    return ""


def _are_volumes(header: ScanHeader, made: Any) -> str:
    if not isinstance(made, tuple | list) or not all(isinstance(one, Volume) for one in made):
        return f"{type(made).__name__}, expected a tuple of Volume"
    if len(made) != header.volumes:
        return f"{len(made)} volumes, expected the {header.volumes} of its header"
    if not all(one.geometry.allclose(header.geometry) for one in made):
        return "volumes on another grid than that of its header"
    return ""


def _is_volume(header: ScanHeader, made: object) -> str:
    if not isinstance(made, Volume):
        return f"{type(made).__name__}, expected a Volume"
    if not made.geometry.allclose(header.geometry):
        return "a volume on another grid than that of its header"
    return ""


def _is_stored(_: object, made: object) -> str:
    return "" if isinstance(made, StoredVoxels) else f"{type(made).__name__}, expected StoredVoxels"


def _are_paths(_: Path, made: object) -> str:
    fine = isinstance(made, Sequence) and bool(made) and all(isinstance(one, Path) for one in made)
    return "" if fine else f"{made!r:.80}, expected a tuple of pathlib.Path, the header first"


_CHECKS: dict[str, Callable[[Any, Any], str]] = {
    "header": _is_header,
    "read": _are_volumes,
    "first": _is_volume,
    "recognises": _is_anything,
    "write": _is_stored,
    "files": _are_paths,
}
"""What is wrong with what each function of a format made of its first argument; empty where nothing is."""
