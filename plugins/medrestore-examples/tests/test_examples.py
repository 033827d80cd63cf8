from __future__ import annotations

import json

import medrestore_examples
import numpy as np
import pytest
import torch
from medrestore_examples.generator import power

from medrestore import LoadContext
from medrestore.diffusion import euler, heun, karras_levels, volume_noise
from medrestore.testing import check_model, check_operator


def test_the_correlation_is_that_of_the_voxels_in_the_mask():
    (spec,) = medrestore_examples.medrestore_metrics()
    image = np.random.default_rng(0).random((4, 4, 4))
    reference = 3 * image + 1
    reference[0] = 0
    mask = np.ones(image.shape, dtype=bool)
    mask[0] = False
    assert spec.compute(image, reference, 1.0, mask) == pytest.approx(1)
    assert spec.compute(image, reference, 1.0, None) < 0.99


def test_what_the_network_predicts_depends_on_no_voxel_beyond_its_halo():
    (spec,) = medrestore_examples.medrestore_networks()
    torch.manual_seed(0)
    network = spec.build(width=4, depth=2)
    side = 2 * network.halo + 3
    inputs, levels = torch.randn(1, 4, side, side, side), torch.randn(1, 2)
    changed = inputs.clone()
    changed[:, :, 0] += 1
    difference = (network(inputs, levels) - network(changed, levels)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[network.halo] > 0
    assert difference[network.halo + 1 :].max() == 0


def test_the_sampler_follows_the_flow_more_closely_than_euler():
    (spec,) = medrestore_examples.medrestore_samplers()
    levels = karras_levels(10, 2.0, 0.05)
    evaluated = []

    def denoise(x, sigma):  # of a volume whose voxels are drawn from a unit normal
        evaluated.append(sigma)
        return x / (1 + sigma**2)

    x = torch.full((1, 1, 2, 2, 2), 3.0)
    exact = x / (1 + levels[0] ** 2) ** 0.5
    found = spec.sample(denoise, x, levels, torch.zeros, None)
    assert len(evaluated) == spec.evaluations(10)
    assert (found - exact).abs().max() < 0.25 * (euler(denoise, x, levels) - exact).abs().max()


@pytest.mark.parametrize("sigma", [5.0, 40.0])
def test_the_estimator_finds_white_noise_on_smooth_tissue(sigma):
    (spec,) = medrestore_examples.medrestore_noise_estimators()
    ramp = np.linspace(600, 1000, 32)[:, None, None] * np.ones((32, 32, 32))
    scan = ramp + sigma * np.random.default_rng(0).standard_normal(ramp.shape)
    assert spec.estimate(scan, (1.0, 1.0, 1.0)) == pytest.approx(sigma, rel=0.05)


def test_the_operator_and_its_model_keep_their_contracts():
    from medrestore_examples.operator import HALO

    (operator,), (model,) = (
        medrestore_examples.medrestore_operators(),
        medrestore_examples.medrestore_models(),
    )
    check_operator(operator)
    check_model(model)
    assert (model.operator, model.halo) == (f"examples/{operator.name}", HALO)


def test_a_failure_is_a_line_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRESTORE_EXAMPLES_LOG", str(tmp_path / "log.jsonl"))
    medrestore_examples.medrestore_case_failed("scan.nii", "no NIfTI")
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == {"event": "failed", "source": "scan.nii", "error": "no NIfTI"}


def test_without_a_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDRESTORE_EXAMPLES_LOG", raising=False)
    medrestore_examples.medrestore_case_failed("scan.nii", "no NIfTI")
    assert list(tmp_path.iterdir()) == []


def test_clouds_have_the_spectrum_that_their_denoiser_knows():
    (spec,) = medrestore_examples.medrestore_generators()
    (stage,) = spec.load(LoadContext())
    shape, levels = (24, 24, 24), karras_levels(40, *stage.levels)
    condition = stage.condition(torch.zeros(1, 1, *shape), 1.0)
    found = torch.zeros(24, 24, 13)
    for seed in range(8):
        start = levels[0] * volume_noise((1, 1, *shape), (seed,))
        cloud = heun(lambda x, sigma: stage.denoiser(x, sigma, condition), start, levels)[0, 0]
        found += torch.fft.rfftn(cloud).abs().square() / cloud.numel() / 8
    expected = power(shape)
    for low, high in ((0.05, 0.15), (0.15, 0.3), (0.3, 0.5)):
        axis = torch.fft.rfftfreq(24)
        band = (axis > low) & (axis < high)
        ratio = found[0, 0, band].mean() / expected[0, 0, band].mean()
        assert 0.5 < ratio < 2
    assert float(found[0, 0, 0]) < 1e-3
    assert float(expected[0, 0, 1] / expected[0, 0, 4]) == pytest.approx(4**3, rel=1e-4)
