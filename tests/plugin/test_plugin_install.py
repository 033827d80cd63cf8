"""A plugin installed by pip from a folder is listed; a broken one beside it is listed as broken."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import medrestore

ROOT = Path(medrestore.__file__).parents[1]
EXAMPLE = ROOT / "plugins" / "medrestore-median"
FURTHER = ROOT / "plugins" / "medrestore-examples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXAMPLE.is_dir(), reason="needs the source tree"),
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling (extra dev)"),
]


def run(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from medrestore.cli import main; main()", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT))), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Install the examples, and one that cannot be imported, from folders outside the repository."""
    names = ("good", "bad", "further", "site")
    good, bad, further, target = (tmp_path_factory.mktemp(name) for name in names)
    for source, folder in ((EXAMPLE, good), (EXAMPLE, bad), (FURTHER, further)):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    project = (bad / "pyproject.toml").read_text()
    for old, new in (("medrestore-median", "medrestore-bad"), ("medrestore_median", "medrestore_bad")):
        project = project.replace(old, new)
    (bad / "pyproject.toml").write_text(project.replace("median =", "bad ="))
    (bad / "medrestore_bad.py").write_text("import no_such_module_here\n")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", *options, *map(str, (good, bad, further))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_the_installed_plugin_is_listed_and_the_broken_one_as_broken(site):
    done = run(site, "plugins", "--json")
    found = {info["name"]: info for info in json.loads(done.stdout)}
    median = found["median"]
    assert re.fullmatch("[0-9a-f]{64}", median.pop("sha256"))
    assert Path(median.pop("origin")).is_dir()
    assert median == {
        "name": "median",
        "dist": "medrestore-median",
        "version": "0.1.0",
        "status": "ok",
        "module": "medrestore_median",
        "licence": "Apache-2.0",
        "error": None,
        "notes": [],
        "adds": {"models": ["median3"]},
    }
    assert found["bad"]["status"] == "broken"
    assert "No module named 'no_such_module_here'" in found["bad"]["error"]
    assert "medrestore_bad.py:1" in found["bad"]["error"]
    assert found["medrestore"]["status"] == "ok"


def test_the_installed_examples_add_one_of_each_kind_and_their_command_runs(site):
    found = {info["name"]: info for info in json.loads(run(site, "plugins", "--json").stdout)}
    assert found["examples"]["adds"] == {
        "models": ["deblur"],
        "operators": ["blur"],
        "metrics": ["correlation"],
        "networks": ["cnn"],
        "samplers": ["dpm2m"],
        "noise_estimators": ["immerkaer"],
        "generators": ["cloud"],
        "verbs": ["describe"],
        "observers": ["volume_restored", "case_written", "case_failed"],
    }
    done = run(site, "describe", str(ROOT / "sample_data" / "colin27_crop.nii.gz"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("shape ")
    row = next(line for line in run(site, "plugins").stdout.splitlines() if line.startswith("examples"))
    for part in ("noise estimators: immerkaer", "generators: cloud", "verbs: describe", "observers: volume"):
        assert part in row


def test_its_model_is_in_the_table_and_the_broken_plugin_is_mentioned(site):
    done = run(site, "models")
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("median3")]
    assert [cell.strip() for cell in row.split("  ") if cell.strip()] == [
        "median3",
        "denoise",
        "MR",
        "Apache-2.0",
        "0.1 to 5",
        "median 0.1.0",
    ]
    assert "Broken: bad; `medrestore plugins` says why." in done.stderr
    table = run(site, "plugins").stdout
    assert "broken" in next(line for line in table.splitlines() if line.startswith("bad"))


def test_the_variable_takes_it_out(site):
    done = run(site, "models", "--json", MEDRESTORE_PLUGINS="none")
    assert [model["name"] for model in json.loads(done.stdout) if model["plugin"] != "medrestore"] == []
    assert done.stderr == ""


def test_an_error_of_the_library_is_a_message_and_status_2(site, tmp_path):
    script = (
        "import medrestore.cli as cli\nfrom medrestore.errors import ModelError\n"
        "def failing(): raise ModelError('no model is named x')\n"
        "cli.app.command('failing')(failing)\ncli.main()"
    )
    command = [sys.executable, "-c", script, "failing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "medrestore: no model is named x\n")
