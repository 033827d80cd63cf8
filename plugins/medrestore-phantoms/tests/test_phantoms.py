from __future__ import annotations

import math
from pathlib import Path

import medrestore_phantoms
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from medrestore import GenerateOptions, LoadContext, generate, read
from medrestore.errors import ModelError
from medrestore.plugin.host import plugins
from medrestore.provenance import sha256_file

SCAN = Path(__file__).resolve().parents[3] / "sample_data" / "colin27_crop.nii.gz"
SPECS = {spec.name: spec for spec in medrestore_phantoms.medrestore_generators()}


@pytest.fixture(scope="module")
def stages():
    return {name: spec.load(LoadContext()) for name, spec in SPECS.items()}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Let the host find the plugin, as if it were installed."""
    info = tmp_path / "medrestore_phantoms-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medrestore-phantoms\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[medrestore]\nphantoms = medrestore_phantoms\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def test_the_weights_are_those_that_are_declared():
    assert {spec.sha256 for spec in SPECS.values()} == {sha256_file(medrestore_phantoms.WEIGHTS)}
    assert medrestore_phantoms.WEIGHTS.stat().st_size < 20e6


def test_other_weights_are_refused(tmp_path):
    other = tmp_path / "phantoms.safetensors"
    other.write_bytes(medrestore_phantoms.WEIGHTS.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="these are other weights"):
        SPECS["head"].load(LoadContext(weights=other))


def test_each_stage_expects_its_baseline_where_it_is_told_nothing_and_the_state_where_it_is_told_all(stages):
    for first, second, _ in stages.values():
        for stage, spacing, shape in ((first, 8.0, (24, 28, 24)), (second, 4.0, (48, 56, 48))):
            condition = stage.condition(torch.zeros(1, 1, *shape), spacing)
            state = condition.image + condition.sigma
            assert torch.allclose(stage.denoiser(state, 1e-6, condition), state, atol=1e-3)
            told_nothing = stage.denoiser(state, math.inf, condition)
            off = (told_nothing - condition.image).square().mean().sqrt()
            assert off < 0.5 * condition.sigma


def test_the_finer_network_resolves_a_head_that_it_never_saw(stages):
    scan = read(SCAN)
    array = torch.from_numpy(gaussian_filter(np.asarray(scan.array), 0.8))[None, None]
    array = array[..., :64, :64, :64] / array.quantile(0.95)
    fine = F.avg_pool3d(array, 2)
    coarse = F.avg_pool3d(torch.from_numpy(gaussian_filter(fine[0, 0].numpy(), 0.8))[None, None], 2)
    baseline = F.interpolate(coarse, scale_factor=2, mode="trilinear")
    stage = stages["head"][-1]
    condition = stage.condition(baseline, 2.0)
    expected = stage.denoiser(baseline, math.inf, condition)
    inner = (..., slice(4, -4), slice(4, -4), slice(4, -4))
    before, after = ((one - fine)[inner].square().mean().sqrt() for one in (baseline, expected))
    assert after < 0.9 * before
    noisy = fine + 0.05 * torch.randn(fine.shape, generator=torch.Generator().manual_seed(0))
    denoised = (stage.denoiser(noisy, 0.05, condition) - fine)[inner].square().mean().sqrt()
    assert denoised < 0.65 * 0.05


def test_a_head_has_a_scalp_and_a_brain_has_none(installed):
    slab = GenerateOptions(steps=8, seed=3, count=4, shape="96,112,8", spacing=2.0)
    made = {kind: [one.volume for one in generate(f"phantoms/{kind}", slab)] for kind in SPECS}
    for volume in (one for volumes in made.values() for one in volumes):
        assert volume.shape == (96, 112, 8)
        voxels = np.asarray(volume.array)
        assert 500 < voxels[38:58, 46:66].mean() < 1100
        assert voxels[:8, :8].mean() < 50
    # Some scalps are dark, and people differ in size.
    filled = {
        kind: np.mean([np.asarray(one.array) > 200 for one in volumes]) for kind, volumes in made.items()
    }
    assert filled["head"] > 1.2 * filled["brain"] > 0.1
