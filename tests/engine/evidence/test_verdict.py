"""The verdict: what the limits make of the statistics, when there is none, and where it is told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage
from tiny import SUPERRES, model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, Volume, read, restore
from medrestore.engine.evidence import verdict as verdicts
from medrestore.engine.evidence.consistency import Consistency, ExpectedNoise, consistency
from medrestore.engine.evidence.verdict import CAUSES, Range, Verdict, judge, known_limits
from medrestore.engine.models.load import load_model
from medrestore.findings import Severity
from medrestore.provenance import RunRecord, series_record
from medrestore.types import Judgement, Task

LIMITS = {"mean": Range((-0.1, 0.1), (-0.2, 0.2)), "excursion": Range((0, 8), (0, 10))}


@pytest.mark.parametrize(
    ("statistics", "judgement", "causes"),
    [
        ({"mean": 0.1, "excursion": 8.0}, Judgement.PASS, ()),
        ({"mean": 0.0, "excursion": None}, Judgement.PASS, ()),
        ({"mean": -0.15, "excursion": 2.0}, Judgement.WARN, ("mean",)),
        ({"mean": -0.15, "excursion": 11.0}, Judgement.FAIL, ("excursion",)),
        ({"mean": 0.9, "excursion": 11.0}, Judgement.FAIL, ("mean", "excursion")),
        ({"mean": 0.0, "unknown": 99.0}, Judgement.PASS, ()),
    ],
)
def test_the_worst_statistic_decides_and_is_named(statistics, judgement, causes):
    assert judge(Consistency(20_000, statistics), LIMITS) == (judgement, causes)


def test_a_verdict_that_is_not_good_is_a_warning_that_says_why_and_where():
    measured = Consistency(20_000, {"mean": 0.0, "excursion": 12.3}, (4, 5, 6))
    bad = Verdict(Judgement.FAIL, "", measured, LIMITS, ("excursion",), "nothing")
    (finding,) = bad.findings
    assert (finding.code, finding.severity) == ("verdict-fail", Severity.WARNING)
    assert "around voxel (4, 5, 6) (excursion 12.3, good results have 0 to 8)" in finding.text
    assert finding.data["excursion"] == 12.3
    assert Verdict(Judgement.PASS, "", measured, LIMITS).findings == ()
    assert Verdict(None, "because").findings == ()


def test_the_shipped_limits_are_of_all_statistics():
    limits = known_limits()
    assert set(limits) == {
        "MR denoise",
        "CT denoise",
        "MR superres",
    }  # no patient's CT to set those of slices
    for kind, found in limits.items():
        assert set(found) - set(CAUSES) == set()
        missing = set(CAUSES) - set(found)
        assert missing == ({"colour"} if kind.startswith("CT") else set()), kind
        for one in found.values():
            assert one.fail[0] <= one.warn[0] < one.warn[1] <= one.fail[1]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = tmp_path_factory.mktemp("models")
    folders = {
        Task.DENOISE: model_folder(made / "tiny"),
        Task.SUPERRES: model_folder(made / "slices", **SUPERRES),
    }
    return {
        task: load_model(RestoreOptions(model=str(folder), device="cpu")) for task, folder in folders.items()
    }


def scan(size: int = 40, level: float = 0.05) -> Volume:
    return Volume.from_array(noisy(phantom(size), level), modality=Modality.MR)


def test_the_record_has_the_verdict_and_what_it_rests_on(models):
    record = restore(scan(), model=models[Task.DENOISE]).record
    told = record.verdict
    assert record.judgement is not None
    assert set(told["statistics"]) == set(CAUSES)
    assert told["limits"]["mean"]["warn"] == known_limits()["MR denoise"]["mean"].warn
    assert bool(told["causes"]) == (record.judgement is not Judgement.PASS)
    assert "weaker than the noise" in told["cannot_tell"]
    assert RunRecord.from_json(record.to_json()) == record
    old = {key: value for key, value in json.loads(record.to_json()).items() if key != "verdict"}
    assert RunRecord.from_json(json.dumps(old)).judgement is None


def test_what_no_slice_shows_is_said_to_be_out_of_reach(models):
    thick = np.abs(scan(48).array.reshape(48, 48, 24, 2).mean(axis=3))
    volume = Volume.from_array(thick, np.diag([1, 1, 2, 1]), modality=Modality.MR)
    record = restore(volume, RestoreOptions(task="superres"), model=models[Task.SUPERRES]).record
    assert "no slice shows" in record.verdict["cannot_tell"]


@pytest.mark.parametrize("task", [Task.DENOISE, Task.SUPERRES])
def test_a_part_of_a_restoration_is_judged_by_the_whole(models, task):
    thick = np.abs(scan(48).array.reshape(48, 48, 24, 2).mean(axis=3))
    slices = Volume.from_array(thick, np.diag([1, 1, 2, 1]), modality=Modality.MR)
    given = slices if task is Task.SUPERRES else scan(48)
    whole, part = (
        restore(given, RestoreOptions(task=task, strength=strength), model=models[task]).record
        for strength in (1.0, 0.25)
    )
    assert part.judgement is whole.judgement
    for name, value in whole.verdict["statistics"].items():
        assert part.verdict["statistics"][name] == pytest.approx(value, rel=1e-3, abs=1e-4)
    assert part.noise["std_over_sigma"] < 0.6 * whole.noise["std_over_sigma"]


@pytest.mark.parametrize(
    ("volume", "options", "reason"),
    [
        (scan(16), {}, "voxels of tissue are too few"),
        (scan(level=0.0001), {"noise": 0}, "no noise was taken out"),
        (scan(), {"strength": 0.0}, "no noise was taken out"),
        (scan(), {"output": "sample", "steps": 1, "sampler": "euler"}, "this is a sample"),
    ],
)
def test_no_verdict_is_given_where_nothing_can_be_said(models, volume, options, reason):
    record = restore(volume, RestoreOptions(**options), model=models[Task.DENOISE]).record
    assert record.judgement is None
    assert reason in record.verdict["reason"]
    assert not {finding.code for finding in record.findings} & {"verdict-warn", "verdict-fail"}


def test_a_task_and_modality_without_limits_get_no_verdict(models, monkeypatch):
    monkeypatch.setattr(verdicts, "known_limits", dict)
    record = restore(scan(), model=models[Task.DENOISE]).record
    assert record.verdict["reason"] == "no limits were set for denoise of MR"


def test_a_series_has_the_worst_verdict_and_all_findings(models):
    good = restore(scan(), model=models[Task.DENOISE]).record

    def judged(word):
        return RunRecord.from_json(
            json.dumps({**json.loads(good.to_json()), "verdict": {"verdict": word}, "findings": []})
        )

    records = [judged(None), judged("PASS"), judged("FAIL"), judged("WARN"), good]
    whole = series_record(records)
    assert whole.judgement is Judgement.FAIL
    assert whole.findings == good.findings
    assert series_record([judged(None), judged(None)]).judgement is None


@pytest.mark.needs_shared
def test_a_good_result_passes_and_bad_ones_fail(shared):
    """A scan that neither the model nor the limits have seen."""
    source = read(shared / "data/mr/ds002748/sub-24_T1w.nii.gz")
    clean = source.array[40:104, 45:109, 10:74]
    volume = Volume.from_array(noisy(clean, 0.05), source.geometry.affine, modality=Modality.MR)
    done = restore(volume, RestoreOptions(model="mr-denoise"))
    assert done.record.judgement is Judgement.PASS
    result, sigma = done.volume.array, done.record.noise["sigma"]
    sphere = np.zeros(result.shape, np.float32)
    sphere[30:35, 30:35, 30:35] = 3 * sigma
    limits, expected = known_limits()["MR denoise"], ExpectedNoise(sigma, correlations=(0.0, 0.0, 0.0))
    for bad in (ndimage.gaussian_filter(result, 0.7), result + sphere, result * 1.05):
        judgement, _ = judge(consistency(volume.array, bad, expected), limits)
        assert judgement is Judgement.FAIL


def test_slices_of_ct_are_judged_as_those_of_mr_are_but_for_the_unevenness_of_their_noise():
    found, known = verdicts.limits_of("CT superres"), known_limits()
    assert found.pop("unevenness") == known["CT denoise"]["unevenness"]
    assert found == {name: one for name, one in known["MR superres"].items() if name != "unevenness"}
    assert verdicts.limits_of("CT denoise") is known["CT denoise"]
    assert verdicts.limits_of("PET superres") is None


def test_limits_of_another_kind_say_nothing_of_slices_with_their_noise(models, monkeypatch):
    monkeypatch.setattr(verdicts, "LIKE", {"MR superres": ("MR superres", "MR denoise")})
    thick = np.abs(scan(48).array.reshape(48, 48, 24, 2).mean(axis=3))
    volume = Volume.from_array(thick, np.diag([1, 1, 2, 1]), modality=Modality.MR)
    noisy, clean = (
        restore(volume, RestoreOptions(task="superres", noise=noise), model=models[Task.SUPERRES]).record
        for noise in ("auto", 0)
    )
    assert noisy.judgement is None
    assert noisy.verdict["reason"] == "no limits were set for slices that are resolved with their noise"
    assert clean.judgement is not None
