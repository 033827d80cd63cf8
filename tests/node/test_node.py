"""The node: who may send, when a series is whole, what happens to it, and that nothing happens twice."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicom_series import SERIES, write_series
from pydicom.uid import BasicTextSRStorage, MRImageStorage
from tiny import model_folder

pytest.importorskip("pynetdicom")
from pynetdicom import AE, evt
from pynetdicom.acse import ACSE

from medrestore.errors import ConfigError, OutputError
from medrestore.io import read
from medrestore.node import Destination, Node, NodeOptions, Peer, Route, Routes, State
from medrestore.node import worker as worker_module
from medrestore.node.listener import client_context, server_context
from medrestore.node.transfer import send
from medrestore.node.worker import Worker

PEER = Peer("SENDER", "127.0.0.1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


class Archive:
    """A node that keeps what it is sent; it can be told to refuse."""

    def __init__(self) -> None:
        self.images, self.refuse = [], 0
        entity = AE(ae_title="ARCHIVE")
        entity.add_supported_context(MRImageStorage)
        self._server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.destination = Destination("127.0.0.1", self._server.socket.getsockname()[1], "ARCHIVE")

    def _store(self, event):
        if self.refuse:
            self.refuse -= 1
            return 0xA700
        data = event.dataset
        data.file_meta = event.file_meta
        self.images.append(data)
        return 0x0000

    def close(self):
        self._server.ae.shutdown()


@pytest.fixture
def archive():
    made = Archive()
    yield made
    made.close()


@pytest.fixture
def options(tmp_path):
    return NodeOptions(port=0, host="127.0.0.1", spool=tmp_path / "spool", rest=0.5, patience=600, retry=0.1)


@pytest.fixture
def routes(archive, model):
    route = Route("archive", "MR", "head*", str(model), {"force": True, "device": "cpu"})
    return Routes((PEER,), {"archive": archive.destination}, (route,))


@pytest.fixture
def scan(tmp_path):
    """A series big enough to be restored."""

    def change(index, data):
        rng = np.random.default_rng(index)
        data.Rows = data.Columns = 16
        data.add_new("PixelData", "OW", (500 + 30 * rng.standard_normal((16, 16))).astype("<i2").tobytes())

    write_series(tmp_path / "scan", change=change)
    return tmp_path / "scan"


def store(node: Node, folder, files=None, title="SENDER", abort=False) -> str:
    """Send the files of a folder; return what went wrong."""
    files = sorted(str(path) for path in folder.iterdir()) if files is None else list(map(str, files))
    if not abort:
        return send(Destination("127.0.0.1", node.port, "MEDRESTORE"), files, title)
    entity = AE(ae_title=title)
    entity.add_requested_context(MRImageStorage)
    association = entity.associate("127.0.0.1", node.port, ae_title="MEDRESTORE")
    for file in files:
        assert association.send_c_store(file).Status == 0
    association.abort()
    return ""


def until(node: Node, *states: State, seconds: float = 120, uid: str = SERIES):
    """Wait until a series has come so far."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = node.ledger.get(uid)
        if found is not None and found.state in states:
            return found
        assert node.is_alive
        time.sleep(0.2)
    raise AssertionError(f"still {node.ledger.all()}")


@pytest.fixture
def instant(monkeypatch, scan):
    """Restoring is a copy that is counted, for tests of everything around it."""
    calls = []

    def run(self, series, route):
        calls.append(sorted(path.name for path in self._spool.incoming(series.uid).iterdir()))
        shutil.copytree(self._spool.incoming(series.uid), self._spool.result(series.uid), dirs_exist_ok=True)
        return ""

    monkeypatch.setattr(worker_module.Worker, "_run_child", run)
    return calls


