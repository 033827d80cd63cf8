"""The tutorials are true: their commands run, in the order of the page, and their files are as shown."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from docs_pages import (
    DOCS,
    FIRST_PLUGIN,
    QUICK_START,
    ROOT,
    Block,
    blocks,
    keys,
    needs_weights,
    tables,
)
from samples import small_samples

import medrestore
from medrestore import errors
from medrestore.plugin.scaffold import NewPlugin
from medrestore.provenance import RunRecord

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")

needs_hatchling = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hatchling", "editables")),
    reason="needs hatchling and editables (extra dev)",
)


def environment(*paths: Path) -> dict[str, str]:
    """The tests' own interpreter and commands first, whatever is activated."""
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT))),
    }


def execute(block: Block, cwd: Path, *paths: Path) -> str:
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.body], cwd=cwd, env=environment(*paths), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block.body}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@needs_weights
def test_the_quick_start_runs(tmp_path):
    small_samples(tmp_path / "sample_data", 48)
    ran = [block for block in blocks(QUICK_START) if block.executed and block.language in {"bash", "python"}]
    assert len(ran) >= 6
    for block in ran:
        execute(block, tmp_path)
    for name in ("restored.json", "restored_dicom.nii.gz", "restored_python.nii.gz", "sure_upper.nii.gz"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.fixture
def fresh(tmp_path) -> dict[str, str]:
    """A new environment that holds nothing, with pip and all that medrestore needs from the running one."""
    home = tmp_path / "environment"
    venv.create(home)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "running.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    script = home / "bin/medrestore"
    script.write_text(
        f"#!{home}/bin/python\nfrom medrestore.cli import main\n\nif __name__ == '__main__':\n    main()\n"
    )
    script.chmod(0o755)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}
    return {
        **os.environ,
        **offline,
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
    }


@pytest.mark.slow
@needs_hatchling
def test_the_first_plugin_runs_word_for_word_in_a_fresh_environment(tmp_path, fresh):
    clone = tmp_path / "clone"
    small_samples(clone / "sample_data", 48)
    script = "".join(block.body for block in blocks(FIRST_PLUGIN) if block.language == "bash")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=clone, env=fresh, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    project = clone / "medrestore-wiener"
    assert "4 passed" in done.stdout
    assert re.search(
        r"^wiener +medrestore-wiener +0\.1\.0 +ok +Apache-2.0 +\S+ \(editable\)", done.stdout, re.M
    )
    assert re.search(r"^wiener +denoise", done.stdout, re.M)
    record = RunRecord.from_json((project / "wiener.json").read_text(encoding="utf-8"))
    assert record.model.name == "wiener/wiener"


def test_the_first_plugin_shows_the_files_as_they_are_made(tmp_path):
    NewPlugin.named("wiener").write(tmp_path)
    shown = {block.title: block.body for block in blocks(FIRST_PLUGIN) if block.title}
    assert sorted(shown) == ["medrestore_wiener/__init__.py", "pyproject.toml"]
    for title, body in shown.items():
        assert (tmp_path / "medrestore-wiener" / title).read_text(encoding="utf-8") == body
    listed = keys(tables(FIRST_PLUGIN)["Make it"])
    made = [path for path in (tmp_path / "medrestore-wiener").rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(str(path.relative_to(tmp_path / "medrestore-wiener")) for path in made)


def test_the_workflow_of_the_first_plugin_runs_what_the_page_runs(tmp_path):
    NewPlugin.named("wiener").write(tmp_path)
    workflow = (tmp_path / "medrestore-wiener/.github/workflows/tests.yml").read_text(encoding="utf-8")
    steps = [step.replace('"$MEDRESTORE" ', "") for step in re.findall(r"^ +- run: (.+)$", workflow, re.M)]
    made = next(block.body for block in blocks(FIRST_PLUGIN) if block.language == "bash")
    assert len(steps) == 2 and made.endswith("\n".join(steps) + "\n")


def test_the_first_plugin_fails_its_check_with_the_halo_that_the_page_warns_of(tmp_path, monkeypatch):
    from medrestore.testing import check_model

    (code,) = [block.body for block in blocks(FIRST_PLUGIN) if block.title == "medrestore_wiener/__init__.py"]
    (tmp_path / "wiener_with_small_halo.py").write_text(code.replace("halo=2 * RADIUS", "halo=2"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (spec,) = importlib.import_module("wiener_with_small_halo").medrestore_models()
    with pytest.raises(errors.PluginError, match="halo"):
        check_model(spec)


def test_a_network_is_put_into_the_first_plugin_as_the_page_says(tmp_path):
    import torch
    from safetensors.torch import save_file

    from medrestore.testing import check_model

    class MyNet(torch.nn.Conv3d):
        def __init__(self):
            super().__init__(1, 1, 3, padding=1, padding_mode="replicate")

    weights = tmp_path / "weights.safetensors"
    save_file(MyNet().state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    (code,) = [b.body for b in blocks(FIRST_PLUGIN) if b.language == "python" and b.title is None]
    names = {"MyNet": MyNet, "WEIGHTS": weights, "SHA256": sha256, "ModelError": errors.ModelError}
    exec(code, names)
    (filter_,) = [b.body for b in blocks(FIRST_PLUGIN) if b.title == "medrestore_wiener/__init__.py"]
    exec(filter_, module := {})
    (spec,) = module["medrestore_models"]()
    check_model(replace(spec, load=names["load"], weights=weights, sha256=sha256, halo=1))
    weights.write_bytes(weights.read_bytes()[:-4] + bytes(4))
    with pytest.raises(errors.ModelError, match="not the weights"):
        names["load"](medrestore.LoadContext())


def test_the_plugin_in_the_readme_is_the_shipped_one():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"<!-- plugin: (\S+) -->\n```\w+\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL))
    names = {Path(name).name: text for name, text in found.items()}
    source = ROOT / "plugins/medrestore-median"
    assert names["medrestore_median.py"] == (source / "medrestore_median.py").read_text(encoding="utf-8")
    assert names["pyproject.toml"] in (source / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.slow
@needs_weights
@pytest.mark.parametrize(
    ("page", "init"), [("train-a-model", []), ("fine-tune-a-model", ["--init", "mr-denoise"])]
)
def test_the_configuration_of_a_guide_trains(page, init, tmp_path):
    shown = next(b for b in blocks(DOCS / f"how-to/{page}.md") if b.language == "toml" and "[loop]" in b.body)
    data = tomllib.loads(shown.body)["data"]
    named = ("scans", "labels", "validation", "exclude")
    for pattern in (pattern for key in named for pattern in data.get(key, ())):
        file = tmp_path / data["roots"][0] / pattern.replace("*", "1")
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.name.endswith(".nii.gz"):
            scan = nib.load(ROOT / "sample_data/colin27_crop.nii.gz")
            labels = (np.asarray(scan.dataobj) // 64).astype(np.uint8)
            nib.save(nib.Nifti1Image(labels, scan.affine) if "labels" in pattern else scan, file)
        else:
            shutil.copytree(ROOT / "sample_data/dicom_rician5", file)
    (tmp_path / "train.toml").write_text(shown.body)
    command = f"medrestore train train.toml -o work --device cpu --steps 1 {' '.join(init)}"
    execute(Block("bash", None, command, True), tmp_path)
    assert (tmp_path / "work/model/model.safetensors").is_file()
