"""Bundles of MONAI become models; nothing executes."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from medrestore_monai.bundle import read_bundle, read_weights
from medrestore_monai.importing import Stated, import_bundle
from medrestore_monai.network import (
    BundleNetwork,
    Diffusion,
    RectifiedFlow,
    build_bundle_network,
    predict_clean,
)
from medrestore_monai.verb import app
from typer.testing import CliRunner

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.diffusion import Condition, TwoMeasurementDenoiser, euler, karras_levels
from medrestore.errors import MedrestoreError, ModelError
from medrestore.plugin import LoadContext, read_model_folder
from medrestore.plugin.host import plugins
from medrestore.testing import check_model

monai_bundle = pytest.importorskip("monai.bundle", reason="needs monai")
schedulers = pytest.importorskip("monai.networks.schedulers", reason="needs monai 1.5")

UNET = {
    "_target_": "DiffusionModelUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [8, 8],
    "attention_levels": [False, False],
    "num_res_blocks": 1,
    "norm_num_groups": 4,
}
PLAIN = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": "@dims",
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
    "norm": "batch",
}
DDPM = {"_target_": "DDPMScheduler", "num_train_timesteps": 1000, "schedule": "scaled_linear_beta"}
STATED = Stated(name="tiny", licence="Apache-2.0", modality="MR", spacing_mm=(0.5, 2.0), noise=(0.01, 0.2))


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Register this plugin, as its installation would."""
    info = tmp_path / "site" / "medrestore_monai-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: medrestore-monai\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[medrestore]\nmonai = medrestore_monai\n")
    monkeypatch.syspath_prepend(str(info.parent))
    plugins.cache_clear()
    yield
    plugins.cache_clear()


def make_bundle(folder, weights="model.pt", value_range=(0, 1), **components):
    """Make a bundle as MONAI does, with the weights of its own network; return it and the network."""
    monai_bundle.init_bundle(folder)
    (folder / "configs/inference.json").unlink(missing_ok=True)
    table = {"dims": 3, **components}
    (folder / "configs/inference.json").write_text(json.dumps(table))
    metadata = {
        "name": "Tiny",
        "network_data_format": {"inputs": {"image": {"value_range": list(value_range)}}},
    }
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    parser = monai_bundle.ConfigParser(table)
    network = parser.get_parsed_content("network_def").eval()
    for parameter in network.parameters():  # what MONAI starts at zero shows nothing
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    if weights:
        torch.save(network.state_dict(), folder / "models" / weights)
    return folder, network


