"""Sending by C-STORE and DICOMweb STOW, and fetching by WADO."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import build_context

from medrestore.errors import InputError, reason_of
from medrestore.io.dicom.parse.header import READ_ERRORS
from medrestore.node.config import Destination
from medrestore.node.connections import entity
from medrestore.node.instance import Instance
from medrestore.node.web import web_client

_SUCCESS, _WARNINGS = 0x0000, (0xB000, 0xB006, 0xB007)
# Images sent by one STOW request: bounds memory.
_BATCH = 64


def send(
    destination: Destination, files: Sequence[str], ae_title: str, context: ssl.SSLContext | None = None
) -> str:
    """Send files; return what went wrong, empty if the destination has taken every one."""
    if destination.url:
        return _stow(destination, files)
    return _c_store(destination, files, ae_title, context if destination.tls else None)


def _c_store(
    destination: Destination, files: Sequence[str], ae_title: str, context: ssl.SSLContext | None
) -> str:
    asking = entity(ae_title)
    contexts = set()
    for file in files:
        try:
            contexts.add(_context(file))
        except READ_ERRORS as error:
            return f"{Path(file).name} cannot be read ({type(error).__name__})"
    wanted = sorted(contexts)
    asking.requested_contexts = [build_context(kind, syntax) for kind, syntax in wanted[:128]]
    arguments: dict[str, Any] = {} if context is None else {"tls_args": (context, destination.host)}
    try:
        association = asking.associate(
            destination.host, destination.port, ae_title=destination.ae_title, **arguments
        )
    except OSError as error:  # no such host, say
        return f"{destination.ae_title} at {destination.host}:{destination.port}: {error.strerror or error}"
    if not association.is_established:
        return (
            f"{destination.ae_title} at {destination.host}:{destination.port} does not take the association"
        )
    try:
        for file in files:
            answer = association.send_c_store(file)
            status = answer.get("Status") if answer else None
            if status != _SUCCESS and status not in _WARNINGS:
                stated = "no answer" if status is None else f"status 0x{status:04X}"
                # Not its comment, which goes to logs, and may name a patient.
                return f"{destination.ae_title}: {stated}"
    except (ValueError, RuntimeError, OSError) as error:
        return f"{destination.ae_title}: {reason_of(error)}"
    finally:
        if association.is_established:
            association.release()
    return ""


def _context(file: str) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)


def _stow(destination: Destination, files: Sequence[str]) -> str:

    try:
        client = web_client(destination.url)
        for start in range(0, len(files), _BATCH):
            batch = [pydicom.dcmread(file) for file in files[start : start + _BATCH]]
            answer = client.store_instances(batch)
            failed = list(answer.get("FailedSOPSequence") or [])
            if failed:
                reason = failed[0].get("FailureReason")
                return f"{destination.url}: {len(failed)} images refused, reason {reason}"
            stored = len(answer.get("ReferencedSOPSequence") or [])
            if stored != len(batch):
                return f"{destination.url}: {stored} of {len(batch)} images taken"
    except READ_ERRORS as error:
        return f"{destination.url}: {reason_of(error)}"
    return ""


def fetch(url: str, study: str, series: str | None) -> Iterator[Instance]:
    """Yield the images of a study, or of one series of it, from a DICOMweb service.

    Raises:
        ConfigError: The url is wrong.
        InputError: The service cannot be reached, has no such study, or sends what is no image.
    """
    client = web_client(url)
    try:
        found = client.iter_series(study, series) if series else client.iter_study(study)
        for data in found:
            written = BytesIO()
            data.save_as(written, enforce_file_format=True)
            yield Instance.read(written.getvalue())
    except READ_ERRORS as error:
        raise InputError(f"{url}: study {study} cannot be fetched ({reason_of(error)})") from error
