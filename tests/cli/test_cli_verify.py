"""`medrestore verify`: its table, JSON and pages, and its exit status."""

from __future__ import annotations

import json

import pytest
from tiny import CommandLine, model_folder, noisy, phantom, save

CHECKS = ("--only", "contract", "--only", "licence")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("verified") / "tiny")


@pytest.fixture
def run(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def test_a_model_that_passes_ends_with_status_0_and_a_table(folder, run):
    status, out, err = run("verify", folder, *CHECKS)
    assert status == 0
    assert "contract" in out and "2 passed, 0 failed, 0 skipped" in out
    assert "licence ..." in err


def test_a_model_that_fails_ends_with_status_1_and_says_why(tmp_path, run):
    folder = model_folder(tmp_path / "tiny", licence="none of your business")
    page = tmp_path / "card.md"
    status, out, _ = run("verify", folder, *CHECKS, "--json", "--markdown", page)
    assert status == 1
    found = json.loads(out)
    assert found["passed"] is False
    assert {one["check"]: one["status"] for one in found["checks"]} == {
        "contract": "passed",
        "licence": "failed",
    }
    assert "expected an SPDX expression" in found["checks"][1]["problems"][0]
    assert "**failed**" in page.read_text()


def test_a_scan_is_read_and_tried(folder, tmp_path, run):
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(48), 0.05))
    status, out, _ = run("verify", folder, "--only", "mean", "--quick", "--scan", scan, "--json")
    figures = json.loads(out)["checks"][0]["figures"]
    assert status in {0, 1}  # nobody trained the network
    assert any(figure["name"].startswith("scan 1: change of tissue") for figure in figures)


def test_a_page_that_is_there_is_refused_before_anything_is_tried(folder, tmp_path, run):
    page = tmp_path / "page.html"
    page.write_text("mine")
    status, _, err = run("verify", folder, *CHECKS, "--html", page)
    assert (status, page.read_text()) == (2, "mine")
    assert "exists already" in err and "contract" not in err
    assert run("verify", folder, *CHECKS, "--html", page, "--overwrite")[0] == 0
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("nobody",), "no model is named 'nobody'"), (("mr-denoise", "--only", "lesion"), "no check is named")],
)
def test_what_there_is_not_ends_with_status_2(arguments, said, run):
    status, _, err = run("verify", *arguments)
    assert status == 2
    assert said in err
