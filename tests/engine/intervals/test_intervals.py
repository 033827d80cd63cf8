"""Intervals: the statistics by themselves, on errors whose distribution is known."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tomli_w

from medrestore.engine.evidence import intervals as evidence
from medrestore.engine.intervals.bound import Deviations, Expected, deviations
from medrestore.engine.intervals.calibration import FILE, LEVELS, Ranges, find_calibration, read_calibration
from medrestore.engine.intervals.conformal import Partition, Scores, coverage, two_sided
from medrestore.engine.intervals.features import LOCAL
from medrestore.engine.intervals.fit import CalibratedModel, RestoredScan, as_table, fit_calibration
from medrestore.engine.intervals.scale import fit_scale
from medrestore.errors import ConfigError

VOXELS = 4000
FACTS = Ranges((0.05, 0.05), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
WHAT = CalibratedModel("tiny", "", 1, "white", "")


def true_scale(features: np.ndarray) -> np.ndarray:
    """What the errors of `restored` are drawn with: larger at edges, more so in bright tissue."""
    return np.exp(-0.8 + 0.5 * features[1] + 0.2 * features[1] * features[4]).astype(np.float32)


def restored(subject: str, seed: int, width: float = 1.0, bias: float = 0.0) -> RestoredScan:
    """Return a scan whose errors are Gaussian around `bias`, of `true_scale` times `width`."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((len(LOCAL), VOXELS)).astype(np.float32)
    noise = np.full(VOXELS, 0.05, np.float32)
    scale = width * true_scale(features) * noise
    errors = (scale * (rng.standard_normal(VOXELS) + bias)).astype(np.float32)
    psnr = 10 * math.log10(1 / float(np.mean(np.square(errors, dtype=np.float64))))
    texture = np.full(VOXELS, 0.01, np.float32)
    return RestoredScan(
        subject, features, noise, errors, texture, 1.0, psnr, 0.9 + 0.001 * seed % 0.05, FACTS
    )


def calibration(widths: tuple[float, ...] = (1.0,) * 8, bias: float = 0.0):
    tuning = [restored(f"tuned {seed}", seed) for seed in range(3)]
    held_out = [restored(f"held out {n}", 50 + n, width, bias) for n, width in enumerate(widths)]
    return fit_calibration(tuning, held_out, WHAT)


def covered(made, scan: RestoredScan, level: float) -> np.ndarray:
    size = made.scale(scan.features)
    group = made.quantiles.groups(size, scan.features[LOCAL.index("brightness")])
    lower, upper = made.ends(level, in_doubt=scan.in_doubt)[:, group] * np.exp(size) * scan.noise
    return (scan.errors >= lower) & (scan.errors <= upper)


def test_the_scale_finds_what_the_errors_depend_on():
    scan = restored("one", 1)
    fitted = fit_scale(scan.features, np.abs(scan.errors) / scan.noise, 20)
    other = restored("two", 2)
    ratio = np.exp(fitted(other.features)) / (true_scale(other.features) * math.sqrt(2 / math.pi))
    assert np.percentile(ratio, [5, 95]) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9, 0.95])
def test_a_further_subject_is_covered_as_asked(level):
    made = calibration()
    found = covered(made, restored("new", 99), level)
    assert found.mean() == pytest.approx(level, abs=0.025)


def test_it_is_covered_wherever_the_errors_are_larger():
    scan = restored("new", 99)
    found, edges = covered(calibration(), scan, 0.9), scan.features[1]
    tenths = np.quantile(edges, np.linspace(0, 1, 11))
    shares = [found[(edges >= a) & (edges <= b)].mean() for a, b in zip(tenths, tenths[1:], strict=False)]
    assert min(shares) > 0.84


def test_a_bias_moves_the_interval_and_does_not_widen_both_sides():
    made = calibration(bias=1.5)
    lower, upper = made.quantiles.at(0.9)
    assert lower.min() > -1.0
    assert upper.min() > 2.5
    assert covered(made, restored("new", 99, bias=1.5), 0.9).mean() == pytest.approx(0.9, abs=0.03)


