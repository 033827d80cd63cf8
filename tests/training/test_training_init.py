"""`medrestore train --init`: training starts from a trained model, or says why it cannot."""

from __future__ import annotations

import re
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny import MODEL, NETWORK, CommandLine, model_folder, phantom, save

from medrestore.errors import ModelError
from medrestore.networks import build
from medrestore.networks.widen import widen
from medrestore.provenance import ModelRef
from medrestore.training import load_config, train
from medrestore.training.train import weights_of

ONE_LEVEL = {"widths": [8], "down": [1], "up": []}

CONFIG = """
[data]
roots = ["."]
scans = ["scan.nii"]
spacings_mm = []

[network]
name = "voxelnet"
options = {{ widths = {widths}, down = [1, 1], up = [1] }}

[loop]
steps = {steps}
batch = 1
patch = 16
rate = {rate}
warmup = 1
validate_steps = 0
bfloat16 = false

[model]
{model}
"""


@pytest.fixture
def start(tmp_path):
    return model_folder(tmp_path / "start")


@pytest.fixture
def configured(tmp_path):
    """Return a function that writes a configuration and reads it."""
    save(tmp_path / "scan.nii", phantom(24))
    path = tmp_path / "train.toml"

    def configure(*, steps: int = 1, rate: float = 0.0, widths: tuple[int, ...] = (8, 8)):
        model = "\n".join(f"{key} = {value!r}" for key, value in MODEL.items())
        path.write_text(CONFIG.format(steps=steps, rate=rate, widths=list(widths), model=model))
        return path, load_config(path)

    return configure


def weights(folder):
    return load_file(folder / "model.safetensors")


def distance(left, right) -> float:
    assert left.keys() == right.keys()
    return max(float((left[key].float() - right[key].float()).abs().max()) for key in left)


def test_training_that_does_not_learn_gives_the_model_that_it_began_with(configured, start, tmp_path):
    _, config = configured(rate=0.0)
    train(config, tmp_path, tmp_path / "work", init=str(start))
    assert distance(weights(tmp_path / "work" / "model"), weights(start)) == 0
    train(config, tmp_path, tmp_path / "fresh")
    assert distance(weights(tmp_path / "fresh" / "model"), weights(start)) > 0.01


def test_training_goes_on_from_the_model(configured, start, tmp_path):
    _, config = configured(steps=3, rate=1e-4)
    train(config, tmp_path, tmp_path / "work", init=str(start))
    moved = distance(weights(tmp_path / "work" / "model"), weights(start))
    assert 0 < moved < 0.01


def test_a_checkpoint_comes_before_the_model(configured, start, tmp_path):
    _, config = configured(rate=0.0)
    train(config, tmp_path, tmp_path / "work")
    before = weights(tmp_path / "work" / "model")
    _, longer = configured(steps=2, rate=0.0)
    train(longer, tmp_path, tmp_path / "work", init=str(start))
    assert distance(weights(tmp_path / "work" / "model"), before) == 0
    assert "random weights" in (tmp_path / "work" / "model" / "README.md").read_text()


def test_the_card_names_where_the_weights_come_from_after_a_break(configured, start, tmp_path):
    _, config = configured(rate=0.0)
    train(config, tmp_path, tmp_path / "work", init=str(start))
    _, longer = configured(steps=2, rate=0.0)
    train(longer, tmp_path, tmp_path / "work")
    assert "the weights of tiny (sha256" in (tmp_path / "work" / "model" / "README.md").read_text()


def test_the_command_line_takes_a_folder(configured, start, tmp_path, monkeypatch, capsys):
    path, _ = configured(rate=0.0)
    cli = CommandLine(monkeypatch, capsys)
    status, out, err = cli("train", path, "-o", tmp_path / "work", "--init", start, "--device", "cpu")
    assert status == 0, err
    assert str(tmp_path / "work" / "model") in out
    assert distance(weights(tmp_path / "work" / "model"), weights(start)) == 0


@pytest.mark.parametrize("widths", [(8, 16), (24, 8), (4, 8)], ids=["deeper level", "too wide", "narrower"])
def test_another_network_is_refused_before_anything_is_written(configured, start, tmp_path, widths):
    _, config = configured(widths=widths)
    with pytest.raises(ModelError, match=r"another network.*\[network\]"):
        train(config, tmp_path, tmp_path / "work", init=str(start))
    assert not (tmp_path / "work" / "checkpoint.pt").exists()


def test_there_has_to_be_such_a_model(configured, tmp_path):
    _, config = configured()
    with pytest.raises(ModelError, match="nowhere"):
        train(config, tmp_path, tmp_path / "work", init=str(tmp_path / "nowhere"))


