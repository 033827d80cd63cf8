"""`medrestore calibrate`, and what `--interval` makes of the file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tomli_w
from tiny import SUPERRES, CommandLine, model_folder, noisy, phantom, save, scan_folder, with_calibration

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine.intervals.calibration import FILE, read_calibration
from medrestore.errors import ConfigError
from medrestore.metrics import head_mask, psnr

SIZE = 24


def shapes(folder, count: int = 6):
    """Write phantoms of several subjects: no two have the same brightness, place or noise."""
    folder.mkdir()
    for number in range(count):
        array = np.roll(phantom(SIZE, 500 + 100 * number), number % 3, axis=number % 3)
        save(folder / f"sub-{number:02d}_T1w.nii.gz", array)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model folder with a calibration beside its weights."""
    root = tmp_path_factory.mktemp("calibrated")
    return model_folder(root / "model"), shapes(root / "scans")


@pytest.fixture(scope="module")
def calibrated(made):
    from medrestore.engine import load_model
    from medrestore.options import CalibrateOptions
    from medrestore.training.calibrate import calibrate, write_calibration
    from medrestore.training.truths import find_truths

    model = load_model(RestoreOptions(model=str(made[0]), device="cpu"))
    found = calibrate(model, find_truths(made[1]), CalibrateOptions(draws=4))
    write_calibration(found, made[0] / FILE)
    return made[0]


@pytest.fixture
def run(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def scan():
    return Volume.from_array(noisy(phantom(SIZE), 0.05), modality=Modality.MR)


def test_the_command_writes_what_restore_takes(made, run, tmp_path):
    model = model_folder(tmp_path / "model")
    status, out, err = run("calibrate", model, made[1], "-o", tmp_path / "own.toml", "--draws", 2)
    assert status == 0, err
    assert "8 scans of 4 subjects, tuned on 2" in out
    found = read_calibration(tmp_path / "own.toml")
    assert (found.population.subjects, found.population.tuned_on, found.model) == (4, 2, "tiny")
    assert "sub-" not in (tmp_path / "own.toml").read_text()  # names of files may be names of people
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(SIZE), 0.05))
    options = ("--model", model, "--interval", 0.9, "--calibration", tmp_path / "own.toml")
    status, out, err = run("restore", scan, "-o", tmp_path / "out.nii.gz", *options)
    assert status == 0, err
    image, lower, upper = (
        np.asanyarray(nib.load(tmp_path / f"out{end}.nii.gz").dataobj) for end in ("", "_lower", "_upper")
    )
    assert (lower < upper).mean() > 0.9
    assert lower.min() >= 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["intervals"]["level"] == 0.9
    assert record["intervals"]["calibration"]["sha256"] == found.digest
    assert record["output"]["lower"]["path"] == "out_lower.nii.gz"
    assert f"{record['intervals']['bound']['psnr']:.1f} dB" in out
    assert image.shape == lower.shape


def test_seldom_is_the_truth_outside(calibrated):
    inside = []
    for seed in range(3):
        truth = np.roll(phantom(SIZE, 750), 1 + seed, axis=1)
        scan = Volume.from_array(noisy(truth, 0.05, seed + 100), modality=Modality.MR)
        result = restore(scan, RestoreOptions(model=str(calibrated), interval=0.9))
        lower, upper = (result.maps[name].array for name in ("lower", "upper"))
        inside.append(((truth >= lower) & (truth <= upper))[head_mask(truth)].mean())
        bound = result.record.intervals["bound"]
        found = psnr(result.volume.array, truth, data_range=float(np.ptp(truth)), mask=head_mask(truth))
        assert bound["psnr"] <= found <= bound["psnr"] + 15
    assert 0.8 < np.mean(inside) < 0.99


def test_a_higher_level_is_wider(calibrated, scan):
    widths = []
    for level in (0.5, 0.8, 0.95):
        maps = restore(scan, RestoreOptions(model=str(calibrated), interval=level)).maps
        widths.append((maps["upper"].array - maps["lower"].array).mean())
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]


