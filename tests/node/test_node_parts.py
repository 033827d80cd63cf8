"""The parts of the node by themselves: ledger, routes, spool, and what is sent to whom."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from dicom_series import write_series

pytest.importorskip("pynetdicom")

from medrestore.errors import ConfigError, InputError, OutputError
from medrestore.node import Destination, Ledger, NodeOptions, Route, check_routes, load_routes
from medrestore.node.instance import Instance, Query
from medrestore.node.retrieve import retrieve
from medrestore.node.service import claim
from medrestore.node.spool import Spool
from medrestore.node.transfer import send
from medrestore.node.wado import fetch
from medrestore.node.web import TOKEN_FILE, web_client
from medrestore.types import Task


def test_the_ledger_survives(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.stored(Instance("", "1", "1.1", "MR", "d", False, b"", "digest"), "a")
    assert ledger.rested(0, 600) == []  # under way
    ledger.close()
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.recover()
    assert ledger.rested(0, 600) == []  # cut off
    ledger.again("1", "b")
    ledger.released("b")
    assert [series.uid for series in ledger.rested(0, 600)] == ["1"]
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger.all()


ROUTES = """
[[peer]]
ae_title = "SCANNER"
address = "10.0.0.0/24"

[destination.pacs]
ae_title = "PACS"
host = "pacs.example"
port = 104

[destination.web]
url = "https://pacs.example/dicom-web"

[[route]]
modality = "MR"
description = "*t1*"
model = "mr-denoise"
destination = "pacs"
options = { samples = 4 }