class Oracle(torch.nn.Module):
    """Stands for a network: holds what it is asked, and answers what MONAI trains one to say."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, None

    def forward(self, x, timesteps):
        self.asked = (x, timesteps)
        return self.answer


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize("units", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_network_is_asked_as_its_scheduler_trains_it(kind, units):
    """The state has the noise of a time of the scheduler: then MONAI's own `add_noise` makes its input."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn((2, 1, 4, 4, 4), generator=generator) for _ in range(2))
    times = torch.tensor([40, 700])
    low, span = units[0], units[1] - units[0]
    own = low + span * clean
    if kind == "flow":
        scheduler = schedulers.RFlowScheduler(num_train_timesteps=1000)
        sigma, estimate, answer = times / (1000 - times), RectifiedFlow(scheduler), own - noise
    else:
        scheduler = schedulers.DDIMScheduler(prediction_type=kind, schedule="scaled_linear_beta")
        kept = scheduler.alphas_cumprod[times]
        sigma, estimate = ((1 - kept) / kept).sqrt(), Diffusion(scheduler)
        answer = {"epsilon": noise, "sample": own}.get(kind)
        if answer is None:
            answer = scheduler.get_velocity(own, noise, times)
    oracle = Oracle(answer)
    k = sigma / span  # in units of medrestore
    mean = clean + k[:, None, None, None, None] * noise
    zeros = torch.zeros_like(mean)
    levels = torch.stack([k, torch.full_like(k, 1e4)], dim=1).log()
    predicted = BundleNetwork(oracle, estimate, units, 0, 1)(
        torch.cat([mean, zeros, zeros, zeros], 1), levels
    )
    torch.testing.assert_close(oracle.asked[0], scheduler.add_noise(own, noise, times), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(oracle.asked[1], times.float(), atol=0.05, rtol=1e-4)
    torch.testing.assert_close(predicted, -noise, atol=2e-3, rtol=1e-3)


def test_the_clean_volume_of_a_plain_network_is_the_result_wherever_the_noise_varies():
    network = BundleNetwork(lambda noisy: 0.5 * noisy, predict_clean, (0.0, 2.0), 0, 1)
    scan = torch.rand(1, 1, 6, 6, 6)
    gain = torch.linspace(0.3, 3.0, 6).expand(scan.shape)
    for sigma in (math.inf, 0.2):
        state = torch.zeros_like(scan) if math.isinf(sigma) else scan
        found = TwoMeasurementDenoiser(network)(state, sigma, Condition(scan, 0.1, gain.contiguous()))
        torch.testing.assert_close(found, 0.5 * scan, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDPM,
        {**DDPM, "_target_": "monai.networks.schedulers.DDIMScheduler", "prediction_type": "v_prediction"},
        {"_target_": "monai.networks.schedulers.rectified_flow.RFlowScheduler", "num_train_timesteps": 100},
    ],
    ids=["ddpm", "ddim", "flow"],
)
def test_a_bundle_of_a_diffusion_model_restores_a_scan(tmp_path, plugin, scheduler):
    folder, network = make_bundle(tmp_path / "tiny", network_def=UNET, noise_scheduler=scheduler, x="$1 + 1")
    spec = import_bundle(read_bundle(folder), STATED, tmp_path / "model", (None, None))
    assert spec.network == "monai/bundle"
    assert spec.outputs == {"mean", "sample"}
    assert spec.multiple == 2
    kept = spec.load(LoadContext()).network.network.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(kept[name], value)
    array = np.random.default_rng(0).random((12, 13, 14), dtype=np.float32)
    scan = Volume.from_array(array, np.eye(4), Modality.MR)
    options = RestoreOptions(model=str(tmp_path / "model"), noise=0.1, force=True, output="sample", steps=2)
    made = restore(scan, options)
    assert made.volume.shape == scan.shape
    assert made.record.model.network == "monai/bundle"
    assert np.isfinite(made.volume.array).all()


@pytest.mark.parametrize("scheduler", [None, DDPM], ids=["plain", "diffusion"])
def test_what_is_imported_keeps_the_contract_of_a_model(tmp_path, plugin, scheduler):
    parts = {"network_def": PLAIN} if scheduler is None else {"network_def": UNET, "scheduler": scheduler}
    folder, _ = make_bundle(tmp_path / "tiny", **parts)
    spec = import_bundle(read_bundle(folder), STATED, tmp_path / "model", (None, None))
    check_model(spec)


def test_a_network_with_a_halo_is_restored_in_tiles(tmp_path, plugin):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    stated = Stated(**{**STATED.__dict__, "halo": 16})
    check_model(import_bundle(read_bundle(folder), stated, tmp_path / "model", (None, None)))


def test_an_imported_model_of_a_gaussian_samples_its_posterior():
    """With the best network for a Gaussian, a sampler of medrestore ends where the posterior lies."""
    mu, s, sigma = 0.4, 0.3, 0.2
    scheduler = schedulers.DDPMScheduler(schedule="scaled_linear_beta", clip_sample=False)

    class Best(torch.nn.Module):
        def forward(self, x, timesteps):
            del timesteps  # the level is seen in `level`, which the test sets
            level = self.level
            noisy = x * (1 + level**2) ** 0.5
            own = -1 + 2 * mu
            clean = (4 * s**2 * noisy + level**2 * own) / (4 * s**2 + level**2)
            return (noisy - clean) / level

    best = Best()

    def estimate(network, noisy, level):
        network.level = float(level[0])
        return Diffusion(scheduler)(network, noisy, level)

    denoiser = TwoMeasurementDenoiser(BundleNetwork(best, estimate, (-1.0, 1.0), 0, 1))
    scan = torch.full((1, 1, 20, 20, 20), 0.7)
    precision = 1 / s**2 + 1 / sigma**2
    want = (mu / s**2 + scan / sigma**2) / precision
    mean = denoiser(scan, math.inf, Condition(scan, sigma))
    torch.testing.assert_close(mean, want, atol=2e-3, rtol=1e-3)
    levels = karras_levels(30, 1.0, 0.01)
    start = mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    drawn = euler(lambda x, level: denoiser(x, level, Condition(scan, sigma)), start, levels)
    assert float((drawn - want).std()) == pytest.approx(precision**-0.5, rel=0.1)