@pytest.mark.slow
def test_a_series_comes_in_is_restored_and_is_stored(options, routes, archive, scan, tmp_path):
    with Node(options, routes) as node:
        assert store(node, scan) == ""
        assert until(node, State.SENT, State.FAILED).reason == ""
    assert len(archive.images) == 6
    (tmp_path / "back").mkdir()
    for data in archive.images:
        path = tmp_path / "back" / f"{data.InstanceNumber}.dcm"
        pydicom.dcmwrite(path, data, enforce_file_format=True)
    before, after = read(scan), read(tmp_path / "back")
    assert after.geometry.allclose(before.geometry)
    assert not np.array_equal(after.array, before.array)
    assert {data.ImageType[0] for data in archive.images} == {"DERIVED"}
    assert not list((options.spool / "incoming").iterdir())
    assert not list((options.spool / "results").iterdir())


def test_a_resent_series_is_restored_once(options, routes, archive, scan, instant):
    with Node(options, routes) as node:
        store(node, scan)
        until(node, State.SENT)
        assert store(node, scan) == ""
        time.sleep(1.5)
        assert node.ledger.get(SERIES).state is State.SENT
    assert len(instant) == 1
    assert len(archive.images) == 6


def test_a_transfer_that_was_cut_off_waits_for_the_rest(options, routes, scan, instant):
    files = sorted(scan.iterdir())
    with Node(options, routes) as node:
        store(node, scan, files[:3], abort=True)
        time.sleep(1.5)
        assert node.ledger.get(SERIES).state is State.RECEIVING
        assert instant == []
        store(node, scan)
        until(node, State.SENT)
    assert [len(names) for names in instant] == [6]


def test_patience_ends(options, routes, scan, instant):
    with Node(replace(options, patience=1.0), routes) as node:
        store(node, scan, abort=True)
        until(node, State.SENT)
    assert len(instant) == 1


def test_a_node_that_was_stopped_goes_on(options, routes, archive, scan, instant, monkeypatch):
    with Node(replace(options, rest=600), routes) as node:
        store(node, scan)
    with Node(options, routes) as node:
        until(node, State.SENT)
    assert len(instant) == 1
    assert len(archive.images) == 6


def test_what_was_restored_is_sent_until_it_is_taken(options, routes, archive, scan, instant):
    archive.refuse = 3
    with Node(options, routes) as node:
        store(node, scan)
        until(node, State.SENT)
    assert len(instant) == 1
    assert len({data.SOPInstanceUID for data in archive.images}) == 6


def test_an_archive_that_is_away_loses_nothing(options, routes, archive, scan, instant):
    archive.close()
    with Node(options, routes) as node:
        store(node, scan)
        until(node, State.RESTORED)
    again = Archive()
    with Node(options, Routes((PEER,), {"archive": again.destination}, routes.routes)) as node:
        until(node, State.SENT)
    again.close()
    assert (len(instant), len(again.images)) == (1, 6)


def test_the_time_that_a_node_was_down_is_no_rest(options, routes, scan, instant):
    files = sorted(scan.iterdir())
    with Node(replace(options, rest=600), routes) as node:
        store(node, scan, files[:3])
        time.sleep(0.6)
    with Node(replace(options, rest=0.5), routes) as node:
        assert node.ledger.rested(0.5, 600) == []
        assert store(node, scan, files[3:]) == ""
        until(node, State.SENT)
    assert [len(names) for names in instant] == [6]


def test_a_node_without_a_certificate_has_no_destination_over_tls(options, routes, archive):
    secure = {"archive": replace(archive.destination, tls=True)}
    with pytest.raises(ConfigError, match="destination archive: tls = true, and the node has no certificate"):
        Node(options, Routes((PEER,), secure, routes.routes))
    assert not options.spool.exists()


@pytest.mark.parametrize(
    ("title", "peer"),
    [("STRANGER", PEER), ("SENDER", Peer("SENDER", "10.1.0.0/16"))],
    ids=["title", "address"],
)
def test_strangers_are_refused(options, routes, scan, title, peer):
    with Node(options, Routes((peer,), routes.destinations, routes.routes)) as node:
        assert "does not take the association" in store(node, scan, title=title)
        assert node.ledger.all() == []


def test_a_full_spool_refuses(options, routes, scan):
    size = sum(path.stat().st_size for path in scan.iterdir())
    with Node(options, routes) as node:
        node.spool.quota = node.spool._used + size // 2
        assert "status 0xA700" in store(node, scan)


