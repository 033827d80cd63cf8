"""`medrestore models`, and the command line by `python -m medrestore`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields

import pytest
from tiny import CommandLine

from medrestore.plugin import ModelSpec


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_json_has_every_field_of_a_declaration(cli):
    status, out, _ = cli("models", "--json")
    assert status == 0
    found = {model["name"]: model for model in json.loads(out)}
    stated = {field.name for field in fields(ModelSpec)} - {"load"}
    assert all(stated <= model.keys() for model in found.values())
    assert found["medrestore/mr-denoise"]["colour"] is True
    assert found["medrestore/mr-superres"]["denoise_with"] == "medrestore/mr-denoise"
    assert found["medrestore/ct-superres"]["denoise_with"] == "medrestore/ct-denoise"


def test_the_package_is_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "medrestore", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("medrestore ")
