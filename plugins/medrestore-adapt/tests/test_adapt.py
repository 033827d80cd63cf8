"""Fitting to one scan: the estimated error is the true one, and only where it falls does anything change."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import tomli_w
import torch
from medrestore_adapt import fit as fitting
from medrestore_adapt import run
from medrestore_adapt.fit import FITTED, Judgement, Mean, Plan, fit, fitted_weights
from medrestore_adapt.risk import probes, risk
from medrestore_adapt.run import Adaptation, adapt
from safetensors.torch import save
from typer.testing import CliRunner

from medrestore import LoadContext, Modality, RestoreOptions, Volume, restore, write
from medrestore.diffusion import Condition, TwoMeasurementDenoiser
from medrestore.errors import ModelError, OutputError
from medrestore.networks import build
from medrestore.plugin import read_model_folder

SIGMA = 0.1
PLAN = Plan(steps=30, rate=2e-2, side=16)


def blobs(size, seed=0):
    """A smooth scan (X, Y, Z) that is bright everywhere, so that its noise is Gaussian."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, 6, size),) * 3, indexing="ij"))
    phase = np.random.default_rng(seed).random((3, 1, 1, 1)) * 6
    return (1 + 0.3 * np.prod(np.sin(grid + phase), axis=0)).astype("f4")


def network(details=0):
    torch.manual_seed(0)
    made = build("voxelnet", {"widths": [8, 8], "down": [1, 1], "up": [1], "details": details})
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def model_folder(folder, details=0, **changes):
    """Write a model folder of an untrained network by hand."""
    made = network(details)
    data = save(made.state_dict())
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
        "halo": made.halo,
        "multiple": made.multiple,
        "colour": details == 4,
        **changes,
        "network": {
            "name": "voxelnet",
            "options": {"widths": [8, 8], "down": [1, 1], "up": [1], "details": details},
        },
        "weights": {"file": "model.safetensors", "sha256": hashlib.sha256(data).hexdigest()},
    }
    (folder / "model.toml").write_text(tomli_w.dumps(table))
    return folder


def scanned(size=32, correlations=(0.0, 0.0, 0.0), gain=None, seed=3):
    """Return a clean volume (1, 1, X, Y, Z) and the condition of its scan."""
    clean = torch.from_numpy(blobs(size))[None, None]
    noise = probes(tuple(clean.shape), correlations, torch.Generator().manual_seed(seed))
    scan = clean + SIGMA * (1 if gain is None else gain) * noise
    return clean, Condition(scan, SIGMA, gain, (*(4 * one for one in correlations), 1.0))


def smooth(condition):
    """A denoiser that is linear: a mean over neighbours, whose divergence is known."""
    padded = torch.nn.functional.pad(condition.image, (1,) * 6, mode="replicate")
    return torch.nn.functional.avg_pool3d(padded, 3, stride=1)


@pytest.mark.parametrize("correlations", [(0.0, 0.0, 0.0), (0.2, 0.0, 0.0), (0.3, -0.1, 0.25)])
@pytest.mark.parametrize("varying", [False, True])
def test_the_risk_is_the_error_that_nobody_can_see(correlations, varying):
    gain = None
    if varying:
        gain = torch.linspace(0.5, 1.5, 48).expand(1, 1, 48, 48, 48).contiguous()
    clean, condition = scanned(48, correlations, gain)
    estimated, true = [], []
    for seed in range(4):
        probe = probes(tuple(clean.shape), correlations, torch.Generator().manual_seed(seed))
        estimated.append(float(risk(smooth, condition, probe).mean()))
    sigma = SIGMA if gain is None else SIGMA * gain
    true = float((((smooth(condition) - clean) / sigma) ** 2).mean())
    # Of so many voxels the mean of n^2 alone strays by a hundredth.
    assert np.mean(estimated) == pytest.approx(true, abs=0.02)
    if any(correlations):  # told nothing of the colour, it would believe that more was taken out
        white = probes(tuple(clean.shape), (0.0, 0.0, 0.0), torch.Generator().manual_seed(9))
        assert float(risk(smooth, condition, white).mean()) < true - 0.02