def test_a_full_spool_recovers_when_there_is_room(options, routes, archive, scan, instant):
    size = sum(path.stat().st_size for path in scan.iterdir())
    with Node(options, routes) as node:
        room, node.spool.quota = node.spool.quota, node.spool._used + size // 2
        assert "status 0xA700" in store(node, scan)
        node.spool.quota = room
        assert store(node, scan) == ""
        until(node, State.SENT)
    assert {len(names) for names in instant} == {6}
    assert len({data.SOPInstanceUID for data in archive.images}) == 6


def test_what_has_no_route_and_our_own_results_are_not_restored(options, routes, scan, instant, tmp_path):
    def own(_, data):
        maker = pydicom.Dataset()
        maker.Manufacturer = "medrestore"
        data.ContributingEquipmentSequence = [maker]

    def other(_, data):
        data.SeriesDescription, data.SeriesInstanceUID = "Knee", "1.2.3"
        data.SOPInstanceUID += ".7"

    with Node(options, routes) as node:
        write_series(tmp_path / "own", change=own)
        store(node, tmp_path / "own")
        assert "came back" in until(node, State.IGNORED).reason
        write_series(tmp_path / "other", change=other)
        store(node, tmp_path / "other")
        assert "no route" in until(node, State.IGNORED, uid="1.2.3").reason
        assert not list((options.spool / "incoming").iterdir())
    assert instant == []


@pytest.mark.slow
def test_what_cannot_be_restored_fails_alone_and_may_come_again(options, routes, archive, scan):
    files = sorted(scan.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)
    with Node(options, routes) as node:
        store(node, scan, [*files[:2], *files[3:]])
        assert "1 slice(s) missing" in until(node, State.FAILED).reason
        assert archive.images == []
        store(node, scan, files[2:3])
        until(node, State.SENT)
    assert len(archive.images) == 6


def test_restoring_that_takes_too_long_is_ended(options, routes, archive, scan):
    with Node(replace(options, time_limit=0.05), routes) as node:
        store(node, scan)
        assert until(node, State.FAILED).reason == "not done within the time limit of 0.05 s, and ended"
    assert archive.images == []


