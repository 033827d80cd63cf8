"""The models keep their contract, take noise out, and undo the bias of magnitudes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("dipy", reason="needs DIPY")
pytest.importorskip("patch_denoise", reason="needs patch-denoise")

import medrestore_classical
from medrestore_classical import filters

from medrestore import LoadContext, Modality
from medrestore.diffusion import Condition
from medrestore.errors import ModelError
from medrestore.physics.mr_noise import add_rician
from medrestore.testing import check_model, contract

MODELS = {spec.name: spec for spec in medrestore_classical.medrestore_models()}
SINGLE = [name for name, spec in MODELS.items() if spec.series is None]
SERIES = [name for name, spec in MODELS.items() if spec.series is not None]
FOLDER = Path(__file__).resolve().parents[1]
SIDE, SIGMA = 28, 0.05


def ball() -> np.ndarray:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, SIDE),) * 3, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    core, rim = (1 / (1 + np.exp((radius - edge) * 20)) for edge in (0.35, 0.8))
    return (0.2 + 0.8 * rim - 0.4 * core).astype(np.float32)


def condition(count: int = 1, gain: np.ndarray | None = None, clean: np.ndarray | None = None) -> Condition:
    clean, rng = ball() if clean is None else clean, np.random.default_rng(0)
    level = SIGMA if gain is None else SIGMA * gain
    image = np.stack([add_rician(clean, level, rng) for _ in range(count)])[:, None]
    told = None if gain is None else torch.from_numpy(np.repeat(gain[None, None], count, 0))
    return Condition(torch.from_numpy(image), SIGMA, told)


def restored(name: str, given: Condition) -> np.ndarray:
    denoise = MODELS[name].load(LoadContext())
    return denoise(torch.zeros_like(given.image), math.inf, given).numpy()[:, 0]


def error(found: np.ndarray, clean: np.ndarray | None = None) -> float:
    return float(np.sqrt(np.mean(np.square(found - (ball() if clean is None else clean)))))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name, monkeypatch):
    if name == "mppca":  # takes a millisecond and a half for each voxel
        monkeypatch.setattr(contract, "SIDE", 12)
    check_model(MODELS[name])


def test_each_is_for_the_noise_of_its_modality():
    assert {MODELS[name].modalities for name in SINGLE} == {(Modality.MR,), (Modality.CT,)}
    air = condition(clean=np.zeros((SIDE,) * 3, np.float32))
    for name in ("tv", "wavelet"):
        # In air the mean of magnitudes is 1.25 sigma, of which the correction leaves 0.75.
        assert float(np.median(restored(name, air))) < 0.85 * SIGMA
        assert float(np.median(restored(f"{name}-ct", air))) > 1.1 * SIGMA


@pytest.mark.parametrize("name", SINGLE)
def test_noise_goes(name):
    given = condition()
    assert error(restored(name, given)) < 0.7 * error(given.image.numpy()[:, 0])


@pytest.mark.parametrize("name", ["tv", "nordic"])
def test_noise_that_varies_is_told_apart(name):
    gain = np.broadcast_to(np.linspace(0.3, 2.5, SIDE, dtype=np.float32)[:, None, None], (SIDE,) * 3).copy()
    given = condition(12 if name == "nordic" else 1, gain)
    blind = Condition(given.image, SIGMA)
    assert error(restored(name, given)) < 0.95 * error(restored(name, blind))


@pytest.mark.parametrize("name", SERIES)
def test_a_series_is_restored_as_one(name):
    still = condition(12)
    found = restored(name, still)
    assert found.shape == (12, *(SIDE,) * 3)
    assert error(found) < 0.45 * error(still.image.numpy()[:, 0])
    air = restored(name, condition(12, clean=np.zeros((SIDE,) * 3, np.float32)))
    assert float(np.median(air)) < 0.35 * SIGMA  # what averages of magnitudes hold of noise alone is none


@pytest.mark.parametrize("name", SERIES)
def test_what_changes_strongly_stays(name):
    """A region that is a fifth brighter in every other volume, four deviations of the noise."""
    course = np.arange(12) % 2
    where = np.zeros((SIDE,) * 3, bool)
    where[8:16, 8:16, 8:16] = True
    given = condition(12)
    more = torch.from_numpy(0.2 * course[:, None, None, None, None] * where[None, None].astype(np.float32))
    found = restored(name, Condition(given.image + more.float(), SIGMA))
    kept = (found[course == 1].mean(0) - found[course == 0].mean(0))[where].mean() / 0.2
    assert kept == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["nlm", "mppca"])
def test_a_state_is_refused_and_no_noise_changes_nothing(name):
    given = condition(8)
    denoise = MODELS[name].load(LoadContext())
    with pytest.raises(ModelError, match="no samples"):
        denoise(given.image, 0.1, given)
    clean = Condition(given.image, 0.0)
    assert torch.allclose(denoise(given.image, math.inf, clean), given.image)


@pytest.mark.filterwarnings("error")
def test_patches_without_noise_are_nothing_to_warn_of():
    from medrestore_classical.low_rank import mppca

    same = np.broadcast_to(ball()[:6, :6, :6, None], (6, 6, 6, 6))
    assert np.allclose(mppca(same), same, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_has_the_verdict_of_every_model(name):
    card = (FOLDER / "cards" / f"{name}.md").read_text()
    counts = re.search(r"Made by `medrestore verify`: \*\*(\d+) passed, (\d+) failed", card)
    assert counts is not None
    row = f"| [`{name}`](cards/{name}.md) | {counts[1]} | {counts[2]} |"
    assert row in (FOLDER / "README.md").read_text()


def test_the_threshold_of_nordic_is_that_of_a_patch():
    from medrestore_classical.low_rank import _largest_of_noise

    assert _largest_of_noise(343, 31) == pytest.approx(math.sqrt(343) + math.sqrt(31), rel=0.04)


def test_means_do_not_depend_on_the_threads_that_a_user_allows(monkeypatch):
    """DIPY's blockwise means lose blocks where several threads write to them, of this size nearly always."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    noisy = np.random.default_rng(0).normal(1, 0.3, (64, 64, 64)).astype(np.float32)
    first, *again = (filters.nlm(noisy, 0.3, rician=False) for _ in range(4))
    for one in again:
        np.testing.assert_array_equal(one, first)


def test_air_of_ct_keeps_its_mean():
    noise = np.random.default_rng(0).normal(0, 0.025, (16,) * 3).astype(np.float32)
    for name in ("nlm-ct", "tv-ct", "wavelet-ct"):
        air = restored(name, Condition(torch.from_numpy(noise[None, None]), 0.025))
        assert abs(float(air.mean()) - float(noise.mean())) < 0.001, name  # 1 HU; it was 21 with nlm-ct
