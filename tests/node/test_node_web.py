"""A DICOMweb service that answers with a part, breaks off, sends others' images, or refuses duplicates."""

from __future__ import annotations

import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pydicom
import pytest
from dicom_series import SERIES, STUDY, write_series
from tiny import CommandLine

pytest.importorskip("pynetdicom")

from medrestore.errors import InputError
from medrestore.node import Destination, transfer
from medrestore.node.instance import Query
from medrestore.node.transfer import send
from medrestore.node.wado import fetch

PARTS = 'multipart/related; type="application/dicom"; boundary=BB'


class Service:
    """Answers GET as it is told, and POST for each image by a list of reasons; None takes it."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {"Content-Type": PARTS}, b""
        self.posts, self.reasons = [], {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(service.status)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(service.body)

            def do_POST(self):
                status, answer = service.store(self)
                self.send_response(status)
                self.send_header("Content-Type", "application/dicom+json")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *said):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def store(self, request) -> tuple[int, bytes]:
        head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
        content = request.rfile.read(int(request.headers["Content-Length"]))
        parts = message_from_bytes(head + content).get_payload()
        uids = [pydicom.dcmread(BytesIO(part.get_payload(decode=True))).SOPInstanceUID for part in parts]
        self.posts.append(uids)
        failed = [uid for uid in uids if self.reasons.get(uid) is not None]

        def item(uid):
            said = {"00081155": {"vr": "UI", "Value": [uid]}}
            if uid in failed:
                said["00081197"] = {"vr": "US", "Value": [self.reasons[uid]]}
            return said

        answer = {
            "00081198": {"vr": "SQ", "Value": [item(uid) for uid in failed]},
            "00081199": {"vr": "SQ", "Value": [item(uid) for uid in uids if uid not in failed]},
        }
        status = 409 if len(failed) == len(uids) else 202 if failed else 200
        return status, json.dumps({tag: said for tag, said in answer.items() if said["Value"]}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.close()


@pytest.fixture
def files(tmp_path):
    def mark(_, data):
        maker = pydicom.Dataset()
        maker.Manufacturer = "medrestore"
        data.ContributingEquipmentSequence = [maker]

    write_series(tmp_path / "scan", change=mark)
    return sorted((tmp_path / "scan").iterdir())


def body(files, end: bytes = b"\r\n--BB--\r\n") -> bytes:
    parts = (b"\r\n--BB\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() for path in files)
    return b"".join(parts) + end


def pull(service, tmp_path, monkeypatch, capsys) -> tuple[int, str]:
    arguments = ("--from", service.url, "--study", STUDY, "-o", tmp_path / "out")
    status, _, said = CommandLine(monkeypatch, capsys)("pull", *arguments)
    assert status == 0 or not (tmp_path / "out").exists()
    return status, said


def test_all_that_a_service_has_is_fetched(service, files, tmp_path, monkeypatch, capsys):
    service.body = body(files)
    assert pull(service, tmp_path, monkeypatch, capsys) == (0, "")
    assert len(list((tmp_path / "out" / SERIES).iterdir())) == 6


def test_a_part_of_a_study_is_an_error(service, files, tmp_path, monkeypatch, capsys):
    service.status, service.body = 206, body(files[:3])
    status, said = pull(service, tmp_path, monkeypatch, capsys)
    assert status == 2 and "status 206" in said


@pytest.mark.parametrize("cut", ["between images", "within an image", "within the last boundary"])
def test_an_answer_that_is_cut_off_is_an_error(service, files, tmp_path, monkeypatch, capsys, cut):
    whole = body(files)
    service.body = {
        "between images": body(files[:4], end=b""),
        "within an image": whole[:-40],
        "within the last boundary": whole[:-4],
    }[cut]
    status, said = pull(service, tmp_path, monkeypatch, capsys)
    assert status == 2 and "ends before its last boundary" in said


def test_an_image_alone_needs_its_length(service, files):
    content = files[0].read_bytes()
    service.headers, service.body = {"Content-Type": "application/dicom"}, content
    ending = pytest.raises(InputError, match="nothing says where the answer ends")
    with pytest.warns(UserWarning, match="not compliant"), ending:
        list(fetch(service.url, Query(STUDY)))
    service.headers["Content-Length"] = str(len(content))
    with pytest.warns(UserWarning, match="not compliant"):
        assert len(list(fetch(service.url, Query(STUDY)))) == 1


@pytest.mark.parametrize("query", [Query("1.2.3"), Query(STUDY, "1.2.3")], ids=["study", "series"])
def test_images_that_were_not_asked_for_are_an_error(service, files, query):
    service.body = body(files)
    with pytest.raises(InputError, match="another study or series"):
        list(fetch(service.url, query))


@pytest.mark.parametrize("reason", [0x0111, 0xB00E])
def test_results_that_a_service_has_are_taken(service, files, reason, monkeypatch):
    monkeypatch.setattr(transfer, "_BATCH", 2)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in files]
    service.reasons = dict.fromkeys(uids[:3], reason)
    assert send(Destination(url=service.url), list(map(str, files)), "ME") == ""
    assert [len(batch) for batch in service.posts] == [2, 2, 2]


def test_what_a_service_refuses_otherwise_is_said_after_the_other_batches(service, files, monkeypatch):
    monkeypatch.setattr(transfer, "_BATCH", 2)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in files]
    service.reasons = {uids[0]: 0x0111, uids[1]: 0xA700}
    assert "1 images refused, reason 42752" in send(Destination(url=service.url), list(map(str, files)), "ME")
    assert [len(batch) for batch in service.posts] == [2, 2, 2]


def test_whoever_is_asked_to_stop_sends_no_further_batch(service, files, monkeypatch):
    monkeypatch.setattr(transfer, "_BATCH", 2)
    to = Destination(url=service.url)
    said = send(to, list(map(str, files)), "ME", is_stopped=lambda: bool(service.posts))
    assert "asked to stop" in said and len(service.posts) == 1


def test_scans_of_others_that_a_service_has_may_be_other_scans(service, tmp_path):
    write_series(tmp_path / "others")
    files = sorted((tmp_path / "others").iterdir())
    service.reasons = {pydicom.dcmread(path).SOPInstanceUID: 0x0111 for path in files}
    said = send(Destination(url=service.url), list(map(str, files)), "ME")
    assert "6 images refused, reason 273" in said