[[route]]
modality = "MR"
destination = "web"
"""


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("samples = 4", 'sampler = "acme/leapfrog"', "acme"),
        ("samples = 4", 'noise = "acme/guess"', "acme"),
        ('model = "mr-denoise"', 'model = "mr-denoize"', "mr-denoize"),
        ('"web"\n', '"web"\nmodel = "/nowhere/model"\n', "nowhere"),
    ],
)
def test_what_a_route_names_and_is_not_there_is_told_before_the_node_listens(tmp_path, before, after, named):
    path = tmp_path / "r.toml"
    path.write_text(after.join(ROUTES.rsplit(before, 1)))
    with pytest.raises(ConfigError, match=f"route to .*{named}"):
        check_routes(path)


def test_routes(tmp_path):
    (tmp_path / "r.toml").write_text(ROUTES)
    routes = load_routes(tmp_path / "r.toml")
    assert routes.find("MR", "Sag T1 MPRAGE").restore_options().samples == 4
    assert routes.find("MR", "T2").destination == "web"
    resolve = replace(routes.find("MR", "T2"), options={"task": "superres"})
    assert resolve.restore_options().task is Task.SUPERRES
    assert routes.find("CT", "T1") is None
    assert check_routes(tmp_path / "r.toml") == load_routes(tmp_path / "r.toml")
    (peer,) = routes.peers
    assert peer.is_caller("SCANNER", "10.0.0.7")
    assert peer.is_caller("SCANNER", "::ffff:10.0.0.7")
    assert not peer.is_caller("SCANNER", "10.0.1.7")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[peer]]", "[[pear]]", "unknown table pear"),
        ('ae_title = "SCANNER"', 'ae_titel = "SCANNER"', "unknown"),
        ('address = "10.0.0.0/24"', 'address = "10.0.0.0/33"', "does not appear to be"),
        ('destination = "web"', 'destination = "wob"', "no \\[destination.wob\\]"),
        ("port = 104", "port = 0", "expected both"),
        ("samples = 4", "sample = 4", "unknown option sample"),
        ("samples = 4", "steps = 0", "steps"),
        ('modality = "MR"\ndescription', "description", "modality"),
        ('"PACS"', '"A title that is too long"', "1 to 16"),
        ('"PACS"', '"PÄCS"', "ASCII"),
        ("[[peer]]", "peer = 3\n[destination.x]", r"\[\[peer\]\]: expected tables, one for each, found int"),
        ("[[peer]]", "[peer]", r"\[\[peer\]\]: expected tables, one for each, found dict"),
        ("[destination.pacs]", "[[destination]]", "a table \\[destination.NAME\\] for each"),
        ('"10.0.0.0/24"', "10", "address is of type int, expected str"),
        ("port = 104", "port = 104.5", "port is of type float, expected int"),
        ("port = 104", "port = true", "port is of type bool, expected int"),
        ("port = 104", 'port = 104\ntls = "no"', "tls is of type str, expected bool"),
        ('"*t1*"', "3", "description is of type int, expected str"),
        ('"mr-denoise"', "3", "model is of type int, expected str | None"),
        ("{ samples = 4 }", "3", "options is of type int, expected Mapping"),
        ('modality = "MR"', 'modality = ["MR", "CT"]', "modality is of type list"),
        ('modality = "MR"', 'modality = "mr"', "modality 'mr', expected MR or CT, as in headers"),
        ('modality = "MR"', 'modality = "PET"', "modality 'PET', expected MR or CT"),
        ("https://pacs.example/dicom-web", "http://[bad", "a url cannot be understood"),
        ("https://pacs.example/dicom-web", "http://pacs:99999/", "a url cannot be understood"),
    ],
)
def test_routes_are_read_strictly(tmp_path, old, new, message):
    (tmp_path / "r.toml").write_text(ROUTES.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        load_routes(tmp_path / "r.toml")


def test_brackets_in_a_description_stand_for_themselves():
    assert Route("pacs", "MR", "t1 [gd]*").fits("MR", "T1 [Gd] sag")
    assert not Route("pacs", "MR", "t1 [gd]").fits("MR", "T1 g")


@pytest.mark.parametrize("name", ["rest", "patience", "retry", "time_limit", "attempts"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), 1e7])
def test_times_of_a_node_are_finite_and_bounded(name, value):
    with pytest.raises(ConfigError, match=f"{name} of a node is .*, expected more than 0, up to 1000000"):
        NodeOptions(**{name: value})


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "no-such.invalid"])
def test_a_host_that_is_none_is_said(tmp_path, host):
    write_series(tmp_path / "scan")
    nowhere = Destination(host, 104, "PACS")
    assert send(nowhere, [str(next((tmp_path / "scan").iterdir()))], "ME").startswith(f"PACS at {host}:104: ")
    with pytest.raises(InputError, match=f"PACS at {host}:104 cannot be reached"):
        retrieve(nowhere, Query("1.2.3"), tmp_path, "ME")


@pytest.mark.parametrize("url", ["https://user:Zq7word@host/dicom-web", "https://Zq7word@host"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError, match="NETRC") as error:
        Destination(url=url)
    assert "Zq7word" not in str(error.value)


def test_a_token_goes_to_its_service_and_not_over_the_open_network(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("abc123\n")
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    with pytest.raises(ConfigError, match="not sent over http"):
        web_client("http://archive.example/dicom-web")
    heard = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.headers["Authorization"])
            self.send_error(403)

        def log_message(self, *said):
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(InputError, match="403") as refused:
            list(fetch(f"http://127.0.0.1:{server.server_port}", Query("1.2.3")))
    assert heard == ["Bearer abc123"] and "abc123" not in str(refused.value)


def test_what_could_not_be_written_does_not_count_for_the_quota(tmp_path):
    spool = Spool(tmp_path / "spool", 2000)
    (spool.incoming("1.2")).write_text("a file where the folder of the series would be")
    for _ in range(3):
        with pytest.raises((OSError, OutputError)):
            spool.store("1.2", "1.2.1", bytes(600))
    assert spool.store("1.3", "1.3.1", bytes(600))


def test_the_quota_counts_what_results_take(tmp_path):
    spool = Spool(tmp_path / "spool", 10_000)
    assert spool.store("1.2", "1.2.1", bytes(1000))
    for name in ("1.2", "1.2_std"):
        (spool.root / "results" / name).mkdir()
        (spool.root / "results" / name / "IM1.dcm").write_bytes(bytes(5000))
    spool.count_again()
    assert not spool.store("1.3", "1.3.1", bytes(10))
    assert not Spool(spool.root, 10_000).store("1.3", "1.3.1", bytes(10))


def test_patience_is_no_shorter_than_the_rest(tmp_path):
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.stored(Instance("", "1", "1.1", "MR", "d", False, b"", "digest"), "a")
    assert ledger.rested(600, 0) == []
    assert [series.uid for series in ledger.rested(0, 0)] == ["1"]
    ledger.close()


def test_a_full_disk_leaves_the_ledger_usable(tmp_path, monkeypatch):
    class Full:
        """Refuses to commit once."""

        def __init__(self, base):
            self._base, self._full = base, True

        def __getattr__(self, name):
            return getattr(self._base, name)

        def execute(self, text, *values):
            if text == "commit" and self._full:
                self._full = False
                raise sqlite3.OperationalError("database or disk is full")
            return self._base.execute(text, *values)

    ledger = Ledger(tmp_path / "l.sqlite")
    monkeypatch.setattr(ledger, "_base", Full(ledger._base))
    image = Instance("", "1", "1.1", "MR", "d", False, b"", "digest")
    with pytest.raises(sqlite3.OperationalError):
        ledger.stored(image, "a")
    assert ledger.all() == []
    ledger.stored(image, "a")
    assert [series.uid for series in ledger.all()] == ["1"]
    ledger.close()


def test_the_quota_keeps_room_for_results(tmp_path):
    spool = Spool(tmp_path / "spool", 2500)
    assert spool.store("1.2", "1.2.1", bytes(1000))
    assert not spool.store("1.2", "1.2.2", bytes(1000))  # that of the first is still to come
    assert not Spool(tmp_path / "spool", 2500).store("1.2", "1.2.2", bytes(1000))
    spool.forget("1.2")
    assert spool.store("1.2", "1.2.2", bytes(1000))


def test_maps_beside_a_result_are_sent_and_forgotten_with_it(tmp_path):
    spool = Spool(tmp_path / "spool", 2500)
    for name in ("1.2", "1.2_lower", "1.2_upper", "1.23"):
        (tmp_path / "spool" / "results" / name).mkdir()
        (tmp_path / "spool" / "results" / name / "IM1.dcm").touch()
    found = {path.name for path in spool.results("1.2") if path.exists()}
    assert found == {"1.2", "1.2_lower", "1.2_upper"}
    spool.forget("1.2")
    assert [path.name for path in (tmp_path / "spool" / "results").iterdir()] == ["1.23"]


def test_only_what_a_killed_node_left_is_cleared_away(tmp_path):
    ours = [
        tmp_path / "incoming" / "1.2" / ".0123abcd.1.dcm",
        tmp_path / "results" / ".0123abcd.1.2" / "IM1.dcm",
    ]
    others = [tmp_path / "project" / ".git" / "HEAD", tmp_path / "project" / ".env"]
    for path in ours + others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    Spool(tmp_path, 1000)
    assert [path.exists() for path in ours + others] == [False, False, True, True]


def test_a_spool_belongs_to_one_node(tmp_path):
    held = claim(tmp_path / "spool")
    with pytest.raises(OutputError, match="another node works with this spool"):
        claim(tmp_path / "spool")
    os.close(held)
    os.close(claim(tmp_path / "spool"))


def test_a_destination_that_has_no_address_is_an_error_and_not_the_end(tmp_path):
    write_series(tmp_path)
    nowhere = Destination(host="no-such.invalid", port=104, ae_title="PACS")
    assert send(nowhere, [str(next(tmp_path.iterdir()))], "MEDRESTORE").startswith(
        "PACS at no-such.invalid:104"
    )


def test_an_image_that_is_dropped_leaves_nothing(tmp_path):
    spool = Spool(tmp_path / "spool", 2500)
    for sop in ("1.2.1", "1.2.2"):
        assert spool.store("1.2", sop, bytes(500))
    spool.drop("1.2", "1.2.2")
    assert [path.name for path in spool.incoming("1.2").iterdir()] == ["1.2.1.dcm"]
    spool.drop("1.2", "1.2.1")
    assert not spool.incoming("1.2").exists()
    assert spool.store("1.2", "1.2.3", bytes(1200))


def test_a_result_that_is_no_dicom_file_is_an_error_and_not_the_end(tmp_path):
    (tmp_path / "bad.dcm").write_text("no image")
    somewhere = Destination(host="127.0.0.1", port=1, ae_title="PACS")
    assert "bad.dcm cannot be read" in send(somewhere, [str(tmp_path / "bad.dcm")], "MEDRESTORE")
