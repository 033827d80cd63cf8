"""Signals through the diffusion core: what is trained leaves less noise than filters told as much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrestore_signal import medrestore_verbs, wiener
from medrestore_signal.fit import Recipe, fit
from medrestore_signal.model import Shape, SignalModel, load, posterior, restore, sample
from medrestore_signal.network import SignalNet
from typer.testing import CliRunner

from medrestore.errors import InputError, ModelError

NOISE = 0.3


def steps(count: int, length: int, seed: int) -> list[np.ndarray]:
    """Signals of two channels, of jumps at random places: what no linear filter keeps."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        jumps = rng.standard_normal((2, length)) * (rng.random(length) < 0.08) * [[1.0], [3.0]]
        signal = np.cumsum(jumps, axis=1)
        centred = signal - signal.mean(axis=1, keepdims=True)
        made.append(np.add(centred, [[5.0], [-20.0]]).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def model():
    return fit(steps(60, 64, seed=0), Recipe(steps=150, batch=8, width=24, rate=4e-3))


class Gaussian(torch.nn.Module):
    """The best network there is for signals whose places are drawn from a unit normal."""

    def forward(self, inputs, levels):
        mean = inputs[:, : inputs.shape[1] // 4]
        k = levels[:, 0].exp()[:, None, None]
        return -k * mean / (1 + k**2)


def gaussian():
    """Return a model of signals that have mean 3 and -1 and deviation 2 and 5 in their channels."""
    return SignalModel(Shape(2), Gaussian(), torch.tensor([3.0, -1.0]), torch.tensor([2.0, 5.0]))


@pytest.fixture(scope="module")
def noisy():
    """Return test signals, what white noise makes of them, and its deviation in each channel."""
    clean = np.stack(steps(20, 64, seed=1))
    sigma = [NOISE * float(clean[:, channel].std()) for channel in range(2)]
    noise = np.random.default_rng(2).standard_normal(clean.shape) * np.reshape(sigma, (1, 2, 1))
    return clean, (clean + noise).astype(np.float32), sigma


def error(made, clean, sigma):
    """Root mean square error over the noise, all channels alike."""
    return float(np.sqrt(np.mean(np.square((made - clean) / np.reshape(sigma, (1, 2, 1))))))


def test_less_is_left_than_by_filters_that_are_told_the_noise(model, noisy):
    clean, seen, sigma = noisy
    left = error(restore(model, seen, sigma), clean, sigma)
    each = np.reshape(sigma, (2, 1))
    filters = [
        wiener.Spectral([one / each for one in steps(60, 64, seed=0)], together=both) for both in (0, 1)
    ]
    linear = [error(np.stack([f(one / each, 1.0) * each for one in seen]), clean, sigma) for f in filters]
    local = error(np.stack([wiener.local(one / each, 1.0, 5) * each for one in seen]), clean, sigma)
    assert left < 0.95 * min(*linear, local)
    assert max(*linear, local) < 0.8, "the filters are no straw men"


def test_samples_are_spread_as_the_posterior_is():
    model, sigma = gaussian(), [1.0, 5.0]
    rng = np.random.default_rng(0)
    clean = np.array([[3.0], [-1.0]]) + np.array([[2.0], [5.0]]) * rng.standard_normal((2, 4000))
    seen = (clean + np.reshape(sigma, (2, 1)) * rng.standard_normal((2, 4000))).astype("f4")[None]
    drawn = posterior(model, seen, sigma, steps=60)[0]
    np.testing.assert_array_equal(drawn, posterior(model, seen, sigma, steps=60)[0])
    for channel, scale in enumerate([2.0, 5.0]):
        # A network is told the level of all channels together: where they differ, too much or too little.
        assert np.std(drawn[channel] - clean[channel]) < 1.6 * (scale**-2 + sigma[channel] ** -2) ** -0.5
        assert drawn[channel].std() == pytest.approx(scale, rel=0.1)


def test_signals_from_noise_have_the_mean_and_the_spread_of_those_of_the_model():
    made = sample(gaussian(), (4, 2, 3000), steps=40)
    assert made.mean(axis=(0, 2)) == pytest.approx([3.0, -1.0], abs=0.15)
    assert made.std(axis=(0, 2)) == pytest.approx([2.0, 5.0], rel=0.05)
    assert not np.array_equal(made[0], made[1])


def test_a_spectral_filter_is_the_best_linear_estimate():
    rng = np.random.default_rng(0)
    # An autoregressive process, whose filter is known: correlation 0.9^lag.
    white = rng.standard_normal((400, 300))
    process = np.zeros_like(white)
    for n in range(1, 300):
        process[:, n] = 0.9 * process[:, n - 1] + np.sqrt(1 - 0.81) * white[:, n]
    signals = [one[None, 200:] for one in process]
    found = wiener.Spectral(signals[:300], together=False)
    covariance = 0.9 ** np.abs(np.subtract.outer(np.arange(100), np.arange(100)))
    best = (
        np.trace(covariance - covariance @ np.linalg.solve(covariance + 0.25 * np.eye(100), covariance)) / 100
    )
    noise = 0.5 * rng.standard_normal((100, 1, 100))
    left = np.mean([(found(one + n, 0.5) - one) ** 2 for one, n in zip(signals[300:], noise, strict=True)])
    assert left == pytest.approx(best, rel=0.06)


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, 3, 17)), (2, (2, 3, 9, 11)), (3, (1, 3, 5, 6, 7))])
def test_one_network_takes_signals_pictures_and_volumes(axes, shape):
    network = SignalNet(3, axes, width=8, dilations=(1, 2))
    torch.nn.init.normal_(network.last.weight)
    inputs = torch.randn(shape[0], 12, *shape[2:])
    assert network(inputs, torch.randn(shape[0], 2)).shape == shape
    # The items of a batch do not mix.
    alone = network(inputs[:1], torch.zeros(1, 2))
    torch.testing.assert_close(network(inputs, torch.zeros(shape[0], 2))[:1], alone)