def test_a_model_without_a_network_is_refused(monkeypatch):
    class Spec:
        def load(self, context):
            return lambda x, sigma, condition: x

    ref = ModelRef("medrestore/filter", "medrestore")
    module = sys.modules[weights_of.__module__]  # the package has a function of the same name
    monkeypatch.setattr(module, "find_model", lambda options, modality: (ref, Spec()))
    with pytest.raises(ModelError, match="medrestore/filter has no network"):
        weights_of("medrestore/filter")


def test_details_that_are_new_to_a_network_have_no_effect_at_first(start):
    torch.manual_seed(1)
    old = build("voxelnet", NETWORK).eval()
    old.load_compatible_weights(weights_of(str(start))[1])
    wide = build("voxelnet", {**NETWORK, "details": 3}).eval()
    wide.load_compatible_weights(weights_of(str(start))[1])
    inputs, levels = torch.randn(2, 4, 16, 16, 16), torch.randn(2, 2)
    with torch.no_grad():
        expected = old(inputs, levels)
        assert expected.std() > 0
        for details in (torch.zeros(2, 3), torch.randn(2, 3)):
            torch.testing.assert_close(wide(inputs, torch.cat([levels, details], dim=1)), expected)


def test_details_learn(start):
    wide = build("voxelnet", {**NETWORK, "details": 3})
    wide.load_compatible_weights(weights_of(str(start))[1])
    levels = torch.randn(2, 5)
    wide(torch.randn(2, 4, 16, 16, 16), levels).square().mean().backward()
    gradient = wide.embed[0].weight.grad.unflatten(1, (2, 5, -1))
    assert gradient[:, :, 2:].abs().max() > 0


@pytest.mark.parametrize("network", [NETWORK, ONE_LEVEL], ids=["two levels", "one level"])
def test_a_network_with_all_its_channels_doubled_does_the_same(tmp_path, network):
    trained = weights_of(str(model_folder(tmp_path / "start", network)))[1]
    old = build("voxelnet", network).eval()
    old.load_compatible_weights(trained)
    wide = build("voxelnet", {**network, "widths": [2 * network["widths"][0], *network["widths"][1:]]}).eval()
    wide.load_compatible_weights(trained)
    inputs, levels = torch.randn(2, 4, 16, 16, 16), torch.randn(2, 2)
    with torch.no_grad():
        expected = old(inputs, levels)
        assert expected.std() > 0
        torch.testing.assert_close(wide(inputs, levels), expected, rtol=1e-4, atol=1e-5)
    # Channels that are the same at first learn different things.
    wide.train()(inputs, levels).square().mean().backward()
    gradient = wide.down[0][0].conv_in.weight.grad
    assert torch.unique(gradient, dim=0).shape == gradient.shape


def test_some_more_channels_change_little_and_more_than_twice_as_many_are_refused(start):
    trained = weights_of(str(start))[1]
    channels = NETWORK["widths"][0]
    levels = torch.zeros(1, 2)
    inputs = torch.randn(1, 4, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    networks = {}
    for width in (channels, channels + 2):
        networks[width] = build("voxelnet", {**NETWORK, "widths": [width, *NETWORK["widths"][1:]]}).eval()
        networks[width].load_compatible_weights(trained)
    with torch.no_grad():
        old, wide = (network(inputs, levels) for network in networks.values())
    assert torch.corrcoef(torch.stack([old.flatten(), wide.flatten()]))[0, 1] > 0.8
    with pytest.raises(ValueError, match=f"{channels} to {2 * channels}, not {2 * channels + 1}"):
        widen(trained, 2 * channels + 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same(configured, tmp_path):
    path, _ = configured(steps=2, rate=1e-3)
    # Compiling is what takes long, for each level of the network anew.
    start = model_folder(tmp_path / "start", ONE_LEVEL)
    table = ", ".join(f"{key} = {value}" for key, value in ONE_LEVEL.items())
    path.write_text(re.sub(r"options = {.*}", f"options = {{ {table} }}", path.read_text()))
    trained = []
    for number, more in enumerate(("", "compile = true\n")):
        path.write_text(path.read_text().replace("[loop]\n", f"[loop]\n{more}"))
        folder = tmp_path / f"work{number}"
        train(load_config(path), tmp_path, folder, init=str(start))
        trained.append(weights(folder / "model"))
    assert distance(trained[0], weights(start)) > 0
    assert distance(*trained) < 1e-3 * distance(trained[0], weights(start)) + 1e-3
