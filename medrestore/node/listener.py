"""The receiving side: C-ECHO and C-STORE from peers that are on the list."""

from __future__ import annotations

import logging
import sqlite3
import ssl
import time
from typing import Any

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medrestore.errors import ConfigError, OutputError
from medrestore.io.dicom.parse.header import READ_ERRORS
from medrestore.node.config import NodeOptions, Routes
from medrestore.node.job_store import Arrival, Ledger, Series, State
from medrestore.node.spool import Spool, facts_of

_log = logging.getLogger(__name__)

SUCCESS, NO_ROOM, LATE, NOT_UNDERSTOOD, CANNOT_STORE = 0x0000, 0xA700, 0xC001, 0xC000, 0xA701
# What an association that is not on the list is told: permanent, by the user, caller not recognised.
_REJECTED = (0x01, 0x01, 0x03)


class Listener:
    """Takes images into the spool and the ledger; a success is said when both are on disk.

    Args:
        options: Where to listen.
        routes: Who may send.
        spool: Where images go.
        ledger: Where they are noted.
    """

    def __init__(self, options: NodeOptions, routes: Routes, spool: Spool, ledger: Ledger) -> None:
        self._options = options
        self._routes = routes
        self._spool = spool
        self._ledger = ledger
        self._run = f"{time.time():.6f}"
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Begin to listen.

        Raises:
            OutputError: The port cannot be had.
        """
        entity = AE(ae_title=self._options.ae_title)
        entity.require_called_aet = True
        entity.maximum_associations = 10
        entity.network_timeout, entity.acse_timeout, entity.dimse_timeout = 60, 30, 60
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, lambda event: self._ledger.released(self._name(event))),
            (evt.EVT_ABORTED, lambda event: self._ledger.cut_off(self._name(event))),
            (evt.EVT_CONN_CLOSE, lambda event: self._ledger.cut_off(self._name(event))),
        ]
        where = (self._options.host, self._options.port)
        try:
            self._server = entity.start_server(
                where, block=False, ssl_context=server_context(self._options), evt_handlers=handlers
            )
        except OSError as error:
            raise OutputError(
                f"{where[0]} port {where[1]}: cannot be listened on ({error.strerror or error})"
            ) from error

    def stop(self) -> None:
        """Listen no more; transfers under way are cut off."""
        if self._server is not None:
            self._server.ae.shutdown()
            self._server = None

    def _name(self, event: Any) -> str:
        return f"{self._run}/{id(event.assoc)}"

    def _requested(self, event: Any) -> None:
        caller = event.assoc.requestor
        title, address = caller.primitive.calling_ae_title.strip(), caller.address
        if not any(peer.is_caller(title, address) for peer in self._routes.peers):
            _log.warning("refused: %r at %s is on no [[peer]]", title, address)
            event.assoc.acse.send_reject(*_REJECTED)
            event.assoc.kill()

    def _store(self, event: Any) -> int:
        """Answer a C-STORE; whatever goes wrong, the sender keeps the image and the node goes on."""
        try:
            content = event.encoded_dataset()
            sop, uid, modality, description, own = facts_of(content)
        except READ_ERRORS as error:
            # Its kind alone: the words of such an error may quote the header.
            _log.warning("refused: an image that cannot be read (%s)", type(error).__name__)
            return NOT_UNDERSTOOD
        try:
            series = Series(uid, State.RECEIVING, modality, description, own, 0, 0, 0, "")
            return self._keep(series, sop, content, self._name(event))
        except (OutputError, OSError, sqlite3.Error) as error:
            _log.error("%s: an image could not be stored (%s)", uid, error)
            return CANNOT_STORE

    def _keep(self, series: Series, sop: str, content: bytes, association: str) -> int:
        arrival = self._ledger.arrival(sop, series.uid)
        if arrival is Arrival.LATE:
            _log.warning("%s: refused an image that came after the series was restored", series.uid)
            return LATE
        if arrival is Arrival.KNOWN:
            self._ledger.again(series.uid, association)
            return SUCCESS
        if not self._spool.store(series.uid, sop, content):
            _log.warning("%s: refused an image, the quota of the spool is used up", series.uid)
            return NO_ROOM
        if self._ledger.stored(sop, series, association):
            return SUCCESS
        self._spool.drop(series.uid, sop)
        return LATE


def server_context(options: NodeOptions) -> ssl.SSLContext | None:
    """Return TLS for those who call: they too need a certificate of the named authority."""
    context = _context(options, ssl.Purpose.CLIENT_AUTH)
    if context is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(options: NodeOptions) -> ssl.SSLContext | None:
    """Return TLS for those who are called."""
    return _context(options, ssl.Purpose.SERVER_AUTH)


def _context(options: NodeOptions, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if options.tls is None:
        return None
    certificate, key, authority = options.tls
    try:
        context = ssl.create_default_context(purpose, cafile=str(authority))
        context.load_cert_chain(certificate, key)
    except OSError as error:  # that of ssl is one
        files = ", ".join(map(str, options.tls))
        raise ConfigError(f"TLS: certificate, key and authority ({files}) cannot be used: {error}") from error
    return context
