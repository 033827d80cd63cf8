"""What strangers and broken senders do to the port of a node; beside them others are served."""

from __future__ import annotations

import random
import resource
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from dicom_series import header
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

pytest.importorskip("pynetdicom")
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification

from medrestore.node import Node, Peer, Routes, connections, listener

RELEASE = struct.pack(">BBL", 5, 0, 4) + bytes(4)


@pytest.fixture
def attack(node):
    """Opens a connection and sends bytes; all are closed in the end."""
    opened = []

    def run(*parts: bytes) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", node.port), timeout=20)
        opened.append(made)
        for part in parts:
            with suppress(OSError):  # it may have been cut off
                made.sendall(part)
        return made

    yield run
    for one in opened:
        one.close()


@pytest.fixture(autouse=True)
def no_traceback(capfd, caplog, recwarn):
    """Nothing of what comes may end a thread, nor fill the log."""
    threads, ended = threading.excepthook, []
    threading.excepthook = ended.append
    yield
    threading.excepthook = threads
    assert ended == []
    said = caplog.text + "".join(capfd.readouterr())
    assert "Traceback" not in said and "Exception" not in said


def associate(node: Node, title: str = "SENDER", **options):
    entity = AE(ae_title=title)
    entity.requested_contexts = [
        build_context(Verification),
        build_context(MRImageStorage, ExplicitVRLittleEndian),
    ]
    return entity.associate("127.0.0.1", node.port, ae_title="MEDRESTORE", **options)


def answers(node: Node) -> bool:
    """Whether an orderly peer is served."""
    association = associate(node)
    served = association.is_established and association.send_c_echo().Status == 0
    if association.is_established:
        association.release()
    return served


@pytest.fixture
def recorded(node):
    """The PDUs of an orderly peer: a request for an association, and a C-ECHO."""
    sent: list[bytes] = []
    association = associate(node, evt_handlers=[(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))])
    association.send_c_echo()
    association.release()
    assert [one[0] for one in sent] == [1, 4, 5]
    return [bytes(one) for one in sent]


def ends_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the node closes a connection in that time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"\1", b"\1\0\0\0\1\0ab"], ids=["silent", "one byte", "half"])
def test_connections_that_say_nothing_do_not_lock_the_node(node, attack, begun):
    silent = [attack(begun) for _ in range(40)]
    assert answers(node)
    started = time.monotonic()
    assert all(ends_within(one, 12) for one in silent)
    assert time.monotonic() - started < connections.SILENCE + 5
    assert answers(node)


def test_the_time_to_ask_for_an_association_is_not_renewed_by_bytes(node, attack):
    slow = attack(struct.pack(">BBL", 1, 0, 400))
    cut, until = False, time.monotonic() + 20
    while not cut and time.monotonic() < until:
        time.sleep(0.1)
        try:
            slow.sendall(b"\0")
        except OSError:
            cut = True
    assert cut


def test_associations_are_limited_and_those_one_too_many_are_told(node):
    held = [associate(node) for _ in range(connections.ASSOCIATIONS_EACH)]
    assert all(one.is_established for one in held)
    further = associate(node)
    assert further.is_rejected
    assert (further.acceptor.primitive.result, further.acceptor.primitive.diagnostic) == listener._FULL[::2]
    held[0].release()
    while held[0].is_alive():
        time.sleep(0.01)
    assert answers(node)
    for one in held[1:]:
        one.release()