def test_what_noise_adds_to_magnitudes_is_no_part_of_what_is_fitted_to():
    clean = torch.full((1, 1, 40, 40, 40), 0.5)
    generator = torch.Generator().manual_seed(0)
    real, imaginary = (SIGMA * torch.randn(clean.shape, generator=generator) for _ in range(2))
    condition = Condition(torch.hypot(clean + real, imaginary), SIGMA)
    seen = Mean(clean, magnitude=True)
    assert float((condition.image - clean).mean()) > 0.009
    assert abs(float((seen.unbiased(condition) - clean).mean())) < 0.001
    assert Mean(clean).unbiased(condition) is condition.image

    def right(one):
        return clean

    probe = torch.randn(clean.shape, generator=generator)
    wrong = risk(lambda one: clean + SIGMA**2 / (2 * clean), condition, probe, seen.unbiased(condition))
    assert float(risk(right, condition, probe, seen.unbiased(condition)).mean()) < float(wrong.mean())


def test_a_denoiser_that_does_nothing_has_the_risk_of_the_noise():
    _, condition = scanned(32)
    probe = torch.randn(condition.image.shape, generator=torch.Generator().manual_seed(0))
    assert float(risk(lambda one: one.image, condition, probe).mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("correlation", [-0.3, 0.1, 0.3])
def test_probes_have_the_correlation_that_is_asked_for(correlation):
    made = probes((1, 1, 60, 60, 60), (0.0, correlation, 0.0), torch.Generator().manual_seed(0))[0, 0]
    assert float(made.std()) == pytest.approx(1, abs=0.02)
    assert float((made[:, 1:] * made[:, :-1]).mean()) == pytest.approx(correlation, abs=0.02)
    assert abs(float((made[1:] * made[:-1]).mean())) < 0.02


def test_fitting_lowers_the_true_error_by_about_what_was_judged():
    clean, condition = scanned(48)
    condition = Condition(condition.image, SIGMA)
    denoiser = TwoMeasurementDenoiser(network())
    before = {name: value.clone() for name, value in denoiser.network.state_dict().items()}
    mean = denoiser(condition.image, math.inf, condition)
    left = float(((mean - clean) ** 2).mean()) / SIGMA**2
    losses = []
    found = fit(denoiser, condition, Mean(mean), PLAN, lambda step, loss: losses.append((step, loss)))
    assert [step for step, _ in losses] == list(range(PLAN.steps))
    assert found is not None
    judged = found.taken(1)
    assert judged.better
    now = float(((denoiser(condition.image, math.inf, condition) - clean) ** 2).mean()) / SIGMA**2
    assert now < left
    assert judged.before == pytest.approx(left, abs=0.1)
    assert judged.after == pytest.approx(now, abs=0.1)
    assert judged.after < found.taken(0.5).after < judged.before
    assert found.taken(0).after == pytest.approx(judged.before)
    found.taken(1)
    changed = {
        name for name, value in denoiser.network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.endswith(FITTED) for name in changed)
    assert sum(one.numel() for one in fitted_weights(denoiser.network)) < 0.1 * sum(
        v.numel() for v in before.values()
    )


def test_air_alone_is_not_fitted_to():
    air = torch.randn((1, 1, 32, 32, 32), generator=torch.Generator().manual_seed(0)).abs() * SIGMA
    denoiser = TwoMeasurementDenoiser(network())
    assert fit(denoiser, Condition(air, SIGMA), Mean(air, True), PLAN) is None


def test_the_judgement_asks_for_more_than_chance():
    assert Judgement(0.30, 0.25, 0.02).better
    assert not Judgement(0.30, 0.27, 0.02).better
    assert not Judgement(0.30, 0.31, 0.001).better
    assert Judgement(0.2, 0.1, 0.0).gain_db == pytest.approx(3.01, abs=0.01)


def test_patches_to_judge_by_are_none_that_were_fitted_to():
    tissue = torch.ones((1, 1, 64, 48, 50), dtype=torch.bool)
    fitted, judged = fitting._boxes(tissue, PLAN, torch.Generator().manual_seed(0))
    seen = torch.zeros_like(tissue, dtype=torch.int)
    for box in (*fitted, *judged):
        seen[box] += 1
    assert int(seen.max()) == 1
    assert len(judged) == math.ceil(PLAN.held_out * (len(fitted) + len(judged)))


@pytest.fixture
def scan():
    noise = SIGMA * np.random.default_rng(5).standard_normal((40, 40, 40))
    array = 700 * np.hypot(blobs(40) + noise, SIGMA * np.random.default_rng(6).standard_normal((40, 40, 40)))
    return Volume.from_array(array.astype("f4"), np.eye(4), Modality.MR)


def options(folder):
    return RestoreOptions(model=str(folder), noise=700 * SIGMA, force=True)


def test_a_fitted_model_is_a_folder_that_restores_its_scan(scan, tmp_path):
    original = model_folder(tmp_path / "tiny")
    found = adapt(scan, tmp_path / "fitted", options(original), PLAN)
    assert found.kept, found.reason
    assert len(found.verdicts) == 2
    spec = read_model_folder(tmp_path / "fitted")
    assert spec.name == "tiny-adapted"
    clean = 700 * blobs(40)
    left = [
        np.square(restore(scan, options(folder)).volume.array - clean).mean()
        for folder in (original, tmp_path / "fitted")
    ]
    assert left[1] < left[0]
    assert "For the scan that it was made from and no other" in (tmp_path / "fitted/README.md").read_text()
    with pytest.raises(OutputError, match="already"):
        adapt(scan, tmp_path / "fitted", options(original), PLAN)


def same_weights(folder, original):
    """Whether two folders hold one network."""
    a, b = (read_model_folder(path).load(LoadContext()).network.state_dict() for path in (folder, original))
    return all(torch.equal(a[name], b[name]) for name in b)


def test_what_does_not_fall_beyond_doubt_changes_nothing(scan, tmp_path):
    original = model_folder(tmp_path / "tiny")
    found = adapt(scan, tmp_path / "kept", options(original), Plan(steps=2, rate=1e-12, side=16))
    assert not found.kept
    assert "did not fall beyond doubt" in found.reason
    assert same_weights(tmp_path / "kept", original)
    assert read_model_folder(tmp_path / "kept").name == "tiny"


@pytest.mark.parametrize(
    ("verdicts", "kept", "reason"),
    [
        (["PASS", "WARN", "FAIL", "WARN"], False, "the verdict went from PASS to WARN"),
        (["PASS", "WARN", "PASS"], True, "the error fell with 50% of the change"),
    ],
)
def test_no_more_is_changed_than_the_verdict_allows(scan, tmp_path, monkeypatch, verdicts, kept, reason):
    original = model_folder(tmp_path / "tiny")
    said = iter(verdicts)
    made = run.restore

    def restored(*args, **kwargs):
        from dataclasses import replace

        one = made(*args, **kwargs)
        return replace(one, record=replace(one.record, verdict={"verdict": next(said)}))

    monkeypatch.setattr(run, "restore", restored)
    found = adapt(scan, tmp_path / "kept", options(original), PLAN)
    assert found.kept is kept
    assert found.reason.startswith(reason)
    assert same_weights(tmp_path / "kept", original) is not kept
    assert next(said, None) is None


def test_noise_of_an_unknown_colour_is_not_fitted_to(scan, tmp_path):
    for name, told in (("unknown", (0.0, 0.0, 0.0, 0.0)), ("strong", (0.0, 1.6, 0.0, 1.0))):
        seen = run._Seen(
            Condition(torch.ones(1, 1, 16, 16, 16), 0.1, details=told), torch.ones(1, 1, 16, 16, 16)
        )
        why = run._fitted(TwoMeasurementDenoiser(network(4)), seen, PLAN, None)
        assert "of a colour" in why, name
    assert "nothing to take out" in run._fitted(None, run._Seen(), PLAN, None)


@pytest.mark.parametrize(
    "changes", [{"task": "superres", "factor": [2.0, 6.0]}, {"operator": "a/b"}], ids=["slices", "operator"]
)
def test_other_models_are_refused(tmp_path, changes):
    folder = model_folder(tmp_path / "other", details=4 if "task" in changes else 0, **changes)
    if "task" in changes:
        text = (folder / "model.toml").read_text().replace("colour = true", "colour = false")
        (folder / "model.toml").write_text(text)
    with pytest.raises(ModelError, match="expected a denoiser"):
        run.find_denoiser(str(folder))
    with pytest.raises(ModelError, match="say which model"):
        run.find_denoiser(None)


def test_the_command_says_what_became_of_it(scan, tmp_path, monkeypatch):
    from medrestore_adapt import medrestore_verbs, verb

    asked = {}

    def adapted(volume, folder, given, plan, on_step):
        asked.update(shape=volume.shape, folder=folder, options=given, plan=plan)
        on_step(0, 0.5)
        return Adaptation(False, "there is too little tissue")

    monkeypatch.setattr(verb, "adapted", adapted)
    write(scan, tmp_path / "scan.nii.gz")
    import typer

    app = typer.Typer()
    app.command()(medrestore_verbs()[0].load())
    command = [str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "m"), "--steps", "5", "--noise", "30"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "not fitted; there is too little tissue" in done.output
    assert asked["plan"].steps == 5
    assert float(asked["options"].noise) == 30.0
    assert asked["options"].model == "mr-denoise"
