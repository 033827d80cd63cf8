"""What a node does with whom: options, and the routes of a TOML file, read strictly."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_origin, get_type_hints

from medrestore.errors import ConfigError
from medrestore.node.web import check_url
from medrestore.options import NodeOptions, ReadPolicy, RestoreOptions
from medrestore.options.node import check_ae_title
from medrestore.toml import read_toml
from medrestore.types import Modality

__all__ = ["Destination", "NodeOptions", "Peer", "Route", "Routes", "load_routes"]


_Table = TypeVar("_Table")
_MODALITIES = tuple(one.value for one in Modality if one is not Modality.UNKNOWN)


@dataclass(frozen=True)
class Peer:
    """Who may send: a calling AE title, and the address or network that it calls from."""

    ae_title: str
    address: str

    def __post_init__(self) -> None:
        """Check both."""
        check_ae_title(self.ae_title)
        try:
            ipaddress.ip_network(self.address)
        except ValueError as error:
            raise ConfigError(f"peer {self.ae_title}: address {self.address!r} ({error})") from error

    def is_caller(self, ae_title: str, address: str) -> bool:
        """Whether a caller is this peer."""
        try:
            caller = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped is not None:
            caller = caller.ipv4_mapped
        return ae_title == self.ae_title and caller in ipaddress.ip_network(self.address)


@dataclass(frozen=True)
class Destination:
    """Where results go: a DICOM node (`host`, `port`, `ae_title`) by C-STORE, or a DICOMweb `url` by STOW.

    Attributes:
        host: Name or address.
        port: Port.
        ae_title: AE title that is called.
        url: Root of a DICOMweb service, instead of the three above.
        tls: Whether C-STORE goes over TLS, with the certificate of the node.
    """

    host: str = ""
    port: int = 0
    ae_title: str = ""
    url: str = ""
    tls: bool = False

    def __post_init__(self) -> None:
        """Check that it is one of the two."""
        if self.url:
            if self.host or self.port or self.ae_title or self.tls:
                raise ConfigError("a destination with a url has no host, port, ae_title or tls")
            check_url(self.url)
            return
        check_ae_title(self.ae_title)
        if not self.host or not 0 < self.port < 1 << 16:
            raise ConfigError(
                f"destination {self.ae_title}: host {self.host!r}, port {self.port}; expected both, or a url"
            )


@dataclass(frozen=True)
class Route:
    """Which series are restored, how, and where the result goes.

    Attributes:
        destination: Name of a destination.
        modality: Modality of the series, one that results can be written for: MR or CT.
        description: Pattern (``*`` and ``?``, capitals matter not) for the series description.
        model: Name of a model; None for the model that fits.
        options: Further fields of `RestoreOptions`.
        reading: Fields of `ReadPolicy`: what is done with series that are no regular grid.
    """

    destination: str
    modality: str
    description: str = "*"
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the options now, and not when the first series is there."""
        if self.modality not in _MODALITIES:
            raise ConfigError(
                f"route to {self.destination}: modality {self.modality!r}, "
                f"expected {' or '.join(_MODALITIES)}, as in headers; give each a route of its own"
            )
        self.restore_options()
        unknown = set(self.reading) - {item.name for item in fields(ReadPolicy)}
        if unknown:
            raise ConfigError(
                f"route to {self.destination}: unknown option of reading {', '.join(sorted(unknown))}"
            )
        ReadPolicy(**self.reading)

    def fits(self, modality: str, description: str) -> bool:
        """Whether a series takes this route."""
        pattern = self.description.lower().replace("[", "[[]")  # of fnmatch's, * and ? alone mean something
        return modality == self.modality and fnmatchcase(description.lower(), pattern)

    def restore_options(self) -> RestoreOptions:
        """Return how to restore.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        unknown = set(self.options) - ({item.name for item in fields(RestoreOptions)} - {"model"})
        if unknown:
            raise ConfigError(f"route to {self.destination}: unknown option {', '.join(sorted(unknown))}")
        return RestoreOptions(model=self.model, **self.options)


@dataclass(frozen=True)
class Routes:
    """A routes file: who may send, what is done, where it goes."""

    peers: tuple[Peer, ...]
    destinations: Mapping[str, Destination]
    routes: tuple[Route, ...]

    def __post_init__(self) -> None:
        """Check that there is somebody to hear, and that every route leads somewhere."""
        if not self.peers:
            raise ConfigError(
                "no [[peer]]: a node takes images only from AE titles and addresses that are named"
            )
        for route in self.routes:
            if route.destination not in self.destinations:
                raise ConfigError(
                    f"route to {route.destination!r}: no [destination.{route.destination}]; there are "
                    f"{', '.join(self.destinations) or 'none'}"
                )

    def find(self, modality: str, description: str) -> Route | None:
        """Return the first route that a series takes."""
        return next((route for route in self.routes if route.fits(modality, description)), None)


def load_routes(path: Path) -> Routes:
    """Read a routes file.

    Raises:
        ConfigError: It is missing, no TOML, or has an unknown or a missing key.
    """
    try:
        data = read_toml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML ({error})") from error
    if unknown := set(data) - {"peer", "destination", "route"}:
        raise ConfigError(f"{path}: unknown table {', '.join(sorted(unknown))}; peer, destination, route are")
    destinations = data.get("destination", {})
    if not isinstance(destinations, dict):
        raise ConfigError(f"{path}: destination has no name, expected a table [destination.NAME] for each")
    return Routes(
        _tables(Peer, data.get("peer", []), f"{path}: [[peer]]"),
        {
            name: _table(Destination, item, f"{path}: [destination.{name}]")
            for name, item in destinations.items()
        },
        _tables(Route, data.get("route", []), f"{path}: [[route]]"),
    )


def _tables(kind: type[_Table], data: Any, where: str) -> tuple[_Table, ...]:
    if not isinstance(data, list):
        raise ConfigError(f"{where}: expected tables, one for each, found {type(data).__name__}")
    return tuple(_table(kind, item, where) for item in data)


def _table(kind: type[_Table], data: Any, where: str) -> _Table:
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(data, dict) or (unknown := set(data) - names):
        raise ConfigError(
            f"{where}: {sorted(unknown) if isinstance(data, dict) else data!r} unknown; "
            f"known: {', '.join(sorted(names))}"
        )
    hints = get_type_hints(kind)
    for name, value in data.items():
        if not _is_a(value, hints[name]):
            expected = getattr(hints[name], "__name__", hints[name])
            raise ConfigError(f"{where}: {name} is of type {type(value).__name__}, expected {expected}")
    try:
        return kind(**data)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _is_a(value: object, hint: Any) -> bool:
    """Whether a value of a TOML file is of the type of a field; true is no number."""
    kind = hint if isinstance(hint, UnionType) else get_origin(hint) or hint
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
