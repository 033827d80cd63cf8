# ruff: noqa: E402 - what imports deepinv comes after the question whether it is there
"""deepinv's algorithms draw from the posterior, with a prior for which it is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

deepinv = pytest.importorskip("deepinv", reason="needs deepinv and torchvision", exc_type=ImportError)

from medrestore_deepinv import PAPERS, medrestore_models, medrestore_operators, models
from medrestore_deepinv.blur import Blur
from medrestore_deepinv.denoiser import MedrestoreDenoiser
from medrestore_deepinv.models import ALGORITHMS, Problem, draw, reconstruction

from medrestore import LoadContext
from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ModelError
from medrestore.networks import build
from medrestore.testing import check_model, check_operator

SHAPE = (24, 16, 16)
SIGMA = 0.02


class Field:
    """Volumes that are a Gaussian field, independent in each cosine: every posterior has a closed form."""

    def __init__(self):
        self.blur = Blur(SHAPE, 1.0)
        each = [torch.arange(n) / n for n in SHAPE]
        power = (0.004 + each[0][:, None, None] ** 2 + each[1][:, None] ** 2 + each[2] ** 2) ** -1.4
        self.variance = (0.02 * power / power.mean())[None, None]
        generator = torch.Generator().manual_seed(1)
        unit, noise = (torch.randn((1, 1, *SHAPE), generator=generator) for _ in range(2))
        self.clean = 0.5 + self.blur.image(self.variance.sqrt() * unit)
        self.scan = self.blur.forward(self.clean) + SIGMA * noise

    def denoise(self, x, sigma, condition):
        """The best denoiser there is."""
        shrunk = self.variance / (self.variance + condition.sigma**2)
        return 0.5 + self.blur.image(shrunk * self.blur.spectrum(condition.image - 0.5))

    def posterior(self):
        """Its mean, and its deviation in each cosine."""
        gain, variance = self.blur.values, self.variance
        precision = 1 / variance + gain**2 / SIGMA**2
        return 0.5 + self.blur.image(
            gain / SIGMA**2 / precision * self.blur.spectrum(self.scan - 0.5)
        ), precision**-0.5


@pytest.fixture(scope="module")
def field():
    return Field()


def rms(volume):
    return float(volume.square().mean().sqrt())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_draws_are_spread_around_the_mean_of_the_posterior_as_it_is(field, algorithm, monkeypatch):
    monkeypatch.setattr(models, "DRAWS", 4)
    drawn = draw(algorithm, MedrestoreDenoiser(field.denoise), Problem(field.blur, field.scan, SIGMA))
    mean, spread = field.posterior()
    assert drawn.shape == (models.DRAWS, 1, 1, *SHAPE)
    # DDRM draws noise of half the variance that its own derivation has.
    low = 0.45 if algorithm == "ddrm" else 0.75
    assert low < rms(drawn - drawn.mean(dim=0)) / rms(spread) / math.sqrt(1 - 1 / models.DRAWS) < 1.25
    left = rms(drawn.mean(dim=0) - mean)
    assert left < 0.75 * rms(spread)
    made = reconstruction(algorithm, 1.0, LoadContext(), field.denoise)
    result = made(torch.zeros_like(field.scan), math.inf, Condition(field.scan, SIGMA))
    torch.testing.assert_close(result, drawn.mean(dim=0))
    # A mean over n draws strays from the truth by the root of 1 + 1 / n times the deviation of the posterior.
    assert rms(result - field.clean) < 1.15 * math.sqrt(1 + 1 / models.DRAWS) * rms(spread)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_noise_beyond_what_the_prior_starts_with_is_taken_out_and_no_blur(field, algorithm):
    sigma = 2 * models.HIGHEST
    scan = field.clean + sigma * torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    drawn = draw(algorithm, MedrestoreDenoiser(field.denoise), Problem(field.blur, scan, sigma))
    torch.testing.assert_close(
        drawn[0], field.denoise(None, None, Condition(scan, sigma)), atol=1e-4, rtol=1e-3
    )


def network(details=0):
    torch.manual_seed(0)
    made = build("voxelnet", {"widths": [8, 8], "down": [1, 1], "up": [1], "details": details})
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made.requires_grad_(False)


def test_a_denoiser_of_medrestore_is_one_of_deepinv():
    denoiser = TwoMeasurementDenoiser(network(4))
    ours = MedrestoreDenoiser(denoiser, colour=True, scale=0.5)
    assert isinstance(ours, deepinv.models.Denoiser)
    x = torch.rand(2, 1, 8, 8, 8)
    sigmas = torch.tensor([0.02, 0.05])
    made = ours(x, sigmas)
    for index, sigma in enumerate(sigmas.tolist()):
        image = x[index : index + 1] / 0.5
        want = denoiser(image, math.inf, Condition(image, sigma / 0.5, details=(0.0, 0.0, 0.0, 1.0)))
        torch.testing.assert_close(made[index : index + 1], want * 0.5)
    torch.testing.assert_close(ours(x[:1], 0.02), made[:1])
    assert ours(x, 0.0) is not None and torch.equal(ours(x, 0.0), x)
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.05))
    found = deepinv.models.ArtifactRemoval(ours)(x, physics)  # what deepinv makes of any of its denoisers
    torch.testing.assert_close(found, ours(x, 0.05))


def test_gradients_pass_through_it():
    ours = MedrestoreDenoiser(TwoMeasurementDenoiser(network()))
    x = torch.rand(1, 1, 8, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(ours(x, 0.1).sum(), x)
    step = torch.zeros_like(x)
    step[0, 0, 3, 4, 5] = 1e-2
    with torch.no_grad():
        change = float((ours(x + step, 0.1).double() - ours(x - step, 0.1).double()).sum()) / 2e-2
    assert float(slope[0, 0, 3, 4, 5]) == pytest.approx(change, rel=0.05, abs=2e-2)


def test_the_operator_is_linear_with_its_adjoint_and_keeps_a_constant():
    (spec,) = medrestore_operators()
    check_operator(spec)
    constant = torch.ones(1, 1, 9, 10, 11)
    torch.testing.assert_close(Blur((9, 10, 11), 1.0).forward(constant), constant)


def test_the_blur_is_a_gaussian_one():
    point = torch.zeros(1, 1, 33, 9, 9)
    point[0, 0, 16, 4, 4] = 1
    profile = Blur((33, 9, 9), 1.0).forward(point).sum(dim=(0, 1, 3, 4))
    place = torch.arange(33) - 16.0
    assert float((profile * place**2).sum()) == pytest.approx(1.0, abs=0.02)


def test_models_that_are_no_denoisers_are_refused():
    with pytest.raises(ModelError, match="does not denoise alone"):
        MedrestoreDenoiser.of_model("mr-superres")


def test_what_is_declared_is_what_there_is():
    specs = medrestore_models()
    assert {spec.name for spec in specs} == {f"{name}-deblur" for name in ALGORITHMS}
    assert PAPERS.keys() == ALGORITHMS.keys()
    assert {spec.operator for spec in specs} == {"deepinv/blur"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_models_keep_the_contract(algorithm, field, monkeypatch):
    """With a network that takes no time; what is tried is what is around it."""
    from dataclasses import replace

    monkeypatch.setattr(models, "STEPS", 4)
    monkeypatch.setattr(models, "DRAWS", 2)
    (spec,) = [spec for spec in medrestore_models() if spec.name.startswith(algorithm)]
    prior = TwoMeasurementDenoiser(network())
    check_model(replace(spec, load=lambda context: reconstruction(algorithm, 1.0, context, prior)))
