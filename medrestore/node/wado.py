"""Fetching from a DICOMweb service by WADO: all that it has of a study, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from io import BytesIO
from typing import Any

from medrestore.errors import InputError, reason_of
from medrestore.io.dicom.parse.files import READ_ERRORS
from medrestore.node.instance import Instance, Query
from medrestore.node.web import web_client

_OK, _ERRORS = 200, 400
# Longer than the delimiter at the end of an answer (74 characters) and what little may follow it.
_TAIL = 1024


def fetch(url: str, query: Query) -> Iterator[Instance]:
    """Yield the images of a study, or of one series of it, from a DICOMweb service.

    Raises:
        ConfigError: The url is wrong.
        InputError: The service cannot be reached, has no such study, sends what is no image or was not asked
            for, or its answer is not whole: what came before is to be thrown away.
    """
    client = web_client(url, _check_whole)
    study = query.study
    try:
        found = client.iter_series(study, query.series) if query.series else client.iter_study(study)
        for data in found:
            written = BytesIO()
            data.save_as(written, enforce_file_format=True)
            image = Instance.read(written.getvalue())
            if not query.wants(image):
                raise InputError(
                    "it sent an image of another study or series, expected those asked for alone"
                )
            yield image
    except READ_ERRORS as error:
        raise InputError(f"{url}: study {study} cannot be fetched ({reason_of(error)})") from error


def _check_whole(response: Any, **_: Any) -> None:
    """Have the reading of an answer fail where it is not whole, which neither library looks at."""
    if not response.is_redirect and response.status_code < _ERRORS:
        read = response.iter_content
        response.iter_content = lambda *given, **named: _whole(response, read(*given, **named))


def _whole(response: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if response.status_code != _OK:
        raise InputError(f"status {response.status_code}: it sends a part of the images, expected status 200")
    said = response.headers
    parts = Message()
    parts["Content-Type"] = said.get("Content-Type", "")
    boundary = parts.get_boundary()
    if boundary is None and "Content-Length" not in said and "Transfer-Encoding" not in said:
        raise InputError("nothing says where the answer ends, expected its length or parts with a boundary")
    tail = b""
    for piece in pieces:
        tail = (tail + piece)[-_TAIL:]
        yield piece
    if boundary is not None and f"--{boundary}--".encode() not in tail:
        raise InputError("the answer ends before its last boundary; try again")
