"""How well a denoiser explains a scan: what is lost of the scan itself, and what is made of that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny import model_folder

from medrestore import Modality, RestoreOptions, read, restore
from medrestore.engine import load_model
from medrestore.engine.evidence import explained as module
from medrestore.engine.evidence.explained import (
    Explained,
    KnownRange,
    evaluated,
    explained,
    finest_noise,
    judged,
    known_ranges,
    tried,
)
from medrestore.engine.models.domain import Admission
from medrestore.errors import DomainError
from medrestore.geometry import Geometry
from medrestore.training import anatomy
from medrestore.volume import Volume

ROOT = Path(__file__).resolve().parents[3]
KNOWN = KnownRange("", unusual=0.5, refused=0.8, subjects=9, inputs=30)


def head() -> Volume:
    return read(ROOT / "sample_data" / "colin27_crop.nii.gz")


def body(streaks: float = 0.0) -> Volume:
    """Return slices of a computed body in HU, with a rod of metal and streaks of so many HU from it."""
    made = anatomy.torso(np.random.default_rng(5))
    hu = made.hu[:, :, :24]
    hu = hu + 15 * np.random.default_rng(1).standard_normal(hu.shape, dtype=np.float32)
    if streaks:
        x, y = (np.arange(side) - side / 2 for side in hu.shape[:2])
        rays = np.sign(np.sin(18 * np.arctan2(y[None], x[:, None])))[..., None]
        rod = (np.hypot(x[:, None], y[None]) < 4)[..., None]
        hu = np.where(rod, 8000, hu + streaks * rays).astype(np.float32)
    return Volume(hu, Geometry(hu.shape, np.diag([*made.spacing, 1.0])), Modality.CT)


def test_a_denoiser_that_gives_back_the_scan_loses_nothing_and_one_that_smooths_loses_it():
    model = load_model(RestoreOptions(model="mr-denoise"))
    seen = {}

    def whole(x, sigma, condition):
        seen["image"] = condition.image
        return condition.image - condition.sigma * module.volume_noise(condition.image.shape, (module.SEED,))

    def smooth(x, sigma, condition):
        return torch.full_like(condition.image, float(condition.image.mean()))

    kept = explained(head(), model.spec, whole)
    assert kept is not None and max(kept.errors) < 1e-4 and kept.lost == (0.0, 0.0)
    assert tuple(seen["image"].shape[2:]) == (module.SIDE,) * 3
    gone = explained(head(), model.spec, smooth)
    assert gone is not None and gone.lost[0] > 2 * gone.lost[1] > 2


def test_the_noise_that_a_scan_has_is_not_what_is_lost_of_it():
    noise = np.random.default_rng(2).standard_normal((64, 64, 64)).astype(np.float32)
    smooth = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((64, 64, 64)), 6)
    own = finest_noise(np.asarray(0.05 * noise + smooth, dtype=np.float32))
    assert own == pytest.approx(0.05, rel=0.03)
    # A denoiser that takes out just that is off by it.
    assert Explained((0.03, 0.1), (0.05 / 0.03, 0.5), own, (0, 0, 0)).lost[1] < 0.12


def test_more_than_known_is_said_and_much_more_is_refused():
    def of(lost: float) -> Explained:
        return Explained((0.03, 0.1), (lost, lost), 0.0, (1, 2, 3))

    assert judged(of(0.4), KNOWN).finding is None
    said = judged(of(0.6), KNOWN)
    assert said.finding is not None and said.finding.code == "scan-not-explained" and not said.is_refused
    assert judged(of(0.9), KNOWN).is_refused
    assert judged(of(9.0), None).finding is None and "reason" in judged(of(9.0), None).facts
    assert judged(None, KNOWN).finding is None and "reason" in judged(None, KNOWN).facts


def test_a_refusal_can_be_forced_and_is_recorded(monkeypatch):
    model = load_model(RestoreOptions(model="mr-denoise"))
    strict = replace(KNOWN, sha256=model.spec.sha256, unusual=0.0, refused=0.01)
    monkeypatch.setattr(module, "known_ranges", lambda: {strict.sha256: strict})
    before = Admission((), {"outside": False})
    with pytest.raises(DomainError, match=r"does not know such scans; .*--force"):
        tried(head(), before, model, force=False)
    forced = tried(head(), before, model, force=True)
    assert forced.facts["outside"] is True and forced.facts["explained"]["refused"] == 0.01
    assert [one.code for one in forced.findings] == ["scan-not-explained"]


def test_a_model_that_names_no_domain_is_not_tried(tmp_path):
    model = load_model(RestoreOptions(model=str(model_folder(tmp_path / "tiny"))))
    assert tried(head(), Admission(), model, force=False) == Admission()


def test_the_record_says_what_is_lost_of_a_head_and_nothing_is_warned_of():
    small = head()
    small = Volume(small.array[:64, :64, :56], Geometry((64, 64, 56), small.geometry.affine), Modality.MR)
    record = restore(small, RestoreOptions(noise="5%")).record
    told = record.domain["explained"]
    assert 0 < told["lost"][1] < told["unusual"] < told["refused"]
    assert json.loads(record.to_json())["domain"]["explained"] == json.loads(json.dumps(dict(told)))
    assert "scan-not-explained" not in [one.code for one in record.findings]


def test_streaks_are_not_explained_and_a_body_is():
    model = load_model(RestoreOptions(model="ct-denoise"))
    assert tried(body(), Admission(), model, force=False).findings == ()
    found = tried(body(600), Admission(), model, force=True).findings
    assert [one.code for one in found] == ["scan-not-explained"]


def test_the_ranges_were_measured_with_the_weights_that_are_shipped():
    """After weights are replaced: `python -m benchmarks.evidence.explained`, as its page says."""
    for name in ("mr-denoise", "ct-denoise"):
        known = known_ranges()[load_model(RestoreOptions(model=name)).spec.sha256]
        assert 0 < known.unusual < known.refused < 1 and known.subjects >= 9


def test_it_costs_no_more_than_6_percent_of_a_scan_of_128_voxels_cubed():
    assert evaluated((128, 128, 128)) / 128**3 < 0.062
    assert evaluated((64, 64, 20)) == 2 * 40 * 40 * 20
