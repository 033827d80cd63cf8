"""A plugin's network is trained, exported and restored with; its models say that they need the plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plugin_site import Site
from tiny import MODEL, noisy, phantom, save

from medrestore.errors import ModelError, PluginError
from medrestore.plugin.extensions.networks import build_network, check_network
from medrestore.plugin.host import plugins

CONFIG = """
[data]
roots = ["."]
scans = ["clean.nii"]

[network]
name = "{network}"
options = {options}

[loop]
steps = 2
batch = 1
patch = 16
warmup = 1
validate_steps = 0
bfloat16 = false

[model]
{model}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    save(tmp_path / "clean.nii", phantom(24))
    model = "\n".join(f"{key} = {value!r}" for key, value in MODEL.items())
    options = "{ width = 4, depth = 1 }"
    path = tmp_path / "train.toml"
    path.write_text(CONFIG.format(network="examples/cnn", options=options, model=model))
    return path


@pytest.fixture
def trained(examples, config, command) -> Path:
    """The folder of a model that was trained for two steps."""
    pytest.importorskip("tomli_w")
    status, _, error = command("train", config, "-o", config.parent / "work")
    assert status == 0, error
    return config.parent / "work" / "model"


def test_it_is_trained_and_restored_with_and_the_record_names_it(trained, tmp_path, command):
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))
    out = tmp_path / "out.nii.gz"
    status, _, error = command("restore", scan, "-o", out, "--model", trained, "--device", "cpu")
    assert status == 0, error
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["model"]["plugin"], record["model"]["network"]) == ("folder", "examples/cnn")
    assert record["versions"]["medrestore-examples"] == "0.1.0"


def test_training_starts_from_such_a_model_too(trained, config, command):
    status, _, error = command("train", config, "-o", config.parent / "again", "--init", trained)
    assert status == 0, error


def test_its_weights_are_those_of_the_network_or_the_model_is_refused(trained, tmp_path, command):
    description = trained / "model.toml"
    description.write_text(description.read_text().replace("width = 4", "width = 8"))
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))
    status, _, error = command("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", trained)
    assert status == 2
    assert "the weights do not fit the network 'examples/cnn'" in error


def test_without_the_plugin_the_model_says_what_is_missing(trained, tmp_path, command, monkeypatch):
    monkeypatch.setenv("MEDRESTORE_PLUGINS", "none")
    plugins.cache_clear()
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))
    status, _, error = command("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", trained)
    assert status == 2
    assert "no network is named 'examples/cnn'; the plugin 'examples' is disabled" in error


NETWORK = """
import torch
from medrestore import hookimpl
from medrestore.plugin import NetworkSpec

class Odd(torch.nn.Module):
    halo, multiple = {sizes}
    def forward(self, inputs, levels):
        return {result}

@hookimpl
def medrestore_networks():
    return [NetworkSpec(name="odd", title="Odd", build={build})]
"""


def add(site: Site, sizes: str = "1, 1", result: str = "inputs[:, :1]", build: str = "Odd") -> None:
    site.add("bad", NETWORK.format(sizes=sizes, result=result, build=build))


def test_a_fine_one_is_taken(site):
    add(site)
    check_network(build_network("bad/odd", {}), "bad/odd", 0)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"build": "lambda: 1 / 0"}, r"network 'bad/odd': build raised ZeroDivisionError"),
        ({"build": "lambda: print"}, "build returned builtin_function_or_method; expected a torch.nn.Module"),
        ({"sizes": "None, 1"}, "its network has halo None; expected a whole number, 0 or more"),
        ({"sizes": "1, 0"}, "its network has multiple 0; expected a whole number, 1 or more"),
        ({"result": "1 / 0"}, "forward raised ZeroDivisionError"),
        ({"result": "inputs"}, r"forward returned \(1, 4, 16, 16, 16\); expected a tensor of \(1, 1, 16"),
    ],
)
def test_one_that_breaks_its_contract_is_named_before_it_is_trained(site, how, message):
    add(site, **how)
    with pytest.raises(PluginError, match=message) as caught:
        check_network(build_network("bad/odd", {}), "bad/odd", 0)
    assert "plugin 'bad' (dist-bad 1.2)" in str(caught.value)


def test_wrong_options_are_the_error_of_the_network(examples):
    with pytest.raises(PluginError, match=r"network 'examples/cnn': build raised TypeError: .*widht"):
        build_network("examples/cnn", {"widht": 8})


def test_a_name_that_is_nearly_right_is_guessed(examples):
    with pytest.raises(ModelError, match=r"no network is named 'examples/cmm'; did you mean examples/cnn\?"):
        build_network("examples/cmm", {})


def test_a_model_folder_that_fails_to_build_names_folder_and_plugin_once(trained, tmp_path, command):
    description = trained / "model.toml"
    description.write_text(description.read_text().replace("width = 4", "widht = 4"))
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(24), 0.05))
    status, _, error = command("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", trained)
    assert status == 2
    assert error.startswith(f"medrestore: model folder {trained} with the network 'examples/cnn': plugin")
    assert error.count("; expected") == 1
