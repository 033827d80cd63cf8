"""Virtual lesions in a scan: a denoiser that keeps them, ones that lose them, and what is told of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import SUPERRES, model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.diffusion import Condition
from medrestore.engine import load_model
from medrestore.engine.cost.budget import predict
from medrestore.engine.evidence.detectability import (
    CONTRASTS,
    DIAMETERS,
    FEWEST,
    evaluated,
    observe,
    tissue,
)
from medrestore.engine.evidence.observed import STRENGTHS, judged
from medrestore.errors import ConfigError
from medrestore.metrics.observer import (
    area_under_curve,
    channels,
    detectability_index,
    flat_deviation,
    seen,
    template,
)

SIGMA, SIDE = 0.05, 72


def scan(seed: int = 0) -> np.ndarray:
    """Return soft tissue of slowly varying brightness, with white noise."""
    rng = np.random.default_rng(seed)
    slow = ndimage.gaussian_filter(rng.standard_normal((SIDE,) * 3), 8, mode="wrap")
    return (0.8 + 0.03 * slow / slow.std() + SIGMA * rng.standard_normal((SIDE,) * 3)).astype(np.float32)


def tried(change, **asked):
    """Return what is told of a denoiser that changes an image, and the codes of what is found."""
    condition = Condition(torch.from_numpy(scan())[None, None], SIGMA)

    def denoiser(x, sigma, given):
        assert math.isinf(sigma)
        return torch.from_numpy(change(given.image[0, 0].numpy()).astype(np.float32))[None, None]

    observed = observe(condition, denoiser, share=asked.pop("share", 1.0), is_ct=False, seed=0)
    facts, findings = judged(observed, asked.pop("strength", 1.0), 0)
    return facts, [one.code for one in findings]


def test_what_changes_nothing_loses_nothing():
    facts, codes = tried(lambda image: image)
    assert not codes
    assert facts["overall"]["verdict"] == "not inferior"
    assert facts["overall"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert {(row["diameter"], row["contrast"]) for row in facts["spheres"]} == {
        (diameter, contrast) for diameter in DIAMETERS for contrast in CONTRASTS
    }
    assert all(kept == pytest.approx(1) for row in facts["spheres"] for kept in row["kept"].values())
    index = {row["contrast"]: row["before"]["index"] for row in facts["spheres"] if row["diameter"] == 3}
    assert index[1.0] < index[2.0] < index[3.0]


def test_what_smooths_spheres_away_is_inferior_and_a_weaker_strength_is_not():
    def smooth(image):
        return ndimage.gaussian_filter(image, 6)

    facts, codes = tried(smooth)
    assert codes == ["detectability-lost"]
    small = facts["spheres"][0]
    assert small["diameter"] == 3 and small["verdict"] == "inferior"
    assert small["difference"]["high"] < -facts["margin"]
    areas = [step["area"] for step in facts["strengths"]]
    noise = [step["noise"] for step in facts["strengths"]]
    assert [step["strength"] for step in facts["strengths"]] == list(STRENGTHS)
    assert areas[0] == pytest.approx(facts["overall"]["before"]["value"])
    assert areas[-1] == pytest.approx(facts["overall"]["after"]["value"])
    assert noise == sorted(noise, reverse=True) and noise[0] == pytest.approx(1)
    assert tried(smooth, strength=0.0)[1] == []
    assert tried(smooth, share=0.0)[1] == []


def test_what_erases_one_polarity_is_told_by_the_contrast_kept():
    facts, _ = tried(lambda image: np.minimum(image, ndimage.gaussian_filter(image, 3)))
    strong = facts["spheres"][2]["kept"]
    assert strong["bright"] < strong["dark"]


def test_the_same_seed_tells_the_same():
    assert tried(lambda image: 0.9 * image) == tried(lambda image: 0.9 * image)


def test_tissue_is_no_air_and_no_border():
    image = np.zeros((60, 60, 60), np.float32)
    image[20:] = 1
    inside = tissue(image, is_ct=False)
    assert not inside[:20].any() and inside[40, 30, 30]
    assert not inside[:, :8].any() and not inside[:, :, -8:].any()
    bone = np.where(image == 1, np.float32(2.0), np.float32(1.0))
    assert not tissue(bone, is_ct=True)[40, 30, 30] and tissue(bone, is_ct=True)[12, 30, 30]


def test_a_restoration_tells_it_foresees_it_and_says_where_it_cannot(tmp_path):
    model = load_model(RestoreOptions(model=str(model_folder(tmp_path / "tiny")), device="cpu"))
    head = Volume.from_array(noisy(phantom(96), 0.05), modality=Modality.MR)
    asked = RestoreOptions(detectability=True)
    record = restore(head, asked, model=model).record
    assert record.detectability["places"] >= FEWEST
    assert record.settings["detectability"] is True
    assert restore(head, RestoreOptions(), model=model).record.detectability == {}
    small = Volume.from_array(noisy(phantom(24), 0.05), modality=Modality.MR)
    told = restore(small, asked, model=model).record
    assert set(told.detectability) == {"reason"}
    assert "detectability-unknown" in [one.code for one in told.findings]
    shape = (96, 96, 96)
    more, less = (predict(shape, one, model=model).seconds for one in (asked, RestoreOptions()))
    assert evaluated(shape) == 5 * 96**3 and evaluated((200, 300, 10)) == 5 * 96 * 96 * 10
    assert more > 2 * less


def test_it_is_refused_where_more_than_noise_is_undone(tmp_path):
    folder = model_folder(tmp_path / "thick", **SUPERRES)
    with pytest.raises(ConfigError, match="detectability is told of denoising alone"):
        load_model(RestoreOptions(model=str(folder), detectability=True))


def test_channels_see_no_flat_background_and_the_observer_finds_a_known_signal():
    assert channels() @ np.ones(channels().shape[1]) == pytest.approx(np.zeros(len(channels())), abs=1e-6)
    image = np.random.default_rng(1).standard_normal((40, 40, 40)).astype(np.float32)
    places = [(x, y, z) for x in (10, 20, 30) for y in (10, 20, 30) for z in (10, 20, 30)]
    noise = seen(image, places)
    np.testing.assert_allclose(seen(image + 5, places), noise, atol=1e-4)
    signal = np.array([3.0, 0, 0, 0])
    weights = template(signal, noise)
    scores = noise @ weights
    assert area_under_curve(scores + signal @ weights, scores) > 0.9
    assert area_under_curve(scores, scores) == pytest.approx(0.5)
    assert detectability_index(scores + scores.std(), scores) == pytest.approx(1)


def test_the_deviation_of_flat_tissue_is_that_of_its_noise():
    rng = np.random.default_rng(2)
    image = 10 * rng.standard_normal((50, 50, 50)).astype(np.float32)
    image[25:] += 1000 * rng.random((25, 50, 50), dtype=np.float32)
    found = flat_deviation(image, np.ones(image.shape, bool))
    assert found == pytest.approx(10, rel=0.2)
    assert flat_deviation(image, np.zeros(image.shape, bool)) == 0
