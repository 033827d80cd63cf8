"""Models become bundles that MONAI's own tools run."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tomli_w
import torch
from medrestore_monai import exporting
from medrestore_monai.exported import ScanDenoiser
from medrestore_monai.verb import app
from safetensors.torch import save
from typer.testing import CliRunner

from medrestore import Task
from medrestore.diffusion import Condition
from medrestore.errors import ModelError, OutputError
from medrestore.networks import build
from medrestore.plugin import LoadContext, read_model_folder

monai_bundle = pytest.importorskip("monai.bundle", reason="needs monai")


def tiny_model(folder, details=0):
    """Write a model folder of medrestore by hand."""
    torch.manual_seed(0)
    options = {"widths": [8, 8], "down": [1, 1], "up": [1], "details": details}
    network = build("voxelnet", options)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    data = save(network.state_dict())
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(data)
    table = {
        "name": "tiny",
        "title": "A tiny network that nobody trained",
        "task": "denoise",
        "modalities": ["MR"],
        "licence": "Apache-2.0",
        "reference": "none",
        "spacing_mm": [0.6, 1.5],
        "noise": [0.01, 0.15],
        "halo": network.halo,
        "multiple": network.multiple,
        "colour": details == 4,
        "network": {"name": "voxelnet", "options": options},
        "weights": {"file": "model.safetensors", "sha256": hashlib.sha256(data).hexdigest()},
    }
    (folder / "model.toml").write_text(tomli_w.dumps(table))
    (folder / "README.md").write_text("Apache-2.0")
    return folder


@pytest.mark.parametrize("details", [0, 4])
def test_a_model_becomes_a_bundle_that_monai_runs(tmp_path, details):
    model = tiny_model(tmp_path / "model", details)
    out = tmp_path / "bundle"
    assert CliRunner().invoke(app, ["export", str(model), "-o", str(out)]).exit_code == 0
    configs = out / "configs"
    monai_bundle.verify_net_in_out(
        "network_def", str(configs / "metadata.json"), str(configs / "inference.json"), device="cpu", n=2
    )
    network = monai_bundle.load("bundle", bundle_dir=tmp_path, workflow_type="inference", device="cpu")
    scan, sigma = torch.rand(1, 1, 16, 16, 24), 0.05
    given = torch.cat([scan, torch.full_like(scan, sigma)], dim=1)
    told = (0.0,) * details
    denoiser = read_model_folder(model).load(LoadContext())
    want = denoiser(scan, math.inf, Condition(scan, sigma, details=told))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(given), want, atol=1e-6, rtol=1e-5)
    with pytest.raises(OutputError, match="already"):
        exporting.export_model(read_model_folder(model), out)


def test_a_bundle_is_run_from_scan_to_file(tmp_path, monkeypatch):
    exporting.export_model(read_model_folder(tiny_model(tmp_path / "model")), tmp_path / "bundle")
    array = 500 * np.random.default_rng(0).random((24, 24, 16), dtype=np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.2, 1.0])), tmp_path / "scan.nii.gz")
    monai_bundle.run(
        "run",
        config_file=str(tmp_path / "bundle/configs/inference.json"),
        bundle_root=str(tmp_path / "bundle"),
        image=str(tmp_path / "scan.nii.gz"),
        sigma=0.05,
        output_dir=str(tmp_path),
    )
    made = nib.load(tmp_path / "scan_restored.nii.gz")
    assert made.shape == array.shape
    np.testing.assert_allclose(made.affine, np.diag([1.0, 1.0, 1.2, 1.0]))
    bright = float(np.percentile(array, 99))
    denoiser = ScanDenoiser("voxelnet", {"widths": [8, 8], "down": [1, 1], "up": [1]})
    denoiser.load_state_dict(torch.load(tmp_path / "bundle/models/model.pt", weights_only=True))
    margins = [(36, 36), (36, 36), (40, 40)]  # what MONAI adds up to its window of 96
    scan = torch.from_numpy(np.pad(array, margins, mode="edge") / bright)[None, None].float()
    with torch.no_grad():
        whole = denoiser(torch.cat([scan, torch.full_like(scan, 0.05)], dim=1))[0, 0] * bright
    want = whole[36:60, 36:60, 40:56].numpy()
    np.testing.assert_allclose(made.get_fdata(), want, atol=1e-4 * bright)


def test_what_is_no_denoiser_of_a_folder_does_not_become_a_bundle(tmp_path):
    spec = read_model_folder(tiny_model(tmp_path / "model"))
    for other, said in (
        (replace(spec, operator="a/b"), "only denoisers"),
        (replace(spec, network="a/b"), "no folder with weights"),
        (replace(spec, task=Task.SUPERRES), "only denoisers"),
    ):
        with pytest.raises(ModelError, match=said):
            exporting.export_model(other, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_that_is_not_finished_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("no space left")

    spec = read_model_folder(tiny_model(tmp_path / "model"))
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RuntimeError, match="no space"):
        exporting.export_model(spec, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