def test_colour_pictures_are_learnt_by_the_same_code():
    rng = np.random.default_rng(0)
    ramps = np.linspace(-1, 1, 16)
    pictures = [
        (np.add.outer(a * ramps, b * ramps)[None] * rng.random((3, 1, 1)) + rng.random((3, 1, 1))).astype(
            "f4"
        )
        for a, b in rng.standard_normal((12, 2))
    ]
    model = fit(pictures, Recipe(steps=40, batch=4, width=8, window=16, rate=8e-3))
    clean = np.stack(pictures[:4])
    sigma = 0.3 * float(clean.std())
    seen = clean + sigma * rng.standard_normal(clean.shape).astype("f4")
    assert np.square(restore(model, seen, sigma) - clean).mean() < 0.5 * sigma**2


def test_a_model_is_the_same_after_it_was_kept_in_a_file(model, noisy, tmp_path):
    _, seen, sigma = noisy
    model.save(tmp_path / "steps.safetensors")
    kept = load(tmp_path / "steps.safetensors")
    np.testing.assert_array_equal(restore(kept, seen, sigma), restore(model, seen, sigma))


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"x" * 4000])
def test_what_is_no_model_is_refused(content, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="no model of signals"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("shape", [(2, 64), (1, 3, 64), (1, 2, 8, 8)])
def test_signals_of_another_shape_are_refused(model, shape):
    with pytest.raises(InputError, match="expected"):
        restore(model, np.zeros(shape, np.float32), 0.1)


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan"), float("inf"), [0.1, 0.0], [0.1, 0.1, 0.1]])
def test_levels_that_are_not_above_zero_are_refused(sigma):
    with pytest.raises(InputError, match=r"sigma is .*; expected a number above 0"):
        restore(gaussian(), np.zeros((1, 2, 8), np.float32), sigma)


def test_signals_that_cannot_be_learnt_are_refused():
    for wrong in ([], [np.zeros((1, 9), "f4")], [np.ones((1, 9), "f4"), np.ones((2, 9), "f4")]):
        with pytest.raises(InputError):
            fit(wrong, Recipe(steps=1))


def test_the_commands_train_restore_and_generate(tmp_path, noisy):
    _, seen, _ = noisy
    np.save(tmp_path / "clean.npy", np.stack(steps(8, 32, seed=0)))
    seen = seen[:2]
    np.save(tmp_path / "noisy.npy", seen)
    app, kept = medrestore_verbs()[0].load(), str(tmp_path / "m.safetensors")
    run = CliRunner().invoke

    def files(*names):
        return [str(tmp_path / name) for name in names]

    assert run(app, ["train", *files("clean.npy"), "-o", kept, "--steps", "1"]).exit_code == 0
    asked = ["restore", *files("noisy.npy"), "-o", *files("out.npy"), "--model", kept, "--sigma", "1"]
    assert run(app, asked).exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == seen.shape
    refused = run(app, asked)  # a second time the file is there
    assert "is there already" in str(refused.exception)
    np.save(tmp_path / "keep.npy", np.zeros(3))
    asked[3] = str(tmp_path / "keep")
    assert run(app, asked).exit_code == 0
    assert np.load(tmp_path / "keep.npy").shape == (3,)
    assert np.load(tmp_path / "keep").shape == seen.shape
    made = run(app, ["generate", "-o", *files("made.npy"), "--model", kept, "--count", "2", "--length", "16"])
    assert made.exit_code == 0
    assert np.load(tmp_path / "made.npy").shape == (2, 2, 16)
