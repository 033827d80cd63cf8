"""The node beside a real archive: Orthanc on the loopback interface."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import SERIES, STUDY, tool, write_series
from node_program import Program, free_ports, until
from tiny import CommandLine, model_folder

pytest.importorskip("pynetdicom")
from medrestore.errors import InputError
from medrestore.io import read
from medrestore.node import Destination, Node, NodeOptions, State, load_routes
from medrestore.node import service as service_module
from medrestore.node.instance import Query
from medrestore.node.transfer import send
from medrestore.node.wado import fetch

pytestmark = pytest.mark.slow

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ROUTES = """
[[peer]]
ae_title = "ORTHANC"
address = "127.0.0.1"

[destination.pacs]
{destination}

[[route]]
modality = "MR"
model = "{model}"
destination = "pacs"
options = {{ force = true, device = "cpu" }}
"""


class Orthanc:
    """An Orthanc with a storage of its own; may be killed and started again."""

    def __init__(
        self, folder: Path, program: str, ports: list[int], user: tuple[str, str] | None = None
    ) -> None:
        node_port, self.dicom, self.http = ports
        self._headers = {}
        if user is not None:
            self._headers["Authorization"] = "Basic " + b64encode(":".join(user).encode()).decode()
        self.url = f"http://127.0.0.1:{self.http}"
        folder.mkdir()
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "DicomAet": "ORTHANC",
            "AuthenticationEnabled": user is not None,
            "RegisteredUsers": {} if user is None else dict([user]),
            "RemoteAccessAllowed": False,
            "DicomModalities": {"node": ["MEDRESTORE", "127.0.0.1", node_port]},
            "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
            "DicomWeb": {"Enable": True},
            "OverwriteInstances": False,
            "StableAge": 1,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._command = [program, str(folder / "orthanc.json")]
        self._log = (folder / "log").open("w")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        for _ in range(240):
            try:
                self.get("/system")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise AssertionError("Orthanc does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str):
        request = urllib.request.Request(self.url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body) -> object:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self._headers, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def series(self) -> list[dict]:
        return self.get("/series?expand")

    def derived(self) -> list[dict]:
        return [
            item
            for item in self.series()
            if item["MainDicomTags"]["SeriesDescription"].startswith("Restored")
        ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", spacing_mm=[0.5, 3])


@pytest.fixture
def scan(tmp_path):
    def change(index, data):
        rng = np.random.default_rng(index)
        data.Rows = data.Columns = 16
        data.add_new("PixelData", "OW", (500 + 30 * rng.standard_normal((16, 16))).astype("<i2").tobytes())

    write_series(tmp_path / "scan", change=change)
    return tmp_path / "scan"


@pytest.fixture
def alone(tmp_path, model, request):
    """An Orthanc, and a node that sends its results there once it is started."""
    program = tool("Orthanc")
    ports = free_ports(3)
    orthanc = Orthanc(tmp_path / "orthanc", program, ports)
    web = getattr(request, "param", "dimse") == "web"
    if web and not DICOMWEB.exists():
        orthanc.kill()
        pytest.skip("needs orthanc-dicomweb (.ci/run installs it)")
    address = f'ae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = {orthanc.dicom}'
    destination = f'url = "{orthanc.url}/dicom-web"' if web else address
    (tmp_path / "routes.toml").write_text(ROUTES.format(destination=destination, model=model))
    yield orthanc, Program(tmp_path, ports[0])
    if orthanc.process.poll() is None:
        orthanc.kill()


@pytest.fixture
def place(alone, request):
    """An Orthanc, and a node that listens; with "cold", one whose children can be looked at."""
    orthanc, node = alone
    node.start(cold=getattr(request, "param", "") == "cold")
    yield orthanc, node
    if node.process.poll() is None:
        node.kill()


def upload(orthanc: Orthanc, scan: Path) -> None:
    for path in sorted(scan.iterdir()):
        orthanc.post("/instances", path.read_bytes())


def to_node(orthanc: Orthanc) -> None:
    (source,) = [item["ID"] for item in orthanc.series() if item not in orthanc.derived()]
    orthanc.post("/modalities/node/store", {"Resources": [source], "Synchronous": True})


def downloaded(orthanc: Orthanc, folder: Path) -> Path:
    (series,) = orthanc.derived()
    folder.mkdir()
    for instance in series["Instances"]:
        with urllib.request.urlopen(f"{orthanc.url}/instances/{instance}/file") as answer:
            (folder / f"{instance}.dcm").write_bytes(answer.read())
    return folder


@pytest.mark.parametrize("alone", ["dimse", "web"], indirect=True)
def test_from_the_archive_through_the_node_and_back(place, scan, tmp_path):
    orthanc, node = place
    orthanc.post("/modalities/node/echo", {})
    upload(orthanc, scan)
    to_node(orthanc)
    until(lambda: orthanc.derived() and len(orthanc.derived()[0]["Instances"]) == 6)
    until(lambda: node.states() == [State.SENT])
    before, after = read(scan), read(downloaded(orthanc, tmp_path / "back"))
    assert after.geometry.allclose(before.geometry)
    assert not np.array_equal(after.array, before.array)
    assert len(orthanc.get("/studies")) == 1  # it is in the same study
    to_node(orthanc)
    time.sleep(3)
    assert len(orthanc.derived()) == 1
    assert orthanc.get("/statistics")["CountInstances"] == 12


@pytest.mark.parametrize("place", ["cold"], indirect=True)
def test_a_node_killed_while_it_restores_gives_one_result(place, scan):
    orthanc, node = place
    upload(orthanc, scan)
    to_node(orthanc)
    until(node.restoring)
    node.kill()
    assert orthanc.derived() == []
    node.start()
    to_node(orthanc)  # the sender does not know either, and sends it again
    until(lambda: node.states() == [State.SENT])
    assert [len(item["Instances"]) for item in orthanc.derived()] == [6]
    assert orthanc.get("/statistics")["CountInstances"] == 12


def test_an_archive_killed_meanwhile_gets_one_result(place, scan):
    orthanc, node = place
    upload(orthanc, scan)
    to_node(orthanc)
    orthanc.kill()
    until(lambda: node.states() == [State.RESTORED])
    orthanc.start()
    until(lambda: node.states() == [State.SENT])
    assert [len(item["Instances"]) for item in orthanc.derived()] == [6]
    assert orthanc.get("/statistics")["CountInstances"] == 12


def test_an_archive_killed_while_it_sends_gives_one_result(place, scan, tmp_path):
    orthanc, node = place
    count = 120
    first = pydicom.dcmread(min(scan.iterdir()))
    for index in range(count):
        first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = f"{SERIES}.{index}"
        first.InstanceNumber, first.ImagePositionPatient = index + 1, [0, 0, 2.0 * index]
        first.save_as(tmp_path / "one.dcm", enforce_file_format=True)
        orthanc.post("/instances", (tmp_path / "one.dcm").read_bytes())
    (source,) = [item["ID"] for item in orthanc.series()]
    orthanc.post("/modalities/node/store", {"Resources": [source], "Synchronous": False})
    until(lambda: len(list(node.spool.rglob("*.dcm"))) > 3, every=0.01)
    orthanc.kill()
    came = len(list(node.spool.rglob("*.dcm")))
    assert 3 < came < count
    time.sleep(3)  # thrice the quiet after which a series that came whole would be restored
    assert node.states() == [State.RECEIVING]
    orthanc.start()
    to_node(orthanc)
    until(lambda: node.states() == [State.SENT])
    assert [len(item["Instances"]) for item in orthanc.derived()] == [count]
    assert orthanc.get("/statistics")["CountInstances"] == 2 * count


def test_push_and_pull(alone, scan, tmp_path, monkeypatch, capsys):
    orthanc, _ = alone
    if not DICOMWEB.exists():
        pytest.skip("needs orthanc-dicomweb (.ci/run installs it)")
    cli = CommandLine(monkeypatch, capsys)
    web = f"{orthanc.url}/dicom-web"
    assert cli("push", scan, "--to", web)[0] == 0
    assert orthanc.get("/statistics")["CountInstances"] == 6
    status, _, errors = cli("pull", "--from", web, "--study", STUDY, "-o", tmp_path / "pulled")
    assert status == 0, errors
    (series,) = (tmp_path / "pulled").iterdir()
    before, after = read(scan), read(series)
    np.testing.assert_array_equal(after.array, before.array)
    assert after.geometry.allclose(before.geometry)
    status, _, errors = cli("pull", "--from", web, "--study", "1.2.3.4", "-o", tmp_path / "none")
    assert status == 2
    assert not (tmp_path / "none").exists()
    assert cli("push", scan, "--to", f"ORTHANC@127.0.0.1:{orthanc.dicom}")[0] == 0
    status, _, errors = cli("push", scan, "--to", "ORTHANC@127.0.0.1:1")
    assert status == 2
    assert "does not take the association" in errors


@pytest.mark.parametrize("what", ["study, get", "series, get", "study, move", "series, move"])
def test_pull_from_a_dicom_node(alone, scan, tmp_path, monkeypatch, capsys, what):
    orthanc, node = alone  # whose port and title are those that the archive knows
    upload(orthanc, scan)
    cli = CommandLine(monkeypatch, capsys)
    peer = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
    wanted = ["--study", STUDY, *(["--series", SERIES] if "series" in what else [])]
    if "move" in what:
        wanted += ["--move-port", str(node.port)]
    status, _, errors = cli("pull", "--from", peer, *wanted, "-o", tmp_path / "pulled")
    assert status == 0, errors
    assert [path.name for path in (tmp_path / "pulled").iterdir()] == [SERIES]
    before, after = read(scan), read(tmp_path / "pulled" / SERIES)
    np.testing.assert_array_equal(after.array, before.array)
    assert after.geometry.allclose(before.geometry)
    for uid in ("1.2.3.4", STUDY + ".9"):
        assert cli("pull", "--from", peer, "--study", uid, "-o", tmp_path / "none")[0] == 2
    orthanc.kill()
    status, _, errors = cli("pull", "--from", peer, *wanted, "-o", tmp_path / "none")
    assert (status, "does not take the association" in errors) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir() if "none" in path.name) == []


def test_a_move_that_cannot_be(place, scan, tmp_path, monkeypatch, capsys):
    orthanc, node = place
    upload(orthanc, scan)
    cli = CommandLine(monkeypatch, capsys)
    common = ["pull", "--study", STUDY, "-o", tmp_path / "none", "--move-port"]
    peer = ["--from", f"ORTHANC@127.0.0.1:{orthanc.dicom}"]
    status, _, errors = cli(*common, node.port, *peer)
    assert (status, "cannot be listened on" in errors) == (2, True)
    node.kill()
    status, _, errors = cli(*common, node.port, *peer, "--ae-title", "STRANGER")
    assert (status, "'STRANGER', which it has to know, did not come whole" in errors) == (2, True), errors
    status, _, errors = cli(*common, free_ports(1)[0], *peer)  # where the archive finds nobody
    assert (status, "did not come whole" in errors) == (2, True), errors
    status, _, errors = cli(*common, node.port, "--from", orthanc.url)
    assert (status, "is for a DICOM node" in errors) == (2, True)
    assert not (tmp_path / "none").exists()


def test_an_archive_killed_while_it_is_sent_to_gets_one_result(alone, scan, tmp_path, monkeypatch):
    orthanc, _ = alone
    sent = []

    def cut(destination, files, **options):
        """Send half, and let the archive die before the other half."""
        if not sent:
            assert send(destination, files[:3], **options) == ""
            orthanc.kill()
        sent.append(send(destination, files[3:] if not sent else files, **options))
        return sent[-1]

    monkeypatch.setattr(service_module, "send", cut)
    options = NodeOptions("MEDRESTORE", free_ports(1)[0], "127.0.0.1", tmp_path / "own", rest=0.5, retry=0.5)
    routes = tmp_path / "routes.toml"
    routes.write_text(routes.read_text().replace('"ORTHANC"', '"SENDER"', 1))
    with Node(options, load_routes(routes)) as node:
        to = Destination("127.0.0.1", node.port, "MEDRESTORE")
        assert send(to, sorted(map(str, scan.iterdir())), "SENDER") == ""
        until(lambda: bool(sent))
        assert sent[0] != ""
        orthanc.start()
        until(lambda: [series.state for series in node.ledger.all()] == [State.SENT])
    assert [len(item["Instances"]) for item in orthanc.derived()] == [6]
    assert orthanc.get("/statistics")["CountInstances"] == 6


def test_a_dicomweb_service_with_a_password(tmp_path, scan, monkeypatch):
    if not DICOMWEB.exists():
        pytest.skip("needs orthanc-dicomweb (.ci/run installs it)")
    password = "s3cret-Zq7"
    orthanc = Orthanc(tmp_path / "orthanc", tool("Orthanc"), free_ports(3), ("reader", password))
    try:
        destination = Destination(url=f"{orthanc.url}/dicom-web")
        files = sorted(map(str, scan.iterdir()))
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        assert "401" in send(destination, files, "MEDRESTORE")
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login reader password {password}\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert send(destination, files, "MEDRESTORE") == ""
        study = pydicom.dcmread(files[0]).StudyInstanceUID
        assert len(list(fetch(destination.url, Query(study)))) == len(files)
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login reader password {password}x\n")
        with pytest.raises(InputError, match="401") as wrong:
            list(fetch(destination.url, Query(study)))
        assert password not in str(wrong.value)
    finally:
        orthanc.kill()
