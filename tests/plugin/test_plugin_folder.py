"""A folder with model.toml and model.safetensors is a model; the shipped ones are such folders."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import medrestore
from medrestore.diffusion import Condition
from medrestore.errors import ModelError
from medrestore.networks import build
from medrestore.plugin import Intensity, LoadContext, read_model_folder
from medrestore.testing import check_model
from medrestore.types import Modality, Task

OPTIONS = {"widths": [8, 16], "down": [1, 1], "up": [1]}

DESCRIPTION = """
name = "tiny"
title = "A tiny network"
task = "denoise"
modalities = ["MR", "unknown"]
licence = "MIT"
reference = "none"
intensity = "p99"
spacing_mm = [0.5, 2]
noise = [0.01, 0.15]
halo = {halo}
multiple = 4
outputs = ["mean", "sample"]
dtypes = ["float32", "bfloat16"]

[network]
name = "voxelnet"
options = {{ widths = [8, 16], down = [1, 1], up = [1] }}

[weights]
file = "model.safetensors"
sha256 = "{sha256}"
"""


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = build("voxelnet", OPTIONS)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # a fresh network has zeros where it would hide mistakes
    return network.eval()


@pytest.fixture
def folder(tmp_path, network) -> Path:
    weights = tmp_path / "model.safetensors"
    save_file(network.state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "model.toml").write_text(DESCRIPTION.format(sha256=sha256, halo=network.halo))
    return tmp_path


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "model.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_every_field_is_read(folder, network):
    spec = read_model_folder(folder)
    assert (spec.name, spec.title, spec.task, spec.licence) == ("tiny", "A tiny network", Task.DENOISE, "MIT")
    assert spec.modalities == (Modality.MR, Modality.UNKNOWN)
    assert (spec.intensity, spec.spacing_mm, spec.noise) == (Intensity.P99, (0.5, 2), (0.01, 0.15))
    assert (spec.halo, spec.multiple, spec.outputs) == (network.halo, 4, {"mean", "sample"})
    assert spec.dtypes == ("float32", "bfloat16")
    assert spec.weights == folder / "model.safetensors"
    assert (spec.api, len(spec.sha256 or "")) == (1, 64)


def test_the_loaded_denoiser_is_the_saved_network(folder, network):
    from medrestore.diffusion import TwoMeasurementDenoiser

    scan = Condition(torch.rand(1, 1, 8, 8, 8), 0.1)
    state = torch.rand(1, 1, 8, 8, 8)
    loaded = read_model_folder(folder).load(LoadContext())
    expected = TwoMeasurementDenoiser(network, None)
    for sigma in (math.inf, 0.2):
        torch.testing.assert_close(loaded(state, sigma, scan), expected(state, sigma, scan))
    assert not torch.equal(loaded(state, 0.2, scan), scan.image)


def test_weights_may_lie_elsewhere_but_must_be_the_same(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "w.safetensors"
    spec = read_model_folder(folder)
    elsewhere.write_bytes((folder / "model.safetensors").read_bytes())
    spec.load(LoadContext(weights=elsewhere))
    elsewhere.write_bytes(elsewhere.read_bytes() + b"\0")
    with pytest.raises(
        ModelError, match=r"w\.safetensors: the weights are not those .* expected " + (spec.sha256 or "")
    ):
        spec.load(LoadContext(weights=elsewhere))


def test_the_model_of_a_folder_keeps_the_contract(folder):
    check_model(read_model_folder(folder))


def test_weights_that_do_not_fit_the_network_are_refused(folder):
    edit(folder, "widths = [8, 16]", "widths = [8, 24]")
    with pytest.raises(ModelError, match="do not fit the network 'voxelnet'"):
        read_model_folder(folder).load(LoadContext())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("halo =", "hallo =", "unknown key 'hallo'; did you mean 'halo'"),
        ('title = "A tiny network"', "", "missing: title"),
        ('task = "denoise"', 'task = "deblur"', "task has 'deblur'; expected one of 'denoise', 'superres'"),
        ('"MR", "unknown"', '"MRI"', "modalities has 'MRI'; expected one of 'MR', 'CT'"),
        ('modalities = ["MR", "unknown"]', "modalities = 1", "a key has a value of the wrong kind"),
        ('outputs = ["mean", "sample"]', "outputs = true", "a key has a value of the wrong kind"),
        ('intensity = "p99"', 'intensity = "p95"', "intensity has 'p95'"),
        ("[0.01, 0.15]", "[0.15, 0.01]", "noise is"),
        ("multiple = 4", "multiple = 4.0", "multiple is 4.0"),
        ('name = "tiny"', "api = 2", "missing: name"),
        ('name = "tiny"', 'name = "tiny"\napi = 3', "plugin API 3"),
        ("options =", "kwargs =", "unknown key 'network.kwargs'; known: name, options"),
        ("[weights]", "[weight]", r"the table \[weights\] is missing; expected keys: file, sha256"),
        ('file = "model', 'file = "../model', "weights.file is '../model.safetensors'"),
        ('file = "model', 'file = "other', "weights.file is 'other.safetensors'"),
        ('sha256 = "', 'sha256 = "x', "sha256 is"),
        ("halo =", "halo", "not TOML"),
    ],
)
def test_a_wrong_description_says_what_and_where(folder, old, new, message):
    edit(folder, old, new)
    with pytest.raises(ModelError, match=message) as caught:
        read_model_folder(folder)
    assert str(folder / "model.toml") in str(caught.value)


def test_a_folder_that_is_no_model_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"not a model folder, .* cannot be read: No such file"):
        read_model_folder(tmp_path)
    with pytest.raises(ModelError, match="not a model folder"):
        read_model_folder(tmp_path / "absent")


def test_every_shipped_folder_is_listed_by_the_builtin_plugin():
    from medrestore.builtin import MODELS, medrestore_models

    specs = medrestore_models()
    assert [spec.weights.parent.name for spec in specs if spec.weights] == sorted(
        path.parent.name for path in MODELS.glob("*/model.toml")
    )
    assert all(spec.name == spec.weights.parent.name for spec in specs if spec.weights)


@pytest.mark.slow
def test_the_wheel_carries_models_types_and_entry_points(tmp_path):
    pytest.importorskip("hatchling")
    root = Path(medrestore.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("needs the source tree")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    shipped = {
        str(path.relative_to(root))
        for path in (root / "medrestore").rglob("*")
        if path.is_file() and path.suffix in {".py", ".toml", ".safetensors", ".md", ".typed", ".in"}
    }
    assert shipped <= names
    assert not [name for name in names if name.startswith(("tests/", "plugins/", "sample_data/"))]
    assert "medrestore = medrestore.builtin" in entry_points