def test_the_result_and_tiles_do_not_change(calibrated, scan):
    options = RestoreOptions(model=str(calibrated))
    plain, whole = restore(scan, options), restore(scan, replace(options, interval=0.9))
    tiled = restore(scan, replace(options, interval=0.9, tile=8))
    np.testing.assert_array_equal(plain.volume.array, whole.volume.array)
    assert not plain.maps
    for name in ("lower", "upper"):
        scale = float(np.ptp(scan.array))
        close = np.isclose(whole.maps[name].array, tiled.maps[name].array, atol=1e-4 * scale)
        assert close.mean() > 0.999  # a voxel at the edge of a group may fall to either side


def test_a_model_without_a_calibration_refuses_before_anything_runs(run, tmp_path):
    model = model_folder(tmp_path / "model")
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(SIZE), 0.05))
    status, _, err = run("restore", scan, "-o", tmp_path / "out.nii.gz", "--model", model, "--interval", 0.9)
    assert status == 2
    assert "medrestore calibrate tiny FOLDER" in err
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_calibration_of_other_weights_is_refused(calibrated, run, tmp_path):
    other = model_folder(tmp_path / "model", name="other", noise=[0.02, 0.1])
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(SIZE), 0.05))
    (tmp_path / "changed.toml").write_text(
        (calibrated / FILE).read_text().replace(read_calibration(calibrated / FILE).sha256, "0" * 64)
    )
    options = ("--model", other, "--interval", 0.9, "--calibration", tmp_path / "changed.toml")
    status, _, err = run("restore", scan, "-o", tmp_path / "out.nii.gz", *options)
    assert status == 2
    assert "calibrated for weights 0000000000000000" in err


def test_a_scan_unlike_those_of_the_calibration_is_warned_of(calibrated):
    strong = Volume.from_array(noisy(phantom(SIZE), 0.3), modality=Modality.MR)
    record = restore(strong, RestoreOptions(model=str(calibrated), interval=0.9)).record
    found = next(one for one in record.findings if one.code == "intervals-not-calibrated")
    assert "noise" in found.data["outside"]
    assert "calibrated were" in found.text


def test_a_level_that_is_unsure_is_warned_of_and_one_that_is_given_is_not(tmp_path):
    model = with_calibration(model_folder(tmp_path / "model"))
    inner = noisy(phantom(SIZE), 0.05)[8:16, 8:16, 8:16]  # no air, and too little tissue to be sure
    scan = Volume.from_array(np.ascontiguousarray(inner), modality=Modality.MR)
    options = RestoreOptions(model=str(model), interval=0.9)
    for asked, warned in ((options, True), (replace(options, noise="5%"), False)):
        record = restore(scan, asked).record
        outside = [one.data["outside"] for one in record.findings if one.code == "intervals-not-calibrated"]
        assert any("certainty" in names for names in outside) is warned


def test_a_level_that_is_unsure_widens_the_interval_where_the_calibration_has_such_scans(tmp_path):
    model = with_calibration(model_folder(tmp_path / "model"))
    inner = noisy(phantom(SIZE), 0.05)[8:16, 8:16, 8:16]
    scan = Volume.from_array(np.ascontiguousarray(inner), modality=Modality.MR)
    options = RestoreOptions(model=str(model), interval=0.9)
    before = restore(scan, options)
    table = tomllib.loads((model / FILE).read_text())
    departure = {"mean": -3.0, "deviation": 1.0, "subjects": 5}
    factors = {"below": [2.0] * 4, "above": [3.0] * 4, "bound": {"psnr": departure, "ssim": departure}}
    table["in_doubt"] = {"subjects": 5, "scans": 5, **factors}
    (model / FILE).write_text(tomli_w.dumps(table))
    after = restore(scan, options)
    codes = [one.code for one in after.record.findings]
    assert "intervals-not-calibrated" in [one.code for one in before.record.findings]
    assert "intervals-not-calibrated" not in codes
    assert (before.record.intervals["widened"], after.record.intervals["widened"]) == (False, True)
    away = [one.maps["upper"].array - one.volume.array for one in (before, after)]
    np.testing.assert_allclose(away[1], 3 * away[0], rtol=1e-3)
    least = [one.record.intervals["bound"]["psnr"] for one in (before, after)]
    assert least[1] == pytest.approx(least[0] - 3)