def test_subjects_that_differ_widen_the_interval():
    even, mixed = calibration(), calibration(widths=(0.6, 1.5, 0.8, 1.3))
    assert (
        np.diff(mixed.quantiles.at(0.9), axis=0).mean() > 1.2 * np.diff(even.quantiles.at(0.9), axis=0).mean()
    )
    unseen = [
        covered(mixed, restored("new", 90 + n, width), 0.9).mean() for n, width in enumerate((0.7, 1.4))
    ]
    assert np.mean(unseen) > 0.88


def test_a_subject_counts_alike_however_many_voxels_it_has():
    few = Scores(np.linspace(-10, 10, 100), np.zeros(100, np.intp), np.full(100, 0.01))
    many = Scores(np.linspace(-1, 1, 9900), np.zeros(9900, np.intp), np.full(9900, 1 / 9900))
    bounds = two_sided([few, many, replace(many)], [0.8], 1)[0]
    assert bounds[1, 0] > 3  # the voxels pooled would say 0.8
    assert coverage(many, bounds) == 1


def test_groups_are_cells_of_two_clues():
    groups = Partition((0.0, 1.0), (5.0,))
    size, bright = np.array([-1, 0.5, 2, 2.0]), np.array([4, 6, 4, 6.0])
    assert groups.count == 6
    assert groups(size, bright).tolist() == [0, 3, 4, 5]


def test_few_subjects_make_the_margin_wide():
    many, few = Deviations(0.0, 1.0, 50), Deviations(0.0, 1.0, 3)
    assert many.margin(0.9) == pytest.approx(1.31, abs=0.02)
    assert few.margin(0.9) > 2


def test_deviations_are_of_subjects_not_of_scans():
    found = deviations([[1.0, 3.0], [-2.0]])
    assert found.mean == 0
    assert found.deviation == pytest.approx(3.0)  # (1 + 9) / 2 and 4, over one degree of freedom
    assert found.subjects == 2


def test_what_is_expected_of_a_result_is_its_psnr_and_ssim_where_errors_are_as_expected():
    from medrestore.metrics import psnr, ssim

    rng = np.random.default_rng(0)
    result = 8 + rng.standard_normal((24, 24, 24))
    truth = result + 0.5 * rng.standard_normal(result.shape)  # what a posterior mean leaves
    expected = Expected(np.full(1000, 0.25, np.float32), np.full(1000, 1.0, np.float32), 8.0)
    assert expected.psnr == pytest.approx(psnr(result, truth, data_range=8.0), abs=0.1)
    assert expected.ssim == pytest.approx(ssim(result, truth, data_range=8.0), abs=0.01)


def test_a_bound_is_kept_by_nine_in_ten():
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(300):
        *known, new = rng.normal(0.3, 1.0, 9)
        found = deviations([[one] for one in known])
        kept.append(new >= found.mean - found.margin(0.9))
    assert 0.85 < np.mean(kept) < 0.95


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    made = calibration()
    path = tmp_path / FILE
    path.write_text(tomli_w.dumps(as_table(made)))
    assert read_calibration(path) == made
    assert read_calibration(path).digest == made.digest
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table.update(surprise=1), "unknown key 'surprise'"),
        (lambda table: table.pop("scale"), "missing key 'scale'"),
        (lambda table: table["scale"].update(means=[0.0]), "scale does not fit"),
        (lambda table: table["scale"]["weights"].append(math.nan), "scale.weights is nan"),
        (lambda table: table["quantiles"]["lower"].pop(), "quantiles does not fit"),
        (lambda table: table["quantiles"].update(rms="wide"), "quantiles.rms is 'wide'"),
        (lambda table: table["population"].update(subjects=1), "population.subjects does not fit"),
        (lambda table: table.update(bound=3), "bound is 3; expected a table"),
    ],
)
def test_what_is_no_calibration_is_told(tmp_path, change, told):
    table = as_table(calibration())
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    table["scale"] = {key: list(value) for key, value in table["scale"].items()}
    table["quantiles"]["lower"] = list(table["quantiles"]["lower"])
    change(table)
    path = tmp_path / FILE
    path.write_text(tomli_w.dumps(table))
    with pytest.raises(ConfigError, match=told):
        read_calibration(path)


