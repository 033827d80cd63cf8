"""A level that is told, beside what the scan shows: what is kept of both, and when it is warned of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import SUPERRES, model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine.models.checks import check_told
from medrestore.noise.level import Estimate, NoiseLevel, mr_noise_level, noise_level
from medrestore.noise.told import TRUE_OVER_READ, Kind, Reading, kind_of
from medrestore.plugin import Intensity

CODE = "noise-contradicted"
PAGE = Path(__file__).parents[2] / "docs/benchmarks/told.json"
SIZE = 48


@pytest.fixture(scope="module")
def scan() -> Volume:
    return Volume.from_array(noisy(phantom(SIZE), 0.05), modality=Modality.MR)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(model_folder(tmp_path_factory.mktemp("told") / "model"))


def warned(scan: Volume, **options) -> list:
    record = restore(scan, RestoreOptions(**options)).record
    return [one for one in record.findings if one.code == CODE]


def test_the_limits_are_those_of_the_page():
    limits = json.loads(PAGE.read_text())["limits"]
    assert limits == {str(kind): list(ends) for kind, ends in TRUE_OVER_READ.items()}


@pytest.mark.parametrize("kind", Kind)
def test_a_level_goes_with_what_was_read_between_the_limits_and_where_both_are_faint(kind):
    read, (low, high) = Reading.of(100.0, kind, 2000.0), TRUE_OVER_READ[kind]
    assert (read.least, read.most) == pytest.approx((100 * low, 100 * high))
    assert read.goes_with(100.0) and not read.goes_with(99 * low) and not read.goes_with(101 * high)
    faint = Reading.of(6.0, kind, 2000.0)  # a level of 10 is 0.5 % of the bright one
    assert faint.goes_with(0.0) and faint.goes_with(15.9) and not faint.goes_with(100.0)


def test_what_is_told_is_taken_and_what_is_read_is_kept(scan):
    percentile = float(np.percentile(scan.array, 99))
    found = mr_noise_level(scan, "auto", percentile)
    told = mr_noise_level(scan, "2%", percentile)
    assert found.read is None and found.measured is not None
    assert (told.sigma, told.measured.sigma) == pytest.approx((0.02 * percentile,) * 2)
    assert told.read == Reading.of(found.sigma, kind_of(found.measured), percentile)
    assert json.loads(json.dumps(told.as_json()))["read"]["sigma"] == pytest.approx(found.sigma)


@pytest.mark.parametrize("intensity", [Intensity.ATTENUATION, Intensity.RAW])
def test_it_is_read_however_noise_is(intensity):
    array = np.random.default_rng(0).normal(40, 20, (32, 32, 8)).astype(np.float32)
    read = noise_level(array, 20.0, 1000.0, intensity).read
    assert read.sigma == pytest.approx(noise_level(array, "auto", 1000.0, intensity).sigma)
    assert read.kind is (Kind.CT if intensity is Intensity.ATTENUATION else Kind.SLICES)


@pytest.mark.parametrize(("told", "times"), [("2.5%", "twice"), ("10%", "half"), (0, "none"), ("5%", "")])
def test_a_level_that_the_scan_does_not_show_is_warned_of(scan, model, told, times):
    found = warned(scan, model=model, noise=told)
    assert len(found) == bool(times)
    if found:
        low, high = found[0].data["range"]
        assert low < found[0].data["read"] < high
        assert not low <= found[0].data["told"] <= high
        assert "was given, and the scan shows" in found[0].text


def test_what_an_estimator_from_elsewhere_found_is_compared_as_well():
    array = noisy(phantom(SIZE), 0.05)
    percentile = float(np.percentile(array, 99))
    scan = Volume.from_array(array, modality=Modality.MR)
    level = mr_noise_level(scan, Estimate(0.2 * percentile, "median/mad"), percentile)
    (found,) = check_told(level)
    assert "was given by median/mad, and the scan shows" in found.text


def test_slices_are_compared_too(tmp_path):
    model = str(model_folder(tmp_path / "slices", **SUPERRES))
    thick = noisy(phantom(SIZE).reshape(SIZE, SIZE, SIZE // 3, 3).mean(axis=3), 0.05)
    scan = Volume.from_array(thick, np.diag([1.0, 1.0, 3.0, 1.0]), modality=Modality.MR)
    assert [len(warned(scan, model=model, noise=told)) for told in ("5%", "2.5%", "25%")] == [0, 1, 1]


def test_where_nothing_was_read_nothing_is_said():
    assert check_told(NoiseLevel(5.0, 0.05, "given")) == ()
