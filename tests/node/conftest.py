"""A node that listens and is left alone, and certificates for nodes that talk over TLS."""

from __future__ import annotations

import subprocess

import pytest
from dicom_series import tool

from medrestore.node import Node, NodeOptions, Peer, Routes


@pytest.fixture
def certificates(tmp_path):
    """An authority, and certificate and key for the loopback interface by it and by nobody."""
    program = tool("openssl")
    made = tmp_path / "tls"
    made.mkdir()

    def run(*arguments: object) -> None:
        subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, cwd=made)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2)
    run(*new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    extra = ("-addext", "subjectAltName=IP:127.0.0.1")
    run(
        *new,
        "-subj",
        "/CN=node",
        *extra,
        "-keyout",
        "a.key",
        "-out",
        "a.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
    )
    run(*new, "-subj", "/CN=stranger", *extra, "-keyout", "b.key", "-out", "b.pem")
    return made


@pytest.fixture
def tls_files(certificates):
    """Certificate and key of the node, and the authority."""
    return certificates / "a.pem", certificates / "a.key", certificates / "ca.pem"


@pytest.fixture
def options(tmp_path):
    return NodeOptions(port=0, host="127.0.0.1", spool=tmp_path / "spool", rest=600, patience=600)


@pytest.fixture
def node(options):
    with Node(options, Routes((Peer("SENDER", "127.0.0.1"),), {}, ())) as running:
        yield running
