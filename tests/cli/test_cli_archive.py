"""`push` and `pull`: what is asked for wrongly is said in a line."""

from __future__ import annotations

import pytest
from dicom_series import write_series
from tiny import CommandLine

pytest.importorskip("pynetdicom")

from medrestore.cli import archive
from medrestore.node import Destination

PULL = ("pull", "--study", "1.2", "-o", "out", "--from")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_series(tmp_path / "scan")
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("push", "scan", "--to", "AE@localhost:1", "--ae-title", "M" * 20), "1 to 16 ASCII characters"),
        (
            ("push", "scan", "--to", "AE@localhost:1", "--ae-title", "R\u00d6NTGEN"),
            "1 to 16 ASCII characters",
        ),
        (("push", "scan", "--to", "http://[bad"), "a url cannot be understood"),
        (("push", "scan", "--to", "AE@[::1:104"), "expected the url of a DICOMweb service, or AE@HOST:PORT"),
        ((*PULL, "AE@localhost:1", "--ae-title", "M" * 20), "1 to 16 ASCII characters"),
        ((*PULL, "AE@localhost:1", "--move-port", "99999"), "port 99999, expected 1 to 65535"),
        ((*PULL, f"AE@{'a' * 70}.example:104"), "cannot be reached"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(cli, arguments, said):
    status, _, errors = cli(*arguments)
    assert status == 2 and said in " ".join(errors.split()) and "Traceback" not in errors


@pytest.mark.parametrize(("text", "host"), [("AE@[::1]:104", "::1"), ("AE@pacs.example:104", "pacs.example")])
def test_the_address_of_a_node(text, host):
    assert archive._address(text, "--to") == Destination(host, 104, "AE")
