"""`restore` from Python: what comes back, what is refused, and what does not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import Observers, estimate_noise, load_model, single
from medrestore.errors import ConfigError, GeometryError, ModelError
from medrestore.metrics import evaluate_without_reference, find_regions, head_mask, psnr, ssim
from medrestore.provenance import Source
from medrestore.volume import UNITS

LEVEL = 0.05
SAMPLING = {"steps": 2, "sampler": "euler"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(RestoreOptions(model=str(folder), device="cpu"))


@pytest.fixture
def scan():
    return Volume.from_array(noisy(phantom(24), LEVEL), modality=Modality.MR)


def test_an_array_in_memory_is_restored_without_any_file(scan, folder):
    result = restore(scan, RestoreOptions(model=str(folder), device="cpu"))
    change = np.abs(result.volume.array - scan.array)
    sigma = result.record.noise["sigma"]
    assert 0.05 * sigma < change.mean() < 3 * sigma
    assert result.volume.array.min() >= 0
    assert result.volume.geometry == scan.geometry
    assert (result.volume.modality, result.volume.units) == (Modality.MR, UNITS[Modality.MR])
    assert [step.name for step in result.volume.history] == ["restore:mean"]
    assert result.volume.history[0].params["sha256"] == result.record.model.sha256
    assert result.std is None
    assert (result.record.input.format, result.record.model.plugin) == ("array", "folder")
    assert result.record.seed is None  # nothing was drawn
    assert result.metrics["result"]["psnr"].value is None
    assert result.metrics["result"]["psnr"].reason == "no reference"


def test_the_record_says_what_was_filled_in(scan, model):
    record = restore(scan, RestoreOptions(samples=1, seed=5, **SAMPLING), model=model).record
    assert (record.settings["device"], record.settings["dtype"]) == ("cpu", "float32")
    assert record.seed == 5
    assert record.noise["method"].startswith(("tissue, ", "air, ", "air and tissue, "))
    assert record.noise["fraction"] == pytest.approx(LEVEL, rel=0.1)
    assert set(record.timings) == {"load_model", "prepare", "network", "measure"}
    assert type(record).from_json(record.to_json()) == record


@pytest.mark.parametrize("sampler", ["heun", "euler", "stochastic"])
def test_the_same_seed_makes_the_same_bytes(scan, model, sampler):
    def run(seed: int) -> tuple[bytes, bytes]:
        options = RestoreOptions(output="sample", samples=2, steps=2, sampler=sampler, seed=seed)
        result = restore(scan, options, model=model)
        assert result.std is not None
        return result.volume.array.tobytes(), result.std.array.tobytes()

    first, again, other = run(3), run(3), run(4)
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_the_mean_does_not_depend_on_what_is_drawn(scan, model):
    plain = restore(scan, RestoreOptions(), model=model)
    drawn = restore(scan, RestoreOptions(samples=1, seed=9, **SAMPLING), model=model)
    assert np.array_equal(plain.volume.array, drawn.volume.array)


def test_the_deviation_is_that_of_the_samples(scan, model):
    finals = {}
    observers = Observers(step=lambda point: finals.update({point.sample: point.state.array}))
    options = RestoreOptions(output="sample", samples=3, **SAMPLING)
    result = restore(scan, options, model=model, observers=observers)
    assert sorted(finals) == [0, 1, 2]
    expected = np.std(list(finals.values()), axis=0, ddof=1)
    assert expected.mean() > 0
    np.testing.assert_allclose(result.std.array, expected, atol=1e-4 * float(expected.max()))
    np.testing.assert_array_equal(result.volume.array, np.maximum(finals[0], 0))
    assert [step.name for step in result.std.history] == ["restore:std"]


def test_a_sample_as_output_needs_no_count(scan, model):
    result = restore(scan, RestoreOptions(output="sample", **SAMPLING), model=model)
    assert result.std is None
    assert result.record.seed == 0


def test_every_step_is_seen_and_the_levels_fall(scan, model):
    points = []
    options = RestoreOptions(samples=1, steps=3, sampler="heun", noise="5%")
    restore(scan, options, model=model, observers=Observers(step=points.append))
    sigma = 0.05 * np.percentile(scan.array, 99)
    assert [point.index for point in points] == [0, 1, 2]
    levels = [point.sigma for point in points]
    assert levels == sorted(levels, reverse=True)
    assert 0.5 * sigma < levels[0] < 5 * sigma
    assert points[0].state.geometry == scan.geometry


@pytest.mark.parametrize(("steps", "sampler", "evaluations"), [(3, "heun", 11), (3, "euler", 7)])
def test_progress_counts_every_evaluation(scan, model, steps, sampler, evaluations):
    seen = []
    options = RestoreOptions(samples=2, steps=steps, sampler=sampler)
    restore(scan, options, model=model, observers=Observers(progress=lambda *now: seen.append(now)))
    assert seen[-1] == (evaluations * scan.array.size,) * 2
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("level", [0.0, "0%", 1e-9])
def test_a_scan_without_noise_comes_back_as_it_came(scan, model, level):
    seen = []
    observers = Observers(progress=lambda *now: seen.append(now))
    result = restore(scan, RestoreOptions(noise=level, samples=2), model=model, observers=observers)
    assert np.array_equal(result.volume.array, scan.array)
    assert not seen
    assert any("returned as it came" in warning for warning in result.record.sentences)


@pytest.mark.parametrize("value", [0.0, 7.0, -5.0])
@pytest.mark.parametrize("shape", [(16, 16, 16), (3, 2, 1)])
def test_a_constant_volume_comes_back_as_it_came(model, value, shape):
    flat = Volume.from_array(np.full(shape, value, dtype=np.float32), modality=Modality.MR)
    result = restore(flat, model=model)
    assert np.array_equal(result.volume.array, flat.array)
    assert result.record.noise["sigma"] == pytest.approx(0, abs=1e-6)
    assert result.record.to_json()


def test_a_reference_gives_scores_before_and_after(scan, model):
    clean = Volume.from_array(phantom(24), modality=Modality.MR)
    result = restore(scan, RestoreOptions(), model=model, reference=clean)
    truth, metrics = clean.array, result.metrics
    head = head_mask(truth)
    assert 0.2 < head.mean() < 0.7
    extent = float(truth.max() - truth.min())
    for where, image in (("input", scan.array), ("result", result.volume.array)):
        difference = (image - truth)[head].astype(np.float64)
        error = np.sqrt(np.mean(difference**2))
        assert metrics[where]["rmse"].value == pytest.approx(error)
        assert metrics[where]["mae"].value == pytest.approx(np.abs(difference).mean())
        assert metrics[where]["psnr"].value == pytest.approx(20 * np.log10(extent / error))
        structure = ssim(image, truth, data_range=extent, mask=head)
        assert metrics[where]["ssim"].value == pytest.approx(structure)
    sigma = LEVEL * float(np.percentile(truth, 99))
    assert metrics["input"]["rmse"].value == pytest.approx(sigma, rel=0.1)
    assert f"data range {extent:g}" in metrics["result"]["ssim"].definition


def test_quality_is_judged_without_a_reference_on_request(scan, model):
    plain, asked = (restore(scan, RestoreOptions(quality=on), model=model) for on in (False, True))
    assert "efc" not in plain.metrics["result"]
    before, after = scan.array, asked.volume.array
    regions = find_regions(after, acquired=before, head=head_mask(after))
    for where, array in (("input", before), ("result", after)):
        expected = evaluate_without_reference(array, (1, 1, 1), regions, guide=after)
        assert asked.metrics[where] == {**plain.metrics[where], **expected}
        assert expected["efc"].value is not None
    assert asked.record.to_json()


def test_quality_of_a_constant_volume_is_absent_with_the_reason(model):
    flat = Volume.from_array(np.full((20, 20, 20), 7.0, dtype=np.float32), modality=Modality.MR)
    metrics = restore(flat, RestoreOptions(quality=True), model=model).metrics["result"]
    assert metrics["efc"].value == pytest.approx(1)
    assert "no two classes" in metrics["cnr"].reason


@pytest.mark.parametrize("change", [{"affine": np.diag([1, 1, 1.2, 1])}, {"array": phantom(25)}])
def test_a_reference_on_another_grid_is_refused_before_anything_is_loaded(scan, folder, change, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(single, "load_model", refuse)
    reference = Volume.from_array(**{"array": phantom(24), **change})
    with pytest.raises(GeometryError, match=r"the reference is on another grid: shape .* resample"):
        restore(scan, RestoreOptions(model=str(folder)), reference=reference)


def test_another_modality_is_refused_unless_forced(model):
    scan = Volume.from_array(noisy(phantom(16), LEVEL), modality=Modality.CT)
    with pytest.raises(ModelError, match=r"the scan is CT, tiny is for MR: .*--force"):
        restore(scan, model=model)
    warnings = restore(scan, RestoreOptions(force=True), model=model).record.sentences
    assert "the scan is CT, tiny is for MR" in warnings


def test_an_unknown_modality_is_said(model):
    result = restore(Volume.from_array(noisy(phantom(16), LEVEL)), model=model)
    assert "the scan does not say its modality; taken for MR" in result.record.sentences


def test_a_modality_that_there_is_no_model_for_is_not_taken_for_another(scan, model):
    pet = replace(scan, modality=Modality.UNKNOWN, source=Source("", "array", None, {"Modality": "PT"}))
    with pytest.raises(ModelError, match="the scan is PT, tiny is for MR"):
        restore(pet, model=model)
    result = restore(pet, RestoreOptions(force=True), model=model)
    assert result.record.sentences[0].startswith("the scan is PT")


def test_a_scan_whose_zero_was_moved_is_told_of(scan, model):
    assert not restore(scan, model=model).record.sentences
    array = (scan.array - scan.array.mean()) / scan.array.std()
    moved = Volume.from_array(array, modality=Modality.MR)
    assert "before its zero was moved" in " ".join(restore(moved, model=model).record.sentences)


def test_another_voxel_size_is_refused_unless_forced(model):
    scan = Volume.from_array(noisy(phantom(16), LEVEL), np.diag([1, 1, 5, 1]), Modality.MR)
    with pytest.raises(ModelError, match=r"voxels of 1 x 1 x 5 mm, tiny is for 0\.6 to 1\.5 mm"):
        restore(scan, model=model)
    assert restore(scan, RestoreOptions(force=True), model=model).record.sentences


@pytest.mark.parametrize(("size", "taken"), [(0.989, False), (0.991, True), (1.009, True), (1.011, False)])
def test_a_voxel_size_may_be_one_in_a_hundred_outside(model, size, taken):
    low, high = model.spec.spacing_mm
    edge = size * (low if size < 1 else high)
    for affine in (np.diag([edge, 1, 1, 1]), np.diag([1, 1, edge, 1])):
        scan = Volume.from_array(noisy(phantom(12), LEVEL), affine, Modality.MR)
        if taken:
            warnings = restore(scan, RestoreOptions(noise=0.0), model=model).record.sentences
            assert not any("voxels of" in warning for warning in warnings)
        else:
            with pytest.raises(ModelError, match=r"voxels of .* mm, tiny is for 0\.6 to 1\.5 mm"):
                restore(scan, RestoreOptions(noise=0.0), model=model)


def test_noise_outside_what_the_model_was_made_for_is_said(scan, model):
    warnings = restore(scan, RestoreOptions(noise="30%"), model=model).record.sentences
    assert any("30.00% of the 99th percentile is outside the 1.00% to 15.00%" in text for text in warnings)


def test_one_loaded_model_serves_many_scans(scan, model, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(single, "load_model", refuse)
    first, second = (restore(scan, RestoreOptions(), model=model) for _ in range(2))
    assert np.array_equal(first.volume.array, second.volume.array)


def test_an_unknown_model_is_named(scan, tmp_path):
    with pytest.raises(ModelError, match="no model is named 'mr-denoize'"):
        restore(scan, RestoreOptions(model="mr-denoize"))
    with pytest.raises(ModelError, match="not a model folder"):
        restore(scan, RestoreOptions(model=str(tmp_path)))


def test_a_model_without_samples_says_so_when_it_is_loaded_already(scan, tmp_path):
    options = RestoreOptions(model=str(model_folder(tmp_path / "mean", outputs=["mean"])), device="cpu")
    mean = load_model(options)
    with pytest.raises(ModelError, match="offers mean; asked for output 'mean' with 2 samples"):
        restore(scan, RestoreOptions(samples=2), model=mean)


def test_a_model_without_samples_says_so(tmp_path):
    folder = model_folder(tmp_path / "mean", outputs=["mean"])
    with pytest.raises(ModelError, match="tiny offers mean; asked for output 'mean' with 2 samples"):
        load_model(RestoreOptions(model=str(folder), samples=2))


@pytest.mark.parametrize("output", ["mean", "sample"])
def test_the_size_of_a_tile_does_not_change_the_result(model, output):
    thin = noisy(phantom(72)[:, 30:40, 30:41], LEVEL)
    scan = Volume.from_array(thin, modality=Modality.MR)
    tile = 2 * (model.spec.halo + model.spec.multiple) + model.spec.multiple
    assert tile < 72
    results, counts = [], []
    for size in (None, tile, tile + 8):
        seen = []
        options = RestoreOptions(output=output, tile=size, noise="5%", **SAMPLING)
        observers = Observers(progress=lambda *now, seen=seen: seen.append(now))
        results.append(restore(scan, options, model=model, observers=observers).volume.array)
        counts.append(len(seen))
    assert counts[0] < counts[2] <= counts[1]
    assert np.abs(results[0] - scan.array).max() > 1
    for tiled in results[1:]:
        np.testing.assert_allclose(tiled, results[0], atol=1e-5 * float(scan.array.max()))


def test_a_single_slice_is_restored(model):
    scan = Volume.from_array(noisy(phantom(32)[:, :, 16], LEVEL), np.diag([1, 1, 5, 1]), Modality.MR)
    clean = Volume.from_array(phantom(32)[:, :, 16], np.diag([1, 1, 5, 1]), Modality.MR)
    result = restore(scan, RestoreOptions(samples=2, **SAMPLING), model=model, reference=clean)
    sigma = result.record.noise["sigma"]
    assert 0.05 * sigma < np.abs(result.volume.array - scan.array).mean() < 3 * sigma
    assert result.volume.shape == result.std.shape == (32, 32, 1)
    assert result.record.noise["fraction"] == pytest.approx(LEVEL, rel=0.25)
    truth = clean.array
    asked = {"data_range": float(truth.max() - truth.min()), "mask": head_mask(truth)}
    for where, image in (("input", scan.array), ("result", result.volume.array)):
        assert result.metrics[where]["psnr"].value == pytest.approx(psnr(image, truth, **asked))
    assert "single slices" in result.metrics["result"]["ssim"].reason


def test_a_level_may_be_given_in_either_unit(scan, model):
    absolute = float(LEVEL * np.percentile(scan.array, 99))
    first, second = (
        restore(scan, RestoreOptions(noise=noise), model=model) for noise in (absolute, f"{100 * LEVEL}%")
    )
    np.testing.assert_allclose(first.volume.array, second.volume.array, rtol=1e-5, atol=1e-3)
    assert first.record.noise["method"] == "given"


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_voxels_does_not_matter(scan, model, scale):
    scaled = Volume.from_array(scan.array * np.float32(scale), modality=Modality.MR)
    one, other = (restore(volume, model=model).volume.array for volume in (scan, scaled))
    np.testing.assert_allclose(other / scale, one, rtol=1e-3, atol=1e-3 * float(one.max()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "loud"}, "noise is 'loud'; expected 'auto'"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"noise": "nan%"}, "noise is 'nan%'"),
        ({"noise": float("inf")}, "noise is inf"),
        ({"output": "median"}, "output is 'median'; expected one of mean, sample"),
        ({"sampler": "ddim"}, "sampler is 'ddim'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"samples": -1}, "samples is -1; expected 0 or more"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"tile": 0}, "tile is 0"),
        ({"task": "deblur"}, "task is 'deblur'; expected one of denoise, superres"),
    ],
)
def test_an_option_out_of_range_is_refused_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        RestoreOptions(**options)


@pytest.mark.parametrize(("requested", "message"), [("cuda:9", "cuda:9"), ("tpu", "'tpu' is not available")])
def test_a_device_that_is_not_there_is_refused(folder, requested, message):
    with pytest.raises(ConfigError, match=message):
        load_model(RestoreOptions(model=str(folder), device=requested))


def test_a_type_that_the_model_does_not_allow_is_refused(folder):
    with pytest.raises(ConfigError, match="'bfloat16' is not one that the model allows: float32"):
        load_model(RestoreOptions(model=str(folder), dtype="bfloat16", device="cpu"))


@pytest.mark.parametrize("level", [0.01, 0.03, 0.05, 0.10, 0.15])
def test_the_noise_estimate_is_close_to_the_truth(level):
    clean = phantom(48)
    truth = level * float(np.percentile(clean, 99))
    estimates = [estimate_noise(noisy(clean, level, seed)) for seed in range(2)]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_noise_estimate_takes_thin_volumes(axis):
    clean = np.take(phantom(64), [31, 32, 33], axis=axis)
    truth = 0.05 * float(np.percentile(clean, 99))
    assert estimate_noise(noisy(clean, 0.05)) == pytest.approx(truth, rel=0.2)


def test_the_noise_estimate_of_a_clean_phantom_is_small():
    clean = phantom(48)
    assert estimate_noise(clean) < 0.01 * np.percentile(clean, 99)


def test_a_strength_lies_between_the_scan_and_the_whole_result(scan, model):
    def run(**asked):
        return restore(scan, RestoreOptions(samples=2, **asked, **SAMPLING), model=model)

    whole, half, none, default = run(strength=1), run(strength=0.5), run(strength=0), run()
    assert whole.volume.array.tobytes() == default.volume.array.tobytes()
    assert whole.volume.history == default.volume.history
    np.testing.assert_array_equal(none.volume.array, scan.array)
    np.testing.assert_allclose(half.volume.array, (scan.array + whole.volume.array) / 2, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(half.maps["std"].array, whole.maps["std"].array / 2, rtol=1e-5)
    assert half.record.settings["strength"] == 0.5
    assert half.volume.history[-1].params["strength"] == 0.5
    taken = [one.record.noise["std_over_sigma"] for one in (none, half, whole)]
    assert taken[0] == 0 and taken[1] == pytest.approx(taken[2] / 2, rel=1e-3)


def test_detectability_is_told_of_no_sample():
    with pytest.raises(ConfigError, match="detectability is that of the mean, and output is 'sample'"):
        RestoreOptions(detectability=True, output="sample")


@pytest.mark.parametrize("strength", [-0.1, 1.1, "half", True, float("nan")])
def test_a_strength_is_a_number_from_0_to_1(strength):
    with pytest.raises(ConfigError, match=r"strength is .*; expected a number from 0 to 1"):
        RestoreOptions(strength=strength)