def test_nothing_is_calibrated_on_two_subjects_or_on_those_it_was_tuned_on():
    scans = [restored(name, n) for n, name in enumerate("abc")]
    with pytest.raises(ConfigError, match="2 subjects are held out"):
        fit_calibration(scans[:1], scans[1:], WHAT)
    with pytest.raises(ConfigError, match="1 subjects are tuned on and held out"):
        fit_calibration(scans[:1], scans, WHAT)


def test_levels_between_those_of_the_file_are_interpolated():
    made = calibration()
    widths = [np.diff(made.quantiles.at(level), axis=0).mean() for level in (LEVELS[1], 0.85, LEVELS[2])]
    assert widths[0] < widths[1] < widths[2]


def test_a_calibration_of_other_weights_is_refused(tmp_path):
    spec = SimpleNamespace(weights=None, sha256=None)
    path = tmp_path / FILE
    path.write_text(tomli_w.dumps(as_table(replace(calibration(), sha256="0" * 64))))
    with pytest.raises(ConfigError, match="calibrated for weights 0000000000000000"):
        find_calibration("tiny", spec, str(path))


def doubted(count: int, width: float = 3.0) -> list[RestoredScan]:
    """Return scans whose errors are wider than the level of their noise lets expect, of as many subjects."""
    return [replace(restored(f"held out {n}", 70 + n, width), in_doubt=True) for n in range(count)]


def with_doubted(count: int):
    tuning = [restored(f"tuned {seed}", seed) for seed in range(3)]
    return fit_calibration(
        tuning, [restored(f"held out {n}", 50 + n) for n in range(8)] + doubted(count), WHAT
    )


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9, 0.95])
def test_a_scan_in_doubt_is_covered_as_asked_and_makes_no_other_wider(level):
    made, plain = with_doubted(4), calibration()
    assert made.quantiles == plain.quantiles and made.bound == plain.bound
    assert (made.in_doubt.subjects, made.in_doubt.scans) == (4, 4)
    new = restored("new", 99, 3.0)
    assert covered(made, replace(new, in_doubt=True), level).mean() == pytest.approx(level, abs=0.03)
    assert covered(made, new, level).mean() < level - 0.2
    expected = new.expected(made.scale, made.quantiles.rms)
    assert made.bound_of(in_doubt=True).least_psnr(expected, 0.9) <= new.psnr
    assert made.bound_of(in_doubt=True).least_psnr(expected, 0.9) < made.bound.least_psnr(expected, 0.9) - 5


def test_two_subjects_in_doubt_are_no_group_of_their_own():
    made = with_doubted(2)
    assert made.in_doubt is None
    assert made.quantiles != calibration().quantiles  # all scans set them
    ends = made.ends(0.9, in_doubt=True)
    np.testing.assert_array_equal(ends, made.quantiles.at(0.9))


def test_what_is_wider_in_doubt_is_read_back_and_held_to_make_sense(tmp_path):
    made, path = with_doubted(4), tmp_path / FILE
    table = as_table(made)
    path.write_text(tomli_w.dumps(table))
    assert read_calibration(path) == made
    for change in ({"below": [0.5] * 4}, {"above": [2.0] * 3}, {"subjects": 1}):
        path.write_text(tomli_w.dumps({**table, "in_doubt": {**table["in_doubt"], **change}}))
        with pytest.raises(ConfigError, match="in_doubt does not fit"):
            read_calibration(path)


def test_where_an_end_is_on_the_other_side_of_the_result_it_moves_outwards():
    ends = with_doubted(4).in_doubt.widened(np.array([[0.5, -1.0], [2.0, 3.0]]), 0.9)
    assert (ends[0] < [0.5, -1.0]).all() and (ends[1] > [2.0, 3.0]).all()


@pytest.mark.parametrize("uncleaned", [False, True])
def test_slices_that_keep_their_noise_are_warned_of(uncleaned):
    level = SimpleNamespace(in_doubt=False)
    scan = SimpleNamespace(uncleaned=uncleaned, skip_reason=None, share=1.0, noise=level)
    found = evidence._findings(calibration(), scan, FACTS, 1)
    assert [one.data["outside"] for one in found] == ([("slices",)] if uncleaned else [])
