"""Which images of a BIDS data set are wanted: filters, labels, and the filter files of BIDS Apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrestore.batch.bids.names import RESTORED, BidsName, entity_key
from medrestore.errors import ConfigError, InputError
from medrestore.paths import read_json

Query = Mapping[str, frozenset[str]]
"""Labels by the short names of entities, any of which an image has; the empty label is that of none."""

_ANY = "*"
_OTHERS = frozenset({"fmap", "roi"})
"""What filter files of other BIDS Apps speak of beside, and is not restored."""


@dataclass(frozen=True)
class Wanted:
    """Which images of a data set are cases.

    Attributes:
        values: What every image has to match; an entity that is absent may be anything.
        queries: Of a filter file: an image that any of them speaks of, by suffix and kind of data, has to
            match one of those.
    """

    values: Query = field(default_factory=dict)
    queries: tuple[Query, ...] = ()

    @classmethod
    def parse(
        cls,
        filters: Sequence[str] = (),
        participants: Sequence[str] = (),
        sessions: Sequence[str] = (),
        file: Path | None = None,
    ) -> Wanted:
        """Read ``ENTITY=VALUE``, labels with or without ``sub-`` and ``ses-``, and a filter file.

        Raises:
            ConfigError: A filter is not of that form, or BIDS has no such entity.
            InputError: The file cannot be read.
        """
        values: dict[str, set[str]] = {}
        for text in filters:
            name, equals, value = text.partition("=")
            if not (equals and value):
                raise ConfigError(f"a filter is {text!r}; expected ENTITY=VALUE, such as acq=mprage")
            key = entity_key(name)
            values.setdefault(key, set()).add(value.removeprefix(f"{key}-"))
        for key, labels in (("sub", participants), ("ses", sessions)):
            if labels:
                values.setdefault(key, set()).update(label.removeprefix(f"{key}-") for label in labels)
        queries = () if file is None else _queries(file)
        return cls({key: frozenset(labels) for key, labels in values.items()}, queries)

    def take(self, name: BidsName) -> bool:
        """Whether an image with this name is wanted."""
        speaking = [query for query in self.queries if _matches(name, _only(query, ("suffix", "datatype")))]
        one = not speaking or any(_matches(name, query) for query in speaking)
        return one and _matches(name, self.values)

    def may_lie_in(self, folder: str) -> bool:
        """Whether a folder of a subject, a session or a kind of data may hold images that are wanted."""
        parts = [part.partition("-") for part in folder.split("/")]
        entities = {key: label for key, dash, label in parts if dash}
        kind = "" if parts[-1][1] else parts[-1][0]
        known = [*entities, *(["datatype"] if kind else [])]
        return _matches(BidsName(entities, "", kind), _only(self.values, known))


def _matches(name: BidsName, query: Query) -> bool:
    return all(any(name.matches(key, one) for one in labels) for key, labels in query.items())


def _only(query: Query, keys: Sequence[str]) -> Query:
    return {key: labels for key, labels in query.items() if key in keys}


def _queries(file: Path) -> tuple[Query, ...]:
    """Read a filter file: a JSON object of queries by name, each an object of labels by entity."""
    try:
        stated = read_json(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no JSON object"
        raise InputError(f"{file}: the filter file cannot be read ({why})") from error
    return tuple(_query(file, name, given) for name, given in stated.items() if name not in _OTHERS)


def _query(file: Path, name: str, given: Any) -> Query:
    """Return the query of a name; one that states neither suffix nor kind of data is of that suffix."""
    if not isinstance(given, dict):
        raise ConfigError(f"{file}: {name[:80]!r} is no object; expected labels by entity")
    query = {entity_key(key): _labels(file, key, value) for key, value in given.items()}
    if not query.keys() & {"suffix", "datatype"}:
        suffixes = {one for images in RESTORED.values() for one in images}
        of_name = [one for one in suffixes if one.casefold() == name.casefold()]
        if not of_name:
            raise ConfigError(
                f"{file}: {name[:80]!r} is no suffix of an image that is restored, and states neither suffix "
                f"nor datatype; expected one of {', '.join(sorted(suffixes))}"
            )
        query["suffix"] = frozenset(of_name)
    return query


def _labels(file: Path, key: str, value: Any) -> frozenset[str]:
    """Return the labels of an entity: one, several, ``null`` for none, ``*`` for any."""
    given = value if isinstance(value, list) else [value]
    if not given or any(isinstance(one, bool) or not isinstance(one, str | int | None) for one in given):
        raise ConfigError(f"{file}: {key[:80]!r} has {str(value)[:80]!r}; expected a label, several, or null")
    return frozenset("" if one is None else str(one) for one in given)
