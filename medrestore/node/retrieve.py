"""Fetching from a DICOM node by C-GET: images come over the association that asks for them."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelGet as StudyRootGet,
)

from medrestore.errors import InputError
from medrestore.io.dicom_head import READ_ERRORS
from medrestore.node.config import Destination
from medrestore.node.spool import checked_uid

_SUCCESS, _CANNOT_STORE = 0x0000, 0xC000
_PENDING = (0xFF00, 0xFF01)
# An archive chooses one syntax for each class, so none is offered into which it could compress with loss.
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_TAGS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


def retrieve(
    source: Destination, study: str, series: str | None, folder: Path, ae_title: str
) -> dict[str, int]:
    """Fetch a study, or one series of it, into a folder for each series.

    Args:
        source: DICOM node to ask.
        study: Study instance UID.
        series: Series instance UID; None for all of the study.
        folder: Where ``SERIES/SOP.dcm`` go; to be thrown away if this raises.
        ae_title: Own AE title.

    Returns:
        Number of images of every series.

    Raises:
        InputError: The node cannot be reached, refuses, or did not send all that it has.
    """
    counts: dict[str, int] = {}

    def keep(event: Any) -> int:
        try:
            content = event.encoded_dataset()
            head = pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(_TAGS))
            of, uid, sop = (checked_uid(str(head.get(tag, ""))) for tag in _TAGS)
            if of != study or series not in (None, uid):
                return _CANNOT_STORE
            (folder / uid).mkdir(exist_ok=True)
            (folder / uid / f"{sop}.dcm").write_bytes(content)
        except (OSError, *READ_ERRORS):
            return _CANNOT_STORE
        counts[uid] = counts.get(uid, 0) + 1
        return _SUCCESS

    where = f"{source.ae_title} at {source.host}:{source.port}"
    association = _associate(source, ae_title, [(evt.EVT_C_STORE, keep)])
    if not association.is_established:
        raise InputError(f"{where} does not take the association")
    try:
        last = _ask(association, study, series)
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{where}: C-GET of study {study} is not possible ({error})") from error
    finally:
        if association.is_established:
            association.release()
    _check_whole(last, sum(counts.values()), f"{where}: study {study}")
    return counts


def _associate(source: Destination, ae_title: str, handlers: list[Any]) -> Any:
    entity = AE(ae_title=ae_title)
    entity.network_timeout, entity.acse_timeout, entity.dimse_timeout = 60, 30, 60
    entity.connection_timeout = 30
    entity.add_requested_context(StudyRootGet)
    kinds = sorted({str(context.abstract_syntax) for context in StoragePresentationContexts})
    for kind in kinds:
        entity.add_requested_context(kind, _SYNTAXES)
    return entity.associate(
        source.host,
        source.port,
        ae_title=source.ae_title,
        ext_neg=[build_role(kind, scp_role=True) for kind in kinds],
        evt_handlers=handlers,
    )


def _ask(association: Any, study: str, series: str | None) -> Dataset:
    """Return the last answer; it has no status where the connection broke."""
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES" if series else "STUDY"
    query.StudyInstanceUID = study
    if series:
        query.SeriesInstanceUID = series
    last = Dataset()
    for status, _ in association.send_c_get(query, StudyRootGet):
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
