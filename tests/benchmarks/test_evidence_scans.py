"""Scans that evidence rests on: how packed ones are read, and what slices of CT are made of."""

from __future__ import annotations

import io
import plistlib
import tarfile
from argparse import Namespace

import numpy as np
import pytest

from benchmarks.evidence import calibrate, cases
from benchmarks.evidence.computed import tissues
from benchmarks.evidence.packed import unpacked
from benchmarks.evidence.parts import boxes, cut
from medrestore.errors import InputError
from medrestore.noise.ct import estimate_ct_noise
from medrestore.types import Modality
from medrestore.volume import Volume


@pytest.fixture
def cylinder() -> Volume:
    """Water in air, in voxels of 1 mm, longer along the last axis than a part is."""
    x, y = np.ogrid[-32:32, -32:32]
    plane = np.where(x**2 + y**2 < 28**2, np.float32(0), np.float32(-1000))
    return Volume.from_array(np.repeat(plane[:, :, None], 24, axis=2), np.eye(4), Modality.CT)


def test_a_project_of_invesalius_is_read_as_it_lies(tmp_path):
    voxels = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) - 1000  # (Z, Y, X)
    about = {
        "matrix": {"dtype": "int16", "filename": "matrix.dat", "shape": [2, 3, 4]},
        "spacing": [0.5, 0.75, 1.5],
    }
    path = tmp_path / "some.inv3"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("main.plist", plistlib.dumps(about)), ("matrix.dat", voxels.tobytes())):
            member = tarfile.TarInfo(f"tmp/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    found = unpacked(path)
    assert found.modality is Modality.CT
    assert found.spacing == (0.5, 0.75, 1.5)
    np.testing.assert_array_equal(found.array, voxels.transpose(2, 1, 0))


def test_the_tissues_of_a_brain_are_told_by_their_brightness():
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 4, (12, 12, 12))
    brain = np.array([0, 30, 90, 120])[tissue] + np.where(tissue > 0, rng.normal(0, 2, tissue.shape), 0)
    fluid, grey, white = 4, 3, 2
    np.testing.assert_array_equal(tissues(brain), np.array([0, fluid, grey, white])[tissue])


def test_slices_of_ct_have_the_noise_that_their_name_says(cylinder):
    kinds = [one for one in cases.SLICED_CT if one[0] <= cases.THICKEST[Modality.CT]]
    made = list(cases._sliced(cylinder, np.random.default_rng(0)))
    assert len(made) == len(kinds) < len(cases.SLICED_CT)
    for (name, scan), (factor, _, _, share) in zip(made, kinds, strict=True):
        assert scan.spacing[2] == factor
        assert estimate_ct_noise(scan.array) == pytest.approx(1000 * share, rel=0.2, abs=1), name


def test_a_part_lies_where_it_was_cut_out(cylinder):
    for box in boxes(cylinder, (32, 32, 24), 3):
        part = cut(cylinder, cylinder.array, box)
        place = [one.start for one in box]
        assert part.shape == (32, 32, 24)
        np.testing.assert_array_equal(part.geometry.world((0, 0, 0)), place)


def test_each_truth_of_a_subject_is_drawn_from_anew(monkeypatch, tmp_path, cylinder):
    seeds = []

    def restored(model, truth, subject, options):
        seeds.append((subject, options.seed))
        if subject == "refused":
            raise InputError("no draw is a scan")
        return []

    given = (("one", 0), ("one", 1), ("refused", 0), ("two", 0))
    monkeypatch.setattr(calibrate, "truths", lambda *_: ((*one, cylinder) for one in given))
    monkeypatch.setattr(calibrate, "restored_scans", restored)
    asked = Namespace(keep=tmp_path, nilearn=tmp_path, seed=7)
    assert calibrate.part(None, "ct-superres", "tune", asked) == []
    assert seeds == [("one", 7), ("one", 8), ("refused", 7), ("two", 7)]
