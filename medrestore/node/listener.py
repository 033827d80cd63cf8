"""The receiving side: C-ECHO and C-STORE from peers that are on the list."""

from __future__ import annotations

import logging
import sqlite3
import ssl
import time
from typing import Any
from weakref import WeakSet

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.pdu import A_RELEASE_RQ
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medrestore.errors import ConfigError, OutputError
from medrestore.io.dicom.parse.header import READ_ERRORS
from medrestore.node.config import NodeOptions, Routes
from medrestore.node.connections import entity, is_full, serve
from medrestore.node.instance import Instance
from medrestore.node.job_store import Arrival, Ledger
from medrestore.node.spool import Spool

_log = logging.getLogger(__name__)

SUCCESS, NO_ROOM, CANNOT_STORE = 0x0000, 0xA700, 0xA701
NOT_UNDERSTOOD, LATE, OTHER = 0xC000, 0xC001, 0xC002
# What an association that is not on the list is told: permanent, by the user, caller not recognised.
_STRANGER = (0x01, 0x01, 0x03)
# What one too many is told: transient, by the presentation layer, local limit exceeded.
_FULL = (0x02, 0x03, 0x02)


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
        self._releasing: WeakSet[Any] = WeakSet()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Begin to listen.

        Raises:
            OutputError: The port cannot be had.
        """
        made = entity(self._options.ae_title)
        made.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            made.add_supported_context(str(context.abstract_syntax), list(AllTransferSyntaxes))
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, lambda event: self._ledger.released(self._name(event))),
            (evt.EVT_ABORTED, lambda event: self._ledger.cut_off(self._name(event))),
            (evt.EVT_PDU_RECV, self._received),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        host, port, tls = self._options.host, self._options.port, server_context(self._options)
        try:
            self._server = serve(made, host, port, ssl_context=tls, evt_handlers=handlers)
        except OSError as error:
            raise OutputError(
                f"{host} port {port}: cannot be listened on ({error.strerror or error})"
            ) from error

    def stop(self) -> None:
        """Listen no more; transfers under way are cut off."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _name(self, event: Any) -> str:
        return f"{self._run}/{id(event.assoc)}"

    def _received(self, event: Any) -> None:
        if isinstance(event.pdu, A_RELEASE_RQ):
            self._releasing.add(event.assoc)

    def _closed(self, event: Any) -> None:
        """Take note of a connection that broke, and not of one that closes as its release was granted.

        A sender may close it before the thread of the association has said that it is released.
        """
        if event.assoc not in self._releasing:
            self._ledger.cut_off(self._name(event))

    def _requested(self, event: Any) -> None:
        caller = event.assoc.requestor
        title, address = caller.primitive.calling_ae_title.strip(), caller.address
        if not any(peer.is_caller(title, address) for peer in self._routes.peers):
            _log.warning("refused: %r at %s is on no [[peer]]", title, address)
            self._reject(event, _STRANGER)
        elif is_full(event.assoc):
            _log.warning("refused: %r at %s, there are associations enough", title, address)
            self._reject(event, _FULL)

    def _reject(self, event: Any, why: tuple[int, int, int]) -> None:
        event.assoc.acse.send_reject(*why)
        event.assoc.kill()

    def _store(self, event: Any) -> int:
        """Answer a C-STORE; whatever goes wrong, the sender keeps the image and the node goes on."""
        try:
            image = Instance.read(event.encoded_dataset())
        except READ_ERRORS as error:
            # Its kind alone: the words of such an error may quote the header.
            _log.warning("refused: an image that cannot be read (%s)", type(error).__name__)
            return NOT_UNDERSTOOD
        try:
            with self._spool.changing:  # what an image is to the node holds until it is noted
                return self._keep(image, self._name(event))
        except (OutputError, OSError, sqlite3.Error) as error:
            _log.error("%s: an image could not be stored (%s)", image.series, error)
            return CANNOT_STORE

    def _keep(self, image: Instance, association: str) -> int:
        """Keep an image if there is no other one in its place; a success is said of what is kept alone."""
        arrival = self._ledger.arrival(image)
        if arrival is Arrival.OTHER:
            _log.warning(
                "%s: refused the image %s, the node had another one with this SOP Instance UID; the first is "
                "kept, send the changed image with a UID of its own",
                image.series,
                image.sop,
            )
            return OTHER
        if arrival is Arrival.LATE:
            _log.warning("%s: refused an image that came after the series was restored", image.series)
            return LATE
        if arrival is Arrival.KNOWN and not self._is_lost(image):
            self._ledger.again(image.series, association)
            return SUCCESS
        if not self._spool.store(image.series, image.sop, image.content):
            _log.warning("%s: refused an image, the quota of the spool is used up", image.series)
            return NO_ROOM
        try:
            self._ledger.stored(image, association)
        except BaseException:
            self._spool.drop(image.series, image.sop)
            raise
        return SUCCESS

    def _is_lost(self, image: Instance) -> bool:
        """Whether an image that is noted, and needed yet, is no longer in the spool: somebody cleared it."""
        needed = not self._ledger.is_closed(image.series)
        return needed and not self._spool.has(image.series, image.sop)


def server_context(options: NodeOptions) -> ssl.SSLContext | None:
    """Return TLS for peers who call: they too need a certificate of the named authority."""
    context = _context(options, ssl.Purpose.CLIENT_AUTH)
    if context is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(options: NodeOptions) -> ssl.SSLContext | None:
    """Return TLS for peers who are called."""
    return _context(options, ssl.Purpose.SERVER_AUTH)


def _context(options: NodeOptions, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if options.tls is None:
        return None
    certificate, key, authority = options.tls
    try:
        context = ssl.create_default_context(purpose, cafile=str(authority))
        context.load_cert_chain(certificate, key)
    except OSError as error:  # the error of ssl is one
        files = ", ".join(map(str, options.tls))
        raise ConfigError(f"TLS: certificate, key and authority ({files}) cannot be used: {error}") from error
    return context
