"""From the name of what a plugin declares to the declaration, and to what it is called in a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from medrestore.errors import ConfigError, MedrestoreError, PluginError
from medrestore.plugin.containment import NamedError, contained
from medrestore.plugin.host import plugins
from medrestore.plugin.names import meant
from medrestore.plugin.spec import Declaration

S = TypeVar("S", bound=Declaration)


@dataclass(frozen=True)
class Extension(Generic[S]):
    """A declaration and where it is from.

    Attributes:
        name: ``plugin/name``.
        spec: The declaration.
    """

    name: str
    spec: S

    @property
    def origin(self) -> str:
        """What to call it, and its plugin, in a message."""
        return f"{plugins().origin(self.name.partition('/')[0])}, {self.spec.noun} {self.name!r}"

    @property
    def _advice(self) -> str:
        return f"the scan is not the cause: do without this {self.spec.noun}, and tell its authors"

    @contextmanager
    def running(self, action: str, expected: str) -> Iterator[None]:
        """Run what is the plugin's; see `contained`."""
        with contained(self.origin, action, expected, self._advice):
            yield

    def broken(self, problem: str) -> PluginError:
        """Return an error that names it; the problem ends with what was expected."""
        return NamedError(f"{self.origin}: {problem}; {self._advice}")


def extensions(kind: type[S]) -> list[Extension[S]]:
    """Return all that the working plugins declare of a kind."""
    return [Extension(name, spec) for name, spec in plugins().declared(kind).items()]


def named(kind: type[S], name: str) -> Extension[S] | None:
    """Return what a full name, or a bare one, means; None where that is nothing.

    Raises:
        ConfigError: Several plugins have it.
    """
    declared = plugins().declared(kind)
    matches = meant(name, declared)
    if len(matches) > 1:
        raise ConfigError(f"the {kind.noun} {name!r} is ambiguous: {', '.join(matches)}; pass one of these")
    return Extension(matches[0], declared[matches[0]]) if matches else None


def find(
    kind: type[S], name: str, *, builtin: Iterable[str] = (), error: type[MedrestoreError] = ConfigError
) -> Extension[S]:
    """Look up what is declared under a full name.

    Args:
        kind: What is looked for.
        name: ``plugin/name``.
        builtin: Names, without a plugin, that could have been given.
        error: What to raise.

    Raises:
        ConfigError: Or another `error`: there is nothing of that kind under the name.
    """
    declared = plugins().declared(kind)
    if name in declared:
        return Extension(name, declared[name])
    reason = plugins().whereabouts(name.partition("/")[0])
    known = [*builtin, *declared]
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    if reason is None and near:
        reason = f"did you mean {', '.join(near)}?"
    if reason is None:
        reason = f"known: {', '.join(known)}" if known else "no plugin declares one"
    raise error(f"no {kind.noun} is named {name!r}; {reason}; see `medrestore plugins`")
