"""What a connection may take before it is an association, and while it is one.

pynetdicom bounds neither how long a peer may take over a PDU nor how long a PDU is, and counts a connection
that says nothing as an association. Here silence ends after a few seconds, and of silent connections the
oldest make room for connections that come.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from contextlib import suppress
from typing import Any, cast

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

_log = logging.getLogger(__name__)

SILENCE = 5.0
"""Seconds that a connection may take to ask for an association: the ARTIM timer of DICOM PS3.8."""

LARGEST_PDU = 1 << 20
"""Bytes of a PDU. Those with data are to be below the 16 kB announced; a request has some 100 kB at most."""

# Silent connections: of one address, and together.
_SILENT_EACH, _SILENT = 8, 64
# Associations, likewise.
ASSOCIATIONS_EACH, ASSOCIATIONS = 10, 40
# Of PS3.8: the event of a PDU that is not valid, and states of a connection.
_INVALID, _OVER, _ENDING = "Evt19", "Sta1", "Sta13"
_MOMENT = 1.0


def entity(ae_title: str) -> AE:
    """Return an application entity of this program, with the time that a peer is given."""
    made = AE(ae_title=ae_title)
    made.network_timeout, made.acse_timeout, made.dimse_timeout = 60, 30, 60
    made.connection_timeout = 30
    # Both quote what strangers send, one with tracebacks; what matters is logged by this package.
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return made


def serve(made: AE, host: str, port: int, **options: Any) -> Server:
    """Listen, in threads, until the server is shut down.

    Args:
        made: The application entity, with the contexts that it supports.
        host: Address to listen on; empty for all.
        port: Port; 0 for any free one.
        options: See `pynetdicom.AE.make_server`.

    Raises:
        OSError: The port cannot be had.
    """
    made.acse_timeout = SILENCE
    made.maximum_associations = 1 << 16  # it counts silent connections; see `is_full`
    made.require_called_aet = True
    listening = made.make_server((host, port), server_class=Server, request_handler=_Handler, **options)
    server = cast(Server, listening)
    server.contexts = _Contexts(server.contexts)
    made._servers.append(server)  # as `AE.start_server` does: `shutdown` is told of it
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def is_full(association: Association) -> bool:
    """Whether one association more would be more than there may be."""
    address = association.requestor.address
    others = [one for one in association.ae.active_associations if one.is_established]
    same = [one for one in others if one.requestor.address == address]
    return len(others) >= ASSOCIATIONS or len(same) >= ASSOCIATIONS_EACH


class Server(ThreadedAssociationServer):
    """Listens, and never waits for a peer while it does."""

    def stop(self) -> None:
        """Listen no more, and end every connection."""
        for one in self._silent():  # which the library would abort, as if they were associations
            hang_up(one)
            one.join(_MOMENT)
        self.ae.shutdown()

    def get_request(self) -> Any:
        """Accept a connection; with TLS, the handshake is left to the first read, which has its time."""
        client, address = cast(socket.socket, self.socket).accept()
        if self.ssl_context:
            client = self.ssl_context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room among silent connections: one that is about to ask for an association is young."""
        silent = self._silent()
        same = [one for one in silent if one.requestor.address == client_address[0]]
        for some, most in ((same, _SILENT_EACH), (silent, _SILENT)):
            for one in some[: max(len(some) + 1 - most, 0)]:
                hang_up(one)
        return True

    def _silent(self) -> list[Association]:
        """Connections that are no association yet, the oldest first."""
        return [one for one in self.active_associations if not one.is_established and one.dul.is_alive()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed, in one line."""
        _log.warning("a connection from %s failed", client_address[0])


class _Contexts(list[Any]):
    """Contexts that are supported, which a negotiation only reads.

    The library copies them deeply for each connection, which takes a tenth of a second for all of storage.
    """

    def __deepcopy__(self, memo: object) -> list[Any]:
        return list(self)


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        # The library makes both itself; these differ in how they read, and in what an error ends.
        wire = cast(Any, association.dul.socket)
        wire.__class__, wire.began = _Socket, time.monotonic()
        association.dul.state_machine.__class__ = _StateMachine
        return association


class _Socket(AssociationSocket):
    """Reads no more than a PDU may have, and waits no longer than a peer may take."""

    began: float

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes.

        Raises:
            OSError: They are too many, or they do not come.
        """
        association = cast(Any, self.assoc)
        who = association.requestor.address
        if nr_bytes > LARGEST_PDU:
            _log.warning("cut off: %s announced a PDU of %d bytes, at most %d", who, nr_bytes, LARGEST_PDU)
            raise OSError("the PDU is too long")
        patience = float(association.network_timeout)
        until = time.monotonic() + patience
        if not association.is_established:
            until = self.began + SILENCE
        found, wire = bytearray(), cast(socket.socket, self.socket)
        try:
            while len(found) < nr_bytes:
                wire.settimeout(max(until - time.monotonic(), 1e-3))
                piece = wire.recv(min(nr_bytes - len(found), 1 << 16))
                if not piece:
                    break
                found += piece
        except TimeoutError:
            _log.warning("cut off: %s stopped within a PDU", who)
            raise
        finally:
            with suppress(OSError):
                wire.settimeout(patience)  # writing has its time as well
        return found


class _StateMachine(StateMachine):
    """Aborts an association over a PDU that cannot be understood, where the library's thread would end."""

    def do_action(self, event: str) -> None:
        """Do what an event asks for."""
        was_ending = self.current_state == _ENDING
        try:
            super().do_action(event)
            if was_ending and event == _INVALID:
                hang_up(self.dul.assoc)  # it was told to end, and goes on: each answer would be one more
            if self.current_state == _OVER and not self.dul.assoc.is_established:
                self.dul.to_user_queue.put(cast(Any, None))  # no request will come: nobody need wait
        except Exception as error:  # noqa: BLE001  whatever a PDU does to the library, it is one connection
            address = self.dul.assoc.requestor.address
            _log.warning("cut off: %s sent what cannot be understood (%s)", address, type(error).__name__)
            with suppress(queue.Empty):
                self.dul.to_provider_queue.get(block=False)  # an answer that has come too late
            if event == _INVALID:
                self.dul.kill_dul()
            elif self.current_state != _ENDING:
                self.dul.event_queue.put(_INVALID)


def hang_up(association: Association) -> None:
    """End a connection from outside; its own thread meets the end, and cleans up."""
    wire = getattr(association.dul.socket, "socket", None)
    if wire is not None:
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)