class Executes:
    """What a pickle can do."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_pickled_objects_are_not_loaded(tmp_path):
    folder, _ = make_bundle(tmp_path / "tiny", weights=None, network_def=PLAIN)
    for name, content in (("a.pt", pickle.dumps(Executes())), ("b.pt", b""), ("c.safetensors", b"{")):
        (folder / "models" / name).write_bytes(content)
        with pytest.raises(ModelError, match="not loaded, they can execute"):
            read_weights(read_bundle(folder), name)
    torch.save({"state_dict": {"w": torch.ones(1)}, "epoch": Executes()}, folder / "models/d.pt")
    with pytest.raises(ModelError, match="not loaded, they can execute"):
        read_weights(read_bundle(folder), "d.pt")
    (folder / "models/model.ts").write_bytes(b"PK")
    with pytest.raises(ModelError, match="TorchScript is a program"):
        read_weights(read_bundle(folder), "model.ts")
    with pytest.raises(ModelError, match="no weights: expected"):
        read_weights(read_bundle(folder))


def test_weights_are_found_in_the_table_that_has_them(tmp_path):
    folder, network = make_bundle(tmp_path / "tiny", weights=None, network_def=PLAIN)
    state = network.state_dict()
    torch.save({"epoch": 3, "network": state}, folder / "models/model.pt")
    assert read_weights(read_bundle(folder))[0].keys() == state.keys()
    torch.save({"ema": state, "network": state}, folder / "models/model.pt")
    with pytest.raises(ModelError, match="2 tables of weights: ema, network"):
        read_weights(read_bundle(folder))
    assert read_weights(read_bundle(folder), key="ema")[0].keys() == state.keys()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_target_": "my_package.Net"}, "'my_package.Net'"),
        ({"_target_": "os.system"}, "'os.system'"),
        ({"_target_": "monai.networks.nets.ResNet"}, "is a network that is built here"),
        ({"_target_": "evil.UNet"}, "'evil.UNet'"),
        ({"_target_": "monai.networks.netsomething.UNet"}, "netsomething"),
        ({"channels": "$[4, 8]"}, "channels is an expression"),
        ({"channels": ["$__import__('os').abort()", 8]}, r"channels\[0\] is an expression"),
        ({"channels": "@hidden"}, "channels is an expression"),
        ({"channels": "@absent"}, "is a reference"),
        ({"channels": "%other.json#x"}, "is a macro"),
        ({"act": ["prelu", {"_target_": "os.system"}]}, "has '_target_'"),
        ({"_requires_": "$print()"}, "'_requires_'"),
        ({"_mode_": "callable"}, "'_mode_'"),
    ],
)
def test_what_would_be_executed_is_refused_by_name(tmp_path, changes, said):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    table = {"dims": 3, "hidden": "$[4, 8]", "network_def": {**PLAIN, **changes}}
    (folder / "configs/inference.json").write_text(json.dumps(table))
    with pytest.raises(ModelError, match=said) as refused:
        read_bundle(folder)
    assert "inference.json" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "[" * 100_000, '{"network_def": {"_target_": 3}}', '{"a": "@a"}']
)
def test_what_is_no_configuration_is_refused(tmp_path, text):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    (folder / "configs/inference.json").write_text(text)
    with pytest.raises(ModelError, match="configs"):
        read_bundle(folder)
    with pytest.raises(ModelError, match="no bundle of MONAI"):
        read_bundle(tmp_path)


def test_where_there_are_several_one_is_named(tmp_path):
    folder, _ = make_bundle(
        tmp_path / "tiny", network_def=UNET, train=DDPM, sample={**DDPM, "_target_": "DDIMScheduler"}
    )
    with pytest.raises(ModelError, match="several schedulers: train, sample"):
        read_bundle(folder)
    assert read_bundle(folder, scheduler_key="sample").scheduler.name == "DDIMScheduler"
    with pytest.raises(ModelError, match="makes nothing named 'other'"):
        read_bundle(folder, key="other")


def test_references_in_a_circle_are_refused(tmp_path):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    table = {"a": "@b", "b": "@a", "network_def": {**PLAIN, "spatial_dims": "@a"}}
    (folder / "configs/inference.json").write_text(json.dumps(table))
    with pytest.raises(ModelError, match="refer to each other"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "os.system"}, "no network that is built here"),
        ({"network": "ResNet"}, "no network that is built here"),
        ({"arguments": {**UNET, "_target_": "x"}}, "arguments are plain values"),
        ({"scheduler": {"name": "Evil"}}, "no scheduler known here"),
        ({"network": "UNet", "arguments": {**PLAIN, "spatial_dims": 2}}, "arguments are plain values"),
        ({"network": "UNet", "arguments": {"spatial_dims": 2}}, "spatial_dims 2"),
        ({"arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 4}}, "out_channels 4"),
        ({"scheduler": None, "predicts": "clean"}, "needs the scheduler"),
        ({"scheduler": None, "predicts": "labels"}, "expected one of clean, noise"),
        ({"scheduler": {"name": "DDPMScheduler", "schedule": "mine"}}, "cannot be built"),
        ({"scheduler": {"name": "DDPMScheduler", "num_train_timesteps": 10**12}}, "expected 2 to"),
        ({"arguments": {"num_res_blocks": 10**9}}, "num_res_blocks is beyond 64"),
        ({"arguments": {"channels": [8] * 1000}}, "has 1000 entries"),
        ({"arguments": {"channels": [8, 10**9]}}, r"channels\[1\] is beyond 4096"),
        (
            {"arguments": {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [4096] * 6}},
            "at most",
        ),
    ],
)
def test_a_model_folder_names_nothing_but_what_is_allowed(options, said):
    """`model.toml` may be written by anybody too."""
    plain = {key: value for key, value in UNET.items() if key != "_target_"}
    given = {
        "network": "DiffusionModelUNet",
        "arguments": plain,
        "scheduler": {"name": "DDPMScheduler"},
        **options,
    }
    if len(given["arguments"].get("channels", ())) == 6:
        given["arguments"] |= {"attention_levels": [False] * 6, "num_head_channels": 8, "num_res_blocks": 2}
    with pytest.raises(ModelError, match=said):
        build_bundle_network(**given, units=[0.0, 1.0], halo=0)


def test_weights_of_another_network_and_a_missing_range_are_refused(tmp_path):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    torch.save({"w": torch.ones(1)}, folder / "models/model.pt")
    with pytest.raises(ModelError, match="do not fit"):
        import_bundle(read_bundle(folder), STATED, tmp_path / "model", (None, None))
    (folder / "configs/metadata.json").write_text("{}")
    with pytest.raises(ModelError, match="range of its input"):
        import_bundle(read_bundle(folder), STATED, tmp_path / "model", (None, None))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("value_range", "modality"), [((-1, 1), "MR"), ((0, 1), "CT")])
def test_a_range_that_does_not_tell_the_units_is_not_taken_for_them(tmp_path, plugin, value_range, modality):
    folder, _ = make_bundle(tmp_path / "tiny", value_range=value_range, network_def=PLAIN)
    stated = replace(STATED, modality=modality)
    with pytest.raises(ModelError, match="say with --units"):
        import_bundle(read_bundle(folder), stated, tmp_path / "model", (None, None))
    import_bundle(read_bundle(folder), replace(stated, units=(0.0, 1.0)), tmp_path / "model", (None, None))


def test_what_becomes_no_model_leaves_no_folder(tmp_path):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=PLAIN)
    with pytest.raises(MedrestoreError, match="My Model"):
        import_bundle(read_bundle(folder), replace(STATED, name="My Model"), tmp_path / "model", (None, None))
    assert not (tmp_path / "model").exists()


def test_the_command_imports_a_bundle(tmp_path, plugin):
    folder, _ = make_bundle(tmp_path / "tiny", network_def=UNET, noise_scheduler=DDPM)
    stated = [
        "--licence",
        "Apache-2.0",
        "--spacing-mm",
        "0.5",
        "2",
        "--noise",
        "0.01",
        "0.2",
        "--units",
        "-1",
        "1",
    ]
    done = CliRunner().invoke(app, ["import", str(folder), "-o", str(tmp_path / "model"), *stated])
    assert done.exit_code == 0, done.output
    spec = read_model_folder(tmp_path / "model")
    assert spec.load(LoadContext()).network.span == 2.0
    assert "never in tiles" in (tmp_path / "model/README.md").read_text()
