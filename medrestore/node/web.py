"""The client of a DICOMweb service, and where its credentials come from: never an address or a route file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medrestore.errors import ConfigError, reason_of

TOKEN_FILE = "MEDRESTORE_DICOMWEB_TOKEN_FILE"
"""Environment variable that names a file with a bearer token, for every service that is talked to."""

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def check_url(url: str) -> None:
    """Check the address of a DICOMweb service.

    Raises:
        ConfigError: It is no address, or holds a password, which would come to stand in logs.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  looked at here, and not at the first image
    except ValueError as error:  # it is not quoted: it may hold a password
        raise ConfigError(
            f"a url cannot be understood ({reason_of(error)}); expected that of a DICOMweb service"
        ) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{parts.scheme}://{parts.hostname}: expected the url of a DICOMweb service, http or https"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"the url of {parts.hostname} holds a user name; put it and the password in ~/.netrc, or "
            "in the file that NETRC names"
        )


def web_client(url: str, *hooks: Callable[..., None]) -> Any:
    """Return a client of `dicomweb_client`.

    User name and password are the pair that ``~/.netrc``, or the file that ``NETRC`` names, has for the host;
    certificates are checked against the authorities of the file that ``REQUESTS_CA_BUNDLE`` names, if it is
    set: both are what the library `requests` does.

    Args:
        url: Root of the service.
        hooks: Called with every answer, before the client looks at it.

    Raises:
        ConfigError: The address is wrong, or a token would go over the network unencrypted.
    """
    from dicomweb_client.api import DICOMwebClient  # noqa: PLC0415  # half a second, and not for C-STORE
    from requests import Session  # noqa: PLC0415

    check_url(url)
    session = Session()
    session.hooks["response"].extend(hooks)
    if file := os.environ.get(TOKEN_FILE):
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise ConfigError(f"{parts.hostname}: a token is not sent over http; give a url of https")
        try:
            token = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"{TOKEN_FILE} names {file}, which cannot be read ({type(error).__name__})"
            ) from None
        session.auth = lambda request: _bear(request, token)
    return DICOMwebClient(url, session=session, timeout=60)


def _bear(request: Any, token: str) -> Any:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
