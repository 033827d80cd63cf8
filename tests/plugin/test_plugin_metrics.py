"""A plugin's metric stands beside the built-in ones, and costs nothing but itself where it fails."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from plugin_site import Site
from tiny import noisy, phantom, save

NAME = "examples/correlation"


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """A noisy scan and its truth."""
    clean = phantom(24)
    return save(tmp_path / "scan.nii.gz", noisy(clean, 0.05)), save(tmp_path / "truth.nii.gz", clean)


@pytest.fixture
def restored(pair, tiny_model, tmp_path, command) -> Callable[..., tuple[dict[str, Any], str]]:
    """Restores the scan to out.nii.gz; returns the metrics in its sidecar, and what was printed."""

    def restore(*options: object) -> tuple[dict[str, Any], str]:
        out = tmp_path / "out.nii.gz"
        arguments = ("restore", pair[0], "-o", out, "--model", tiny_model, "--device", "cpu")
        status, told, error = command(*arguments, *options)
        assert status == 0, error
        return json.loads((tmp_path / "out.json").read_text())["metrics"], told

    return restore


def test_it_is_in_the_sidecar_and_in_the_summary(examples, pair, restored):
    metrics, told = restored("--reference", pair[1])
    assert list(metrics["input"]) == ["psnr", "ssim", "mae", "rmse", NAME]
    assert 0.5 < metrics["input"][NAME]["value"] < 1
    definition = metrics["result"][NAME]["definition"]
    assert definition.startswith("Pearson correlation of the voxels; higher is better; data range")
    assert f"{NAME} in the head" in told


def test_without_a_reference_it_is_absent_with_that_reason(examples, restored):
    metrics, _ = restored()
    assert (metrics["input"][NAME]["value"], metrics["input"][NAME]["reason"]) == (None, "no reference")


def test_the_command_compares_by_it(examples, pair, command):
    status, told, error = command("metrics", *pair, "--mask", "all", "--json")
    assert status == 0, error
    (volume,) = json.loads(told)["volumes"]
    scan, truth = noisy(phantom(24), 0.05), phantom(24)
    expected = float(np.corrcoef(scan.ravel(), truth.ravel())[0, 1])
    assert volume[NAME]["value"] == pytest.approx(expected, rel=1e-5)
    assert NAME in command("metrics", *pair)[1]


def test_it_is_in_the_report_of_a_batch(examples, tiny_model, tmp_path, command):
    scans = tmp_path / "scans"
    scans.mkdir()
    for seed in range(2):
        save(scans / f"scan{seed}.nii.gz", noisy(phantom(24), 0.05, seed))
        save(tmp_path / f"truth{seed}.nii.gz", phantom(24))
    rows = [{"input": f"scans/scan{n}.nii.gz", "reference": f"truth{n}.nii.gz"} for n in range(2)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "results"
    arguments = ("batch", tmp_path / "list.jsonl", "-o", out, "--model", tiny_model, "--device", "cpu")
    status, _, error = command(*arguments)
    assert status == 0, error
    with (out / "summary.csv").open() as file:
        values = [float(row[NAME]) for row in csv.DictReader(file)]
    cases = json.loads((out / "summary.json").read_text())["cases"]
    assert values == [case[NAME] for case in cases]
    assert len(values) == 2
    assert NAME in (out / "report.html").read_text()
    assert NAME in (out / "cases" / f"{cases[0]['case']}.html").read_text()


METRIC = """
from medrestore import hookimpl
from medrestore.plugin import MetricSpec

def compute(image, reference, data_range, mask):
    {body}

@hookimpl
def medrestore_metrics():
    return [MetricSpec(name="odd", definition="Odd", compute=compute, higher_is_better=False)]
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return 1 / 0", "metric 'bad/odd': compute raised ZeroDivisionError: division by zero ("),
        ("return float('nan')", "metric 'bad/odd': compute returned nan; expected a finite number"),
        ("return None", "compute returned None; expected a finite number"),
        ("import sys; sys.exit(1)", "compute raised SystemExit: 1"),
        ("raise MemoryError", "metric 'bad/odd': memory did not suffice for compute"),
        ("return 10**400", "compute raised OverflowError"),
        ("image[:] = 0", "compute raised ValueError: assignment destination is read-only"),
        (
            "import torch; torch.from_numpy(image).zero_(); torch.from_numpy(mask).zero_(); return 1.0",
            "metric 'bad/odd': compute changes image and mask in place; expected what it is given",
        ),
    ],
)
def test_one_that_fails_is_absent_with_the_plugin_named(site: Site, pair, restored, tmp_path, body, reason):
    site.add("bad", METRIC.format(body=body))
    metrics, told = restored("--reference", pair[1])
    assert metrics["result"]["bad/odd"]["value"] is None
    assert "plugin 'bad' (dist-bad 1.2)" in metrics["result"]["bad/odd"]["reason"]
    assert reason in metrics["result"]["bad/odd"]["reason"]
    assert metrics["result"]["psnr"]["value"] > 0
    assert np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj).max() > 0
    assert "bad/odd in the head" in told


def test_what_it_prints_does_not_come_into_the_json(site: Site, pair, command):
    site.add("loud", METRIC.format(body="print('loud'); return 0.5"))
    status, told, error = command("metrics", *pair, "--json")
    assert (status, "loud" in error) == (0, True)
    assert json.loads(told)["volumes"][0]["loud/odd"]["value"] == 0.5