def test_where_no_model_ran_the_interval_is_that_of_the_noise(calibrated):
    scan = Volume.from_array(phantom(SIZE), modality=Modality.MR)
    result = restore(scan, RestoreOptions(model=str(calibrated), interval=0.9, noise=0))
    np.testing.assert_array_equal(result.maps["lower"].array, scan.array)
    assert result.record.intervals["bound"] is None
    assert "intervals-not-calibrated" in [one.code for one in result.record.findings]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--interval", "0.99"), "expected a share of 0.5 to 0.95"),
        (("--interval", "90"), "expected a share of 0.5 to 0.95"),
        (("--calibration", "x.toml"), "none are asked for"),
        (("--interval", "0.9", "--output", "sample"), "intervals are those of the whole mean"),
    ],
)
def test_what_makes_no_sense_is_refused(run, tmp_path, options, told):
    scan = save(tmp_path / "scan.nii.gz", noisy(phantom(SIZE), 0.05))
    status, _, err = run("restore", scan, "-o", tmp_path / "out.nii.gz", *options)
    assert status == 2
    assert told in err


def test_slices_are_calibrated_and_get_intervals_of_the_finer_grid(run, tmp_path):
    model = model_folder(tmp_path / "model", **SUPERRES)
    folder = shapes(tmp_path / "scans")
    status, _, err = run("calibrate", model, folder, "-o", tmp_path / "own.toml", "--draws", 2)
    assert status == 0, err
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    thick = phantom(SIZE).reshape(SIZE, SIZE, SIZE // 3, 3).mean(axis=3)
    scan = Volume.from_array(thick, affine, modality=Modality.MR)
    options = RestoreOptions(model=str(model), interval=0.9, calibration=str(tmp_path / "own.toml"))
    result = restore(scan, options)
    assert result.maps["upper"].shape == result.volume.shape == (SIZE, SIZE, SIZE)
    assert (result.maps["upper"].array >= result.maps["lower"].array).all()


def test_too_few_subjects_are_told_and_nothing_is_written(run, tmp_path):
    model, folder = model_folder(tmp_path / "model"), shapes(tmp_path / "scans", 3)
    status, _, err = run("calibrate", model, folder, "-o", tmp_path / "own.toml", "--draws", 1)
    assert status == 2
    assert "2 subjects are held out and 1 tuned on" in err
    assert not (tmp_path / "own.toml").exists()


def test_a_file_that_the_model_is_not_for_is_left_out_and_told(run, tmp_path):
    model, folder = model_folder(tmp_path / "model"), shapes(tmp_path / "scans", 5)
    save(folder / "sub-90_T1w.nii.gz", phantom(SIZE), spacing=5.0)
    status, out, err = run("calibrate", model, folder, "-o", tmp_path / "own.toml", "--draws", 1)
    assert status == 0, err
    assert "sub-90_T1w.nii.gz is left out" in err
    assert "voxels of 5 x 5 x 5 mm" in err
    assert "3 scans of 3 subjects, tuned on 2" in out


def test_the_file_is_not_replaced_unasked(made, run, tmp_path):
    (tmp_path / "own.toml").write_text("mine")
    status, _, err = run("calibrate", made[0], made[1], "-o", tmp_path / "own.toml")
    assert status == 2
    assert "--overwrite" in err
    assert (tmp_path / "own.toml").read_text() == "mine"


def test_a_calibration_of_other_clues_is_told(scan, tmp_path):
    model = with_calibration(model_folder(tmp_path / "model"), clues=8)
    with pytest.raises(ConfigError, match="8 clues, and the model is given 7"):
        restore(scan, RestoreOptions(model=str(model), interval=0.9))


def test_a_batch_writes_the_ends_of_every_case(run, tmp_path):
    model = with_calibration(model_folder(tmp_path / "model"))
    scans = scan_folder(tmp_path / "scans", ["a.nii.gz", "b.nii.gz"])
    status, _, err = run("batch", scans, "-o", tmp_path / "out", "--model", model, "--interval", 0.8)
    assert status == 0, err
    names = {path.name for path in (tmp_path / "out").rglob("*.nii.gz")}
    assert names == {f"{case}_restored{end}.nii.gz" for case in "ab" for end in ("", "_lower", "_upper")}
    record = json.loads((tmp_path / "out" / "a_restored.json").read_text())
    assert record["intervals"]["level"] == 0.8


def test_a_batch_does_a_case_again_with_another_calibration(run, tmp_path):
    model = with_calibration(model_folder(tmp_path / "model"))
    scans = scan_folder(tmp_path / "scans", ["a.nii.gz"])
    command = ("batch", scans, "-o", tmp_path / "out", "--model", model, "--interval", 0.9)
    assert run(*command)[0] == 0
    upper = (tmp_path / "out" / "a_restored_upper.nii.gz").read_bytes()
    changed = (model / FILE).read_text().replace("rms = 1.25", "rms = 1.5").replace("2.0,", "3.0,")
    (model / FILE).write_text(changed)
    assert run(*command)[0] == 0
    assert (tmp_path / "out" / "a_restored_upper.nii.gz").read_bytes() != upper


def pairs(root, count: int = 6):
    """Write clean phantoms, and what was measured of each: folders of the same names."""
    clean, measured = shapes(root / "clean", count), root / "noisy"
    measured.mkdir()
    for path in sorted(clean.iterdir()):
        array = np.asanyarray(nib.load(path).dataobj)
        save(measured / path.name, noisy(array, 0.06, seed=len(path.name) + int(path.name[4:6])))
    return clean, measured


def test_measured_pairs_calibrate_and_the_file_says_so(run, tmp_path):
    model, (clean, measured) = model_folder(tmp_path / "model"), pairs(tmp_path)
    status, out, err = run("calibrate", model, clean, "--measured", measured, "-o", tmp_path / "own.toml")
    assert status == 0, err
    assert "4 scans of 4 subjects, tuned on 2" in out  # one of each, however many draws
    found = read_calibration(tmp_path / "own.toml")
    assert found.population.noise.startswith("pairs that were measured, ")
    low, high = found.ranges.noise
    assert 0.03 < low <= high < 0.09  # of what was measured, and not of what would have been simulated


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda array: 1.5 * array, "1.5 times as bright as in the clean scan"),
        (lambda array: np.roll(array, 2, axis=0), "the correlation of its difference to the clean scan"),
        (lambda array: array[:, :, 2:], "expected the same grid"),
    ],
    ids=["units", "moved", "grid"],
)
def test_a_pair_that_is_none_is_left_out_and_told(run, tmp_path, spoil, told):
    model, (clean, measured) = model_folder(tmp_path / "model"), pairs(tmp_path)
    path = measured / "sub-05_T1w.nii.gz"
    save(path, np.ascontiguousarray(spoil(np.asanyarray(nib.load(path).dataobj))))
    status, out, err = run("calibrate", model, clean, "--measured", measured, "-o", tmp_path / "own.toml")
    assert status == 0, err
    said = " ".join(err.split())
    assert "sub-05_T1w.nii.gz is left out" in said and told in said
    assert "3 scans of 3 subjects" in out


@pytest.mark.parametrize("lacking", ["clean", "noisy"])
def test_a_scan_without_the_other_is_refused_before_anything_runs(run, tmp_path, lacking):
    model, folders = (
        model_folder(tmp_path / "model"),
        dict(zip(("clean", "noisy"), pairs(tmp_path), strict=True)),
    )
    (folders[lacking] / "sub-03_T1w.nii.gz").unlink()
    options = ("--measured", folders["noisy"], "-o", tmp_path / "own.toml")
    status, _, err = run("calibrate", model, folders["clean"], *options)
    assert status == 2
    assert f"there is no {'measured' if lacking == 'noisy' else 'clean'} one of this name" in " ".join(
        err.split()
    )
    assert not (tmp_path / "own.toml").exists()


def test_pairs_of_one_grid_say_nothing_of_finer_slices(run, tmp_path):
    model, (clean, measured) = model_folder(tmp_path / "model", **SUPERRES), pairs(tmp_path, 4)
    status, _, err = run("calibrate", model, clean, "--measured", measured, "-o", tmp_path / "own.toml")
    assert status == 2
    assert "makes finer slices, and measured pairs are scans of one grid" in " ".join(err.split())