def test_a_report_is_taken_and_ignored(options, routes, archive, tmp_path):
    def edit(index, data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
        data.Modality = "SR"
        del data.PixelData

    write_series(tmp_path / "reports", change=edit)
    with Node(options, routes) as node:
        assert store(node, tmp_path / "reports") == ""
        assert until(node, State.IGNORED).reason == "no route for its modality and description"
        assert not (options.spool / "incoming" / SERIES).exists()


def test_two_series_in_one_association_go_each_its_way(options, routes, scan, instant, tmp_path):
    def report(_, data):
        data.SeriesInstanceUID, data.Modality = "1.2.3", "SR"
        data.SOPInstanceUID += ".7"

    write_series(tmp_path / "sr", change=report)
    with Node(options, routes) as node:
        assert store(node, scan, [*sorted((tmp_path / "sr").iterdir()), *sorted(scan.iterdir())]) == ""
        until(node, State.SENT)
        assert "no route" in until(node, State.IGNORED, uid="1.2.3").reason
    assert [len(names) for names in instant] == [6]


def test_no_text_of_a_header_is_in_log_names_or_ledger(options, routes, instant, tmp_path, caplog):
    caplog.set_level("DEBUG", logger="medrestore")
    secret = "Zwyxq"

    def change(index, data):
        for name in ("PatientName", "PatientID", "StudyDescription", "ProtocolName", "PatientComments"):
            setattr(data, name, secret)
        for name in ("InstitutionName", "StationName", "AccessionNumber", "ReferringPhysicianName"):
            setattr(data, name, secret)
        data.SeriesDescription = "head"

    def other(index, data):
        change(index, data)
        data.SeriesDescription, data.SeriesInstanceUID = secret, "1.2.3"
        data.SOPInstanceUID += ".7"

    write_series(tmp_path / "a", change=change)
    write_series(tmp_path / "b", change=other)
    with Node(options, routes) as node:
        assert store(node, tmp_path / "a") == ""
        until(node, State.SENT)
        assert secret not in repr(node.ledger.all())
        assert store(node, tmp_path / "b") == ""
        assert secret not in until(node, State.IGNORED, uid="1.2.3").reason
        assert not [path for path in options.spool.rglob("*") if secret in path.name]
    assert "ignored" in caplog.text
    assert secret not in caplog.text


def test_a_sender_that_closes_at_once_after_its_release_has_sent_all(
    options, routes, scan, instant, monkeypatch
):
    """The connection may be seen to close before the release is noted: nothing was cut off."""
    grant = ACSE.send_release

    def slowly(self, is_response=False):
        grant(self, is_response)
        time.sleep(0.5 if is_response else 0)

    monkeypatch.setattr(ACSE, "send_release", slowly)
    with Node(options, routes) as node:
        assert store(node, scan) == ""
        until(node, State.SENT, seconds=20)


def test_images_that_come_after_the_result_are_refused(options, routes, scan, instant):
    files = sorted(scan.iterdir())
    with Node(options, routes) as node:
        store(node, scan, files[:5])
        until(node, State.SENT)
        assert "status 0xC001" in store(node, scan, files[5:])


def test_a_series_that_kills_the_node_is_given_up(options, routes, scan, monkeypatch):
    with Node(replace(options, rest=600), routes) as node:
        store(node, scan)
        node.ledger.move(SERIES, State.QUEUED)
        for _ in range(3):
            node.ledger.tried(SERIES)
    with Node(options, routes) as node:
        assert "ended the node 3 times" in until(node, State.FAILED).reason


def test_an_orderly_stop_is_no_attempt(options, routes, scan, monkeypatch):
    began = threading.Event()

    def run_child(worker, series, route):
        began.set()
        worker._stopping.wait()
        return "ended"

    monkeypatch.setattr(Worker, "_run_child", run_child)
    with Node(options, routes) as node:
        store(node, scan)
        assert began.wait(60)
    with Node(replace(options, rest=600), replace(routes, routes=())) as node:
        (series,) = (one for one in node.ledger.all() if one.uid == SERIES)
        assert series.attempts == 0


def test_tls_files_that_cannot_be_used_are_named(options, tmp_path):
    files = tuple(tmp_path / name for name in ("a.pem", "a.key", "ca.pem"))
    for context in (client_context, server_context):
        with pytest.raises(ConfigError, match=r"TLS: .*a\.pem.*a\.key.*ca\.pem.* cannot be used"):
            context(replace(options, tls=files))


def test_uids_are_no_paths(options, routes, tmp_path):
    def change(_, data):
        data.SeriesInstanceUID = "../../evil"

    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        write_series(tmp_path / "evil", change=change)
    with Node(options, routes) as node:
        assert "0xC000" in store(node, tmp_path / "evil")
    kept = {path.name for path in options.spool.rglob("*")}
    assert kept == {"incoming", "results", "ledger.sqlite", "lock"}


def test_a_port_that_is_taken_is_said(options, routes):
    with Node(options, routes) as node:
        other = replace(options, port=node.port, spool=options.spool.with_name("other"))
        with pytest.raises(OutputError, match="cannot be listened on"), Node(other, routes):
            pass


@pytest.mark.slow
def test_tls_takes_those_of_the_authority_alone(options, routes, scan, certificates):
    folder = certificates
    own = (folder / "a.pem", folder / "a.key", folder / "ca.pem")
    stranger = (folder / "b.pem", folder / "b.key", folder / "ca.pem")
    files = sorted(str(path) for path in scan.iterdir())
    with Node(replace(options, tls=own), routes) as node:
        secure = Destination("127.0.0.1", node.port, "MEDRESTORE", tls=True)
        plain = replace(secure, tls=False)
        assert send(plain, files, "SENDER") != ""
        assert send(secure, files, "SENDER", client_context(replace(options, tls=stranger))) != ""
        assert node.ledger.all() == []
        assert send(secure, files, "SENDER", client_context(replace(options, tls=own))) == ""
        assert [series.uid for series in node.ledger.all()] == [SERIES]
