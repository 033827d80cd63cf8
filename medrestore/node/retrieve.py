"""Fetching from a DICOM node.

By C-GET images come over the association that asks for them; by C-MOVE the node opens another one, to a port
of ours that it has to know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelGet as StudyRootGet,
)
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelMove as StudyRootMove,
)

from medrestore.errors import InputError, reason_of
from medrestore.io.dicom.parse.header import READ_ERRORS
from medrestore.node.config import Destination
from medrestore.node.connections import entity, serve
from medrestore.node.instance import Instance, Query, SeriesFolders

_SUCCESS, _CANNOT_STORE = 0x0000, 0xC000
_PENDING = (0xFF00, 0xFF01)
# An archive chooses one syntax for each class, so none is offered into which it could compress with loss.
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class _Arrivals:
    """Keeps the images of one study, or of one series of it, in a folder for each series."""

    def __init__(self, query: Query, folder: Path) -> None:
        self._query = query
        self._kept = SeriesFolders(folder)
        self.came = 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of every series."""
        return self._kept.counts

    def keep(self, event: Any) -> int:
        """Answer a C-STORE."""
        try:
            image = Instance.read(event.encoded_dataset())
            if not self._query.wants(image) or not self._kept.keep(image):
                return _CANNOT_STORE
        except READ_ERRORS:
            return _CANNOT_STORE
        self.came += 1
        return _SUCCESS


def retrieve(
    source: Destination,
    query: Query,
    folder: Path,
    ae_title: str,
    move_port: int | None = None,
) -> dict[str, int]:
    """Fetch a study, or one series of it, into a folder for each series.

    Args:
        source: DICOM node to ask.
        query: What is wanted.
        folder: Where ``SERIES/SOP.dcm`` go; to be thrown away if this raises.
        ae_title: Own AE title.
        move_port: Port of ours, which the node knows by that title, to which it sends the images by C-MOVE;
            None for C-GET.

    Returns:
        Number of images of every series.

    Raises:
        InputError: The node cannot be reached, refuses, or did not send all that it has; the port is taken.
    """
    arrivals = _Arrivals(query, folder)
    where = f"{source.ae_title} at {source.host}:{source.port}"
    what, verb = f"{where}: study {query.study}", "C-GET"
    if move_port is not None:
        # Archives differ in what they answer where they do not know the title; some just hang up.
        what, verb = f"{what} to be sent to {ae_title!r}, which it has to know,", "C-MOVE"
    with _listening(source, arrivals, ae_title, move_port):
        try:
            association = _associate(source, arrivals, ae_title, get=move_port is None)
        except (OSError, ValueError) as error:  # no such host, or no name of one
            raise InputError(f"{where} cannot be reached ({reason_of(error)})") from error
        if not association.is_established:
            raise InputError(f"{where} does not take the association")
        try:
            last = _ask(association, query.study, query.series, None if move_port is None else ae_title)
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(f"{what}: {verb} is not possible ({error})") from error
        finally:
            if association.is_established:
                association.release()
    _check_whole(last, arrivals.came, what)
    return arrivals.counts


@contextmanager
def _listening(source: Destination, arrivals: _Arrivals, ae_title: str, port: int | None) -> Iterator[None]:
    """Take what the source sends to a port, while it is asked to."""
    if port is None:
        yield
        return
    made = entity(ae_title)
    made.require_calling_aet = [str(source.ae_title)]
    for context in StoragePresentationContexts:
        made.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
    try:
        server = serve(made, "", port, evt_handlers=[(evt.EVT_C_STORE, arrivals.keep)])
    except OSError as error:
        raise InputError(f"port {port}: cannot be listened on ({error.strerror or error})") from error
    try:
        yield
    finally:
        server.stop()


def _associate(source: Destination, arrivals: _Arrivals, ae_title: str, *, get: bool) -> Any:
    asking = entity(ae_title)
    asking.add_requested_context(StudyRootGet if get else StudyRootMove)
    kinds = sorted({str(context.abstract_syntax) for context in StoragePresentationContexts}) if get else []
    for kind in kinds:
        asking.add_requested_context(kind, _SYNTAXES)
    return asking.associate(
        source.host,
        source.port,
        ae_title=source.ae_title,
        ext_neg=[build_role(kind, scp_role=True) for kind in kinds],
        evt_handlers=[(evt.EVT_C_STORE, arrivals.keep)],
    )


def _ask(association: Any, study: str, series: str | None, destination: str | None) -> Dataset:
    """Return the last answer; it has no status where the connection broke."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES" if series else "STUDY"
    query.StudyInstanceUID = study
    if series:
        query.SeriesInstanceUID = series
    if destination is None:
        answers = association.send_c_get(query, StudyRootGet)
    else:
        answers = association.send_c_move(query, destination, StudyRootMove)
    last = Dataset()
    for status, _ in answers:
        last = status
    return Dataset() if last.get("Status") in _PENDING else last


def _check_whole(last: Dataset, came: int, what: str) -> None:
    failed, expected = last.get("NumberOfFailedSuboperations"), last.get("NumberOfCompletedSuboperations")
    if last.get("Status") != _SUCCESS or failed:
        status = f"status 0x{last.Status:04X}" if "Status" in last else "the connection broke"
        raise InputError(
            f"{what} did not come whole ({status}, {came} images came, "
            f"{'unknown' if failed is None else failed} failed); nothing is kept"
        )
    if expected is not None and expected != came:
        raise InputError(f"{what} did not come whole ({came} of {expected} images came); nothing is kept")
