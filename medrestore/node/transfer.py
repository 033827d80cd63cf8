"""Sending by C-STORE and DICOMweb STOW."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from medrestore.errors import reason_of
from medrestore.io.dicom.parse.files import READ_ERRORS, opened
from medrestore.node.config import Destination
from medrestore.node.connections import entity
from medrestore.node.instance import is_own
from medrestore.node.web import web_client

_SUCCESS, _WARNINGS = 0x0000, (0xB000, 0xB006, 0xB007)
# Duplicate SOP instance; the second is what DICOMweb services of Azure say.
_DUPLICATE, _DUPLICATE_ON_WEB = 0x0111, 0xB00E
# Of HTTP: all refused, some refused; and what the reasons are written as.
_CONFLICT, _ACCEPTED = 409, 202
_ANSWERS = ("application/dicom+", "application/json")
# Images sent by one STOW request: bounds memory.
_BATCH = 64
# Of presentation contexts in an association.
_MOST_CONTEXTS = 128
# What meta information repeats of a data set.
_META = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
_STOPPED = "asked to stop"


def send(
    destination: Destination,
    files: Sequence[str],
    ae_title: str,
    context: ssl.SSLContext | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Send files; return what went wrong, empty if the destination has taken every one.

    A result of medrestore that the destination has already is taken: its UID stands for it alone.

    Args:
        destination: Where to.
        files: DICOM files.
        ae_title: Own AE title.
        context: TLS, for a destination that needs it.
        is_stopped: Asked between images, and between the batches of a DICOMweb service.
    """
    if destination.url:
        return _stow(destination, files, is_stopped)
    if destination.tls and context is None:
        return f"{destination.ae_title}: it is to be reached over TLS, for which there is no certificate"
    return _c_store(destination, files, ae_title, context if destination.tls else None, is_stopped)


def _c_store(
    destination: Destination,
    files: Sequence[str],
    ae_title: str,
    context: ssl.SSLContext | None,
    is_stopped: Callable[[], bool],
) -> str:
    asking = entity(ae_title)
    contexts = set()
    for file in files:
        try:
            contexts.add(_context(file))
        except READ_ERRORS as error:
            return f"{Path(file).name} cannot be read ({type(error).__name__})"
    # Implicit VR is what every node understands; the library encodes for it where nothing else is accepted.
    further = {
        (kind, ImplicitVRLittleEndian) for kind, syntax in contexts if syntax == ExplicitVRLittleEndian
    }
    wanted = sorted(contexts) + sorted(further - contexts)
    asking.requested_contexts = [build_context(kind, syntax) for kind, syntax in wanted[:_MOST_CONTEXTS]]
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    arguments: dict[str, Any] = {} if context is None else {"tls_args": (context, destination.host)}
    try:
        association = asking.associate(
            destination.host, destination.port, ae_title=destination.ae_title, **arguments
        )
    except (OSError, ValueError) as error:  # no such host, or no name of one
        return f"{where}: {reason_of(error)}"
    if not association.is_established:
        return f"{where} does not take the association"
    try:
        refused = _store_each(association, files, is_stopped)
    except (ValueError, RuntimeError, OSError) as error:
        refused = reason_of(error)
    finally:
        if association.is_established:
            association.release()
    return f"{destination.ae_title}: {refused}" if refused else ""


def _store_each(association: Any, files: Sequence[str], is_stopped: Callable[[], bool]) -> str:
    """Send every file, those after a refused one too: an archive may keep what it was sent before."""
    refused = []
    for file in files:
        if is_stopped():
            return _STOPPED
        data = _read(file)
        status = (association.send_c_store(data) or {}).get("Status")
        if status is None:
            return "no answer"
        if status != _SUCCESS and status not in _WARNINGS and not (status == _DUPLICATE and is_own(data)):
            # Not its comment, which goes to logs, and may name a patient.
            refused.append(f"status 0x{status:04X}")
    return f"{refused[0]}, {len(refused)} of {len(files)} images not taken" if refused else ""


def _read(file: str, **options: Any) -> FileDataset:
    """Read a file to be sent; what one without preamble and meta information lacks is added."""
    with opened(Path(file)) as stream:
        data = pydicom.dcmread(stream, force=True, **options)
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    for stated, name in _META:
        if name in data and stated not in data.file_meta:
            setattr(data.file_meta, stated, data[name].value)
    data.preamble = data.preamble or bytes(128)
    return data


def _context(file: str) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    head = _read(file, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    return str(head.SOPClassUID), str(head.file_meta.TransferSyntaxUID)


def _stow(destination: Destination, files: Sequence[str], is_stopped: Callable[[], bool]) -> str:
    refused, taken = [], 0
    try:
        client = web_client(destination.url, _read_conflict)
        for start in range(0, len(files), _BATCH):
            if is_stopped():
                return f"{destination.url}: {_STOPPED}"
            batch = [_read(file) for file in files[start : start + _BATCH]]
            answer = client.store_instances(batch)
            own = {str(data.SOPInstanceUID) for data in batch if is_own(data)}
            failed = list(answer.get("FailedSOPSequence") or [])
            refused += [item.get("FailureReason") for item in failed if not _is_there(item, own)]
            taken += len(answer.get("ReferencedSOPSequence") or []) + len(failed)
    except READ_ERRORS as error:
        return f"{destination.url}: {reason_of(error)}"
    if refused:
        return f"{destination.url}: {len(refused)} images refused, reason {refused[0]}"
    return "" if taken == len(files) else f"{destination.url}: {taken} of {len(files)} images taken"


def _read_conflict(response: Any, **_: Any) -> None:
    """Have an answer read that refuses every image: it says why, as one does that refuses a few of them."""
    if response.status_code == _CONFLICT and response.headers.get("Content-Type", "").startswith(_ANSWERS):
        response.status_code = _ACCEPTED


def _is_there(failed: Any, own: set[str]) -> bool:
    """Whether a service refused an image of ours because it has it."""
    reason, uid = failed.get("FailureReason"), str(failed.get("ReferencedSOPInstanceUID"))
    return reason in {_DUPLICATE, _DUPLICATE_ON_WEB} and uid in own
