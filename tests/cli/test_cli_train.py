"""`medrestore train`: a few steps on phantoms, to a folder that restores; exact to the bit after a break."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import MODEL, NETWORK, CommandLine, noisy, phantom, save

from medrestore.cli import train as train_module
from medrestore.cli.train import follow
from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ConfigError, TrainingError
from medrestore.plugin import read_model_folder
from medrestore.training import Progress, corpus, load_config, train
from medrestore.training.export import GENERATED, TrainingFacts, export_model
from medrestore.training.log import LOG_FIELDS
from medrestore.training.loop import Trainer
from medrestore.training.patches import Batch
from medrestore.training.recipe import DataOptions, LoopOptions, NetworkOptions, TrainConfig

LEVELS = (0.05, 0.1)

CONFIG = """
[data]
roots = ["scans"]
scans = ["*.nii"]
labels = ["labels/*.nii"]
validation = ["held_out.nii"]
spacings_mm = [1.4]

[network]
name = "voxelnet"
options = {{ widths = [8, 8], down = [1, 1], up = [1] }}

[loop]
steps = 6
batch = 2
patch = 16
warmup = 2
validate_steps = {validate}
checkpoint_minutes = 0
bfloat16 = false
unconditional = 0.3

[model]
{model}
"""


def toml(table: dict[str, object]) -> str:
    """Write a flat table; Python's literals of strings, numbers and lists are TOML's."""
    return "\n".join(f"{key} = {value!r}" for key, value in table.items())


@pytest.fixture
def cli(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def config(tmp_path):
    scans = tmp_path / "scans"
    (scans / "labels").mkdir(parents=True)
    for number, name in enumerate(("one", "two", "held_out")):
        save(scans / f"{name}.nii", phantom(24 + 4 * number))
    save(scans / "labels" / "map.nii", np.digitize(phantom(24), [100, 500, 700]).astype(np.uint8))
    path = tmp_path / "train.toml"
    path.write_text(CONFIG.format(model=toml(MODEL), validate=0))
    return path


def log_of(work):
    with (work / "log.csv").open() as stream:
        return list(csv.DictReader(stream))


def break_off(at: int):
    """Return a callback that ends the run as Ctrl-C would."""

    def callback(progress: Progress) -> None:
        if progress.step == at:
            raise KeyboardInterrupt

    return callback


def test_from_a_configuration_to_a_folder_that_restores(cli, config, tmp_path):
    config.write_text(config.read_text().replace("validate_steps = 0", "validate_steps = 4"))
    work = tmp_path / "work"
    status, out, errors = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 0, errors
    assert f"tiny: {work / 'model'}" in out
    assert "validation PSNR" in errors
    assert "step 6 of 6" in errors
    assert "\r" not in errors
    rows = log_of(work)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(row["validation_psnr"]) for row in rows] == [False, False, False, True, False, True]
    assert (work / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (work / "model").iterdir()} == {
        *("model.safetensors", "model.toml", "README.md", "SHA256SUMS")
    }
    card = (work / "model" / "README.md").read_text()
    seen = card.partition("that the weights saw")[2]
    assert "`one.nii`" in seen and "`labels/map.nii`" in seen and "held_out" not in seen
    assert f"{float(rows[-1]['validation_psnr']):.2f} dB" in card
    assert GENERATED in card

    scan = save(tmp_path / "head_T1w.nii", noisy(phantom(16), 0.05))
    status, _, errors = cli("restore", scan, "-o", tmp_path / "out.nii", "--model", work / "model", "-q")
    assert status == 0, errors
    assert (tmp_path / "out.nii").exists()


def test_the_card_goes_on_with_the_run_unless_a_person_took_it_over(config, tmp_path):
    settings = load_config(config)
    card = tmp_path / "work" / "model" / "README.md"
    for steps in (2, 4):
        train(replace(settings, loop=replace(settings.loop, steps=steps)), tmp_path, tmp_path / "work")
        assert f"for {steps} steps" in card.read_text()
    card.write_text("Mine.")
    train(replace(settings, loop=replace(settings.loop, steps=5)), tmp_path, tmp_path / "work")
    assert card.read_text() == "Mine."


def test_a_patch_that_cannot_be_halved_is_refused_at_once(config, tmp_path):
    settings = load_config(config)
    with pytest.raises(ConfigError, match=r"loop\.patch is 18; expected a multiple of 4"):
        train(replace(settings, loop=replace(settings.loop, patch=18)), tmp_path, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_break_changes_nothing(config, tmp_path):
    settings = load_config(config)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(settings, tmp_path, straight)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path, broken, progress=break_off(3))
    assert len(log_of(broken)) == 3
    assert not (broken / "model").exists()
    with (broken / "log.csv").open("a") as stream:
        stream.write("4,0.1,1e-3,0.2,0.3,\r\n1")  # a step that is done again, and a row cut by the kill
    steps = []
    train(settings, tmp_path, broken, progress=lambda at: steps.append(at.step))
    assert steps == [4, 5, 6]
    weights = [path / "model" / "model.safetensors" for path in (straight, broken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    checkpoints = [torch.load(path / "checkpoint.pt", weights_only=True) for path in (straight, broken)]
    same = torch.utils._pytree.tree_map(
        lambda a, b: torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, *checkpoints
    )
    assert all(torch.utils._pytree.tree_leaves(same))
    columns = [[(row["step"], row["loss"], row["gradient"]) for row in log_of(w)] for w in (straight, broken)]
    assert columns[0] == columns[1]


@pytest.mark.skipif(sys.platform == "win32", reason="workers are forked")
def test_workers_draw_the_same_batches(config, tmp_path):
    settings = load_config(config)
    weights = []
    for workers in (0, 2):
        chosen = replace(settings, loop=replace(settings.loop, workers=workers))
        train(chosen, tmp_path, tmp_path / str(workers))
        weights.append((tmp_path / str(workers) / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_a_finished_run_is_exported_again_without_a_step(cli, config, tmp_path):
    work = tmp_path / "work"
    assert cli("train", config, "-o", work, "--steps", 2, "-q", "--device", "cpu") == (0, "", "")
    first = load_file(work / "model" / "model.safetensors")
    assert cli("train", config, "-o", work, "--steps", 2, "-q", "--device", "cpu")[0] == 0
    again = load_file(work / "model" / "model.safetensors")
    assert len(log_of(work)) == 2
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_training_changes_the_weights(config, tmp_path):
    settings = load_config(config)
    losses = []
    train(settings, tmp_path, tmp_path / "work", progress=lambda at: losses.append(at.loss))
    state = load_file(tmp_path / "work" / "model" / "model.safetensors")
    assert state["head.weight"].any()  # zero before the first step
    assert all(value.dtype == torch.float16 for value in state.values())
    assert all(math.isfinite(loss) for loss in losses)


def trainer(**loop: object) -> Trainer:
    """A trainer of the tiny network, without data; at first the network predicts zero."""
    options = LoopOptions(**{"steps": 1, "warmup": 1, "mean": 1.0, "bfloat16": False, **loop})
    data, network = DataOptions(roots=(".",), scans=()), NetworkOptions(options=NETWORK)
    return Trainer(TrainConfig(data=data, loop=options, model=MODEL, network=network))


def pairs(levels: tuple[float, float], gain: torch.Tensor) -> Batch:
    """A head at two levels of Gaussian noise."""
    clean = torch.from_numpy(np.stack([phantom(16, 1.0)] * 2)[:, None])
    gain, sigma = gain.expand(clean.shape), torch.tensor(levels)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    scan = clean + sigma[:, None, None, None, None] * gain * noise
    return Batch(clean, scan, gain, sigma, torch.zeros(2, 0))


def test_the_loss_on_one_batch_falls_and_its_error_is_that_of_the_denoiser():
    batch, trained = pairs(LEVELS, torch.ones(1)), trainer(steps=40, rate=1e-2)
    losses = [trained.train_step(batch)[0] for _ in range(40)]
    of_noise = ((batch.scan - batch.clean) / batch.sigma[:, None, None, None, None]).square().mean().item()
    assert losses[0] == pytest.approx(of_noise, rel=1e-5)  # of a network that takes nothing out
    assert losses[20] < 0.8 * losses[0] and losses[-1] < 0.5 * losses[0]
    denoiser = TwoMeasurementDenoiser(trained.network)
    left = []
    for clean, scan, level in zip(batch.clean[:, None], batch.scan[:, None], LEVELS, strict=True):
        estimate = denoiser(scan, math.inf, Condition(scan, level))
        left.append(((estimate - clean) / level).square().mean().item())
    assert np.mean(left) == pytest.approx(losses[-1], rel=0.02)


class Knowing(torch.nn.Module):
    """Predicts a multiple of what it is to predict: the noise in the mean m of state and scan, over k."""

    def __init__(self, batch: Batch, levels: tuple[float, float], share: float) -> None:
        super().__init__()
        self.clean, self.share = batch.clean, share
        self.k = (levels[0] ** -2 + (levels[1] * batch.gain) ** -2) ** -0.5

    def forward(self, inputs: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        return self.share * (self.clean - inputs[:, :1]) / self.k


@pytest.mark.parametrize("levels", [(math.inf, 0.1), (0.05, 0.1), (0.2, math.inf)])
@pytest.mark.parametrize(("share", "error"), [(1, 0), (0, 1), (-1, 4), (2, 1)])
def test_the_error_is_none_for_what_is_to_be_predicted_and_in_units_of_the_noise(levels, share, error):
    batch = pairs((0.1, 0.1), torch.linspace(0.5, 2, 16)[:, None])
    asked = trainer()
    asked.network = Knowing(batch, levels, share)
    state, scan = (torch.full((2,), level) for level in levels)
    log_k, found = asked._errors(batch, state, scan, np.random.default_rng(0))
    torch.testing.assert_close(found, torch.full((2,), float(error)), atol=1e-6, rtol=0.06)
    k = (levels[0] ** -2 + levels[1] ** -2) ** -0.5
    torch.testing.assert_close(log_k, torch.full((2,), math.log(k)))


def test_the_folder_to_work_in_is_named_after_the_model(cli, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = cli("train", "train.toml", "--steps", 1, "--device", "cpu")
    assert status == 0
    assert read_model_folder(tmp_path / "runs" / "tiny" / "model").name == "tiny"
    assert "runs/tiny/model" in out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("warmup = 2", "warm_up = 2", "loop.warm_up"),
        ("[network]", "[nettwork]", "nettwork"),
        ("steps = 6", "steps = 'six'", "loop.steps"),
        ("steps = 6", "", "loop.steps: Field required"),
        ('name = "voxelnet"', 'name = "unet"', "unknown network 'unet'; known: voxelnet"),
        ('scans = ["*.nii"]', 'scans = ["*.mgz"]', "matches '*.mgz'"),
        ("name = 'tiny'", "", "[model] has no name"),
        ("licence = 'Apache-2.0'", "", "missing: licence"),
        ("task = 'denoise'", "task = 'superres'", "model.task is 'superres' without [slices]"),
        ("[model]", "[slices]\n[model]", "model.task is 'denoise' with [slices]"),
        ("[model]", "[ct]\n[model]", "model.intensity is 'p99' with [ct]; expected 'attenuation'"),
        ("[model]", "[ct]\n[slices]\n[model]", "[ct] and [slices] are both there"),
        ("[model]", "[model]\nintensity = 'raw'", "model.intensity is 'raw'"),
        ("up = [1] }", "up = [1], details = 4 }", "details is 4; expected 0"),
        ("[model]", "[model]\nflavour = 'red'", "unknown key 'flavour'"),
        ("[loop]", "[loop", "not TOML"),
    ],
)
def test_a_fault_in_the_configuration_is_found_before_the_first_step(
    cli, config, tmp_path, *, old, new, message
):
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new, 1))
    status, out, errors = cli("train", config, "-o", tmp_path / "work", "--device", "cpu")
    assert (status, out) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "work" / "log.csv").exists()


def test_a_checkpoint_of_another_network_is_refused(cli, config, tmp_path):
    work = tmp_path / "work"
    assert cli("train", config, "-o", work, "--steps", 1, "-q", "--device", "cpu")[0] == 0
    before = (work / "checkpoint.pt").read_bytes()
    config.write_text(config.read_text().replace("[8, 8]", "[8, 16]"))
    status, _, errors = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 2
    assert "checkpoint.pt: cannot go on from this checkpoint" in errors
    (work / "checkpoint.pt").write_bytes(before[: len(before) // 2])
    status, _, errors = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 2
    assert "it is damaged" in errors


def test_a_missing_extra_is_named(cli, config, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module_of(), "find_spec", lambda name: None if name == "tomli_w" else name)
    status, _, errors = cli("train", config, "-o", tmp_path / "work")
    assert status == 2
    assert "training needs tomli_w, which is not installed; run: pip install 'medrestore[train]'" in errors
    assert not (tmp_path / "work").exists()


def train_module_of():
    import sys

    assert train_module is sys.modules["medrestore.cli.train"].train  # the package shows the command
    return sys.modules["medrestore.cli.train"]


def test_a_scan_for_validation_is_not_trained_on(config, tmp_path):
    options = load_config(config).data
    scans, labels, validation = corpus.find(options, tmp_path)
    assert [path.name for path in scans] == ["one.nii", "two.nii"]
    assert [path.name for path in labels] == ["map.nii"]
    assert [path.name for path in validation] == ["held_out.nii"]
    data = corpus.load(options, tmp_path)
    assert not any("held_out" in name for name in data.files)
    assert len(data.scans) == 4  # each of the two also at 1.4 mm
    assert data.scans[0].max() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("field", ["validation", "exclude"])
@pytest.mark.parametrize(
    ("roots", "apart"),
    [
        ((".",), "**/sub-99.nii"),
        ((".",), "sub-99*"),
        ((".", "deep"), "deep/sub-98.nii"),
        (("deep", "."), "sub-98.nii"),
        ((".",), "deep"),
    ],
)
def test_what_is_set_apart_is_never_seen_from_wherever_it_is_found(tmp_path, field, roots, apart):
    (tmp_path / "deep").mkdir()
    for name in ("sub-01.nii", "sub-99.nii", "deep/sub-98.nii"):
        (tmp_path / name).touch()
    options = DataOptions(roots=roots, scans=("**/*.nii",), **{field: (apart,)})
    scans, _, _ = corpus.find(options, tmp_path)
    hidden = "sub-99.nii" if "99" in apart else "sub-98.nii"
    assert hidden not in [path.name for path in scans]
    assert len(scans) == 2


def test_the_meter_shows_the_running_loss_and_the_last_score():
    class Seen:
        def __init__(self) -> None:
            self.lines, self.texts = [], []

        def line(self, text: str) -> None:
            self.lines.append(text)

        def update(self, done: float, total: float, text: str) -> None:
            self.texts.append((done, total, text))

    seen = Seen()
    show = follow(seen, batch=8)
    show(Progress(101, 200, 0.5, 2.0))
    show(Progress(102, 200, 0.5, 2.0, validation_psnr=31.25))
    show(Progress(103, 200, 0.5, 2.0))
    assert seen.texts[0] == (101, 200, "step 101 of 200, loss 0.5000, 4 patches/s, 3:18 left")
    assert seen.lines == ["step 102, validation PSNR 31.25 dB, loss 0.5000"]
    assert seen.texts[2][2].endswith("3:14 left, PSNR 31.25 dB")


def test_the_log_has_the_fields_that_its_readers_use():
    assert {"step", "loss", "validation_psnr"} < set(LOG_FIELDS)
    assert LOG_FIELDS[-1] == "validation_psnr"  # a row cut by a kill lacks it


def test_a_configuration_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot read the training configuration"):
        load_config(tmp_path / "none.toml")


def test_training_that_diverges_stops_and_exports_nothing(cli, config, tmp_path):
    config.write_text(config.read_text().replace("[loop]", "[loop]\nrate = 1e30"))
    work = tmp_path / "work"
    status, _, said = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 1 and "the training diverged at step" in said and "Traceback" not in said
    assert not (work / "model").exists()
    if (work / "checkpoint.pt").exists():
        state = torch.load(work / "checkpoint.pt", weights_only=True)
        assert all(value.isfinite().all() for value in state["network"].values())


@pytest.mark.parametrize("what", ["loss", "large loss", "gradient", "weights", "average", "score"])
@pytest.mark.parametrize("when", [2, 6])
def test_whatever_diverges_stops_the_training(cli, config, tmp_path, monkeypatch, what, when):
    step, work = Trainer.train_step, tmp_path / "work"
    config.write_text(config.read_text().replace("validate_steps = 0", "validate_steps = 2"))

    def spoil(trainer, batch):
        loss, norm = step(trainer, batch)
        if trainer.step < when:
            return loss, norm
        if what in {"weights", "average"}:
            network = trainer.network if what == "weights" else trainer.average
            next(network.parameters()).data[0] = math.nan
        spoiled = {"loss": math.nan, "large loss": 1e9}.get(what, loss)
        return spoiled, math.inf if what == "gradient" else norm

    monkeypatch.setattr(Trainer, "train_step", spoil)
    if what == "score":
        scores = iter([30.0] * (when // 2 - 1) + [math.nan] * 9)
        module = sys.modules["medrestore.training.train"]
        monkeypatch.setattr(module, "validator", lambda *_: lambda _: next(scores))
    status, _, said = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 1 and f"diverged at step {when}" in said
    assert not (work / "model").exists()
    before = work / "checkpoint.pt"
    assert torch.load(before, weights_only=True)["step"] == when - 1


def test_a_checkpoint_that_diverged_exports_nothing(cli, config, tmp_path):
    work = tmp_path / "work"
    assert cli("train", config, "-o", work, "--device", "cpu")[0] == 0
    exported = (work / "model" / "model.safetensors").read_bytes()
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    state["average"]["stem.bias"][0] = math.nan
    torch.save(state, work / "checkpoint.pt")
    status, _, said = cli("train", config, "-o", work, "--device", "cpu")
    assert status == 1 and "not finite" in said
    assert (work / "model" / "model.safetensors").read_bytes() == exported


def test_weights_that_overflow_when_they_are_stored_are_not_exported(config, tmp_path):
    settings = load_config(config)
    trainer = Trainer(settings)
    trainer.network.stem.bias.data[0] = 1e6  # finite, and beyond float16
    with pytest.raises(TrainingError, match=r"1 weights are not finite.*float16"):
        export_model(trainer.network, settings, TrainingFacts(1, (), None), tmp_path / "model")
    assert not (tmp_path / "model" / "model.toml").exists()


@pytest.mark.parametrize("patch", [40, 4000, 400_000_000])
def test_a_patch_larger_than_every_scan_is_refused(cli, config, tmp_path, patch):
    config.write_text(config.read_text().replace("patch = 16", f"patch = {patch}"))
    status, _, said = cli("train", config, "-o", tmp_path / "work", "--device", "cpu")
    assert status == 2 and f"loop.patch is {patch}, and no scan has more than" in said
    assert not (tmp_path / "work" / "checkpoint.pt").exists()