@pytest.mark.parametrize("kind", range(9))
@pytest.mark.parametrize("length", [connections.LARGEST_PDU + 1, 0x7FFFFFFF, 0xFFFFFFF0])
def test_a_pdu_that_is_too_long_is_cut_off_before_it_is_read(node, attack, recorded, kind, length, caplog):
    before, computed = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    connection = attack(*([recorded[0]] if kind == 4 else []))
    if kind == 4:  # from one that has associated
        assert connection.recv(4096)[0] == 2
    with suppress(OSError):
        connection.sendall(struct.pack(">BBL", kind, 0, length))
        for _ in range(64):
            connection.sendall(bytes(1 << 20))
    assert ends_within(connection, 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert time.process_time() - computed < 2  # it does not answer what goes on and on
    if 1 <= kind <= 7:
        assert f"announced a PDU of {length} bytes" in caplog.text
    assert answers(node)


def changed(pdu: bytes, rng: random.Random) -> bytes:
    """A PDU with some bytes replaced, or its end cut off, and its length stated as it is."""
    body = bytearray(pdu[6:])
    if rng.random() < 0.2:
        body = body[: rng.randrange(len(body))]
    for _ in range(rng.choice([1, 1, 2, 5, 30]) if body else 0):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return pdu[:2] + struct.pack(">L", len(body)) + bytes(body)


@pytest.mark.slow
def test_requests_that_are_malformed_end_their_connection_alone(node, attack, recorded):
    rng = random.Random(1)
    for _ in range(60):
        attack(changed(recorded[0], rng)).shutdown(socket.SHUT_WR)
    assert answers(node)


def test_data_that_are_malformed_end_their_association_alone(node, attack, recorded):
    rng = random.Random(2)
    for _ in range(80):
        connection = attack(recorded[0])
        assert connection.recv(4096)[0] == 2
        with suppress(OSError):
            connection.sendall(changed(recorded[1], rng))
            connection.sendall(RELEASE)
            connection.shutdown(socket.SHUT_WR)
        connection.close()
    assert answers(node)


def test_pdus_out_of_their_order_end_their_connection_alone(node, attack, recorded):
    for kind in range(9):
        for before in ((), (recorded[0],)):
            for body in (b"", bytes(4)):
                attack(*before, struct.pack(">BBL", kind, 0, len(body)) + body).shutdown(socket.SHUT_WR)
    attack(recorded[0] + recorded[0] + recorded[1] + RELEASE + recorded[1])
    assert answers(node)


def test_a_node_with_silent_connections_stops_at_once(options, caplog):
    with Node(options, Routes((Peer("SENDER", "127.0.0.1"),), {}, ())) as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(6)]
        assert answers(running)
        server = running._listener._server
    assert server.active_associations == []
    assert "cut off" not in caplog.text
    for one in silent:
        one.close()


def test_of_silent_connections_the_oldest_make_room(node, attack, monkeypatch):
    monkeypatch.setattr(connections, "SILENCE", 60.0)
    monkeypatch.setattr(connections, "_SILENT_EACH", 3)
    silent = []
    for count in range(5):
        silent.append(attack())
        server = node._listener._server
        until = time.monotonic() + 5
        while len(server._silent()) < min(count + 1, 3) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
    assert [ends_within(one, 1) for one in silent] == [True, True, False, False, False]


@pytest.mark.slow
def test_silence_before_tls_does_not_stop_the_node_from_listening(options, tls_files):
    secure = replace(options, tls=tls_files)
    with Node(secure, Routes((Peer("SENDER", "127.0.0.1"),), {}, ())) as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(12)]
        silent[0].sendall(b"\x16\x03\x01")
        context = listener.client_context(secure)
        assert context is not None
        association = associate(running, tls_args=(context, "127.0.0.1"))
        assert association.is_established
        association.release()
        assert all(ends_within(one, 10) for one in silent)
        with pytest.raises(ssl.SSLError):
            ssl.create_default_context(cafile=str(tls_files[2])).wrap_socket(
                socket.create_connection(("127.0.0.1", running.port)), server_hostname="127.0.0.1"
            ).recv(1)  # without a certificate of its own


@pytest.mark.slow
def test_a_soak_of_200_associations_leaves_nothing_behind(node, attack):
    """Peers that store and release, or break off, strangers and silence, in turn and at once."""
    store = 0

    def one(number: int) -> int:
        kind = number % 4
        if kind == 3:
            attack(b"\1\0" if number % 8 == 3 else b"GET / HTTP/1.0\r\n\r\n")
            return 0
        association = associate(node, "STRANGER" if number % 20 == 1 else "SENDER")
        if not association.is_established:
            return 0
        data = header("MR", 0)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        data.Rows = data.Columns = 2
        data.add_new("PixelData", "OW", bytes(8))
        stored = association.send_c_store(data).Status == 0
        association.abort() if kind == 2 else association.release()
        return int(stored)

    for number in range(160):
        store += one(number)
    results: list[int] = []
    for group in range(5):
        threads = [
            threading.Thread(target=lambda n=160 + 8 * group + k: results.append(one(n))) for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    store += sum(results)
    assert store == 200 - 50 - len([number for number in range(200) if number % 20 == 1])
    assert len(list(node.spool.root.glob("incoming/*/*.dcm"))) == store
    server = node._listener._server
    until = time.monotonic() + connections.SILENCE + 5
    while server.active_associations and time.monotonic() < until:
        time.sleep(0.1)
    assert server.active_associations == []
    assert node.is_alive and answers(node)
