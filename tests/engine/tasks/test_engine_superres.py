"""Thick slices through `restore`: what was measured is kept, where it lies, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import SUPERRES, model_folder, noisy, phantom

from medrestore import Modality, RestoreOptions, Volume, restore
from medrestore.engine import Observers, load_model
from medrestore.engine.models.checks import check_scan
from medrestore.engine.tasks.slice_grid import plan_slices, target_grid
from medrestore.engine.tasks.superres import thick_slices
from medrestore.errors import ConfigError, GeometryError, ModelError
from medrestore.geometry import Geometry
from medrestore.metrics import head_mask, psnr, rmse, ssim
from medrestore.physics.slices import SliceStack
from medrestore.provenance import RunRecord, Source
from medrestore.types import Task

SAMPLING = {"steps": 2, "sampler": "euler"}
OBLIQUE = np.array(
    [[0.9, -0.2, 0.1, -31.0], [0.25, 0.8, -0.3, 12.0], [-0.05, 0.35, 0.85, 7.0], [0, 0, 0, 1.0]]
)
OBLIQUE[:3, :3] = np.linalg.qr(OBLIQUE[:3, :3])[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("model") / "tiny", **SUPERRES)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(RestoreOptions(model=str(folder), device="cpu"))


def thick(clean: np.ndarray, factor: int, axis: int = 2, affine: np.ndarray | None = None) -> Volume:
    """Block means along an axis, with the affine that belongs to them."""
    planes = clean.shape[axis] // factor * factor
    clean = np.moveaxis(clean, axis, -1)[..., :planes]
    blocks = clean.reshape(*clean.shape[:2], planes // factor, factor).mean(axis=3)
    affine = np.eye(4) if affine is None else affine.copy()
    step = affine[:3, axis].copy()
    affine[:3, 3] += step * (factor - 1) / 2
    affine[:3, axis] = step * factor
    return Volume.from_array(np.ascontiguousarray(np.moveaxis(blocks, -1, axis)), affine, Modality.MR)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [2, 4])
def test_slices_along_any_axis_are_resolved_and_reproduced(model, axis, factor):
    scan = thick(phantom(24), factor, axis)
    result = restore(scan, RestoreOptions(noise=0.0), model=model)
    assert result.volume.shape == (24, 24, 24)
    assert result.volume.spacing == pytest.approx((1, 1, 1))
    np.testing.assert_allclose(result.volume.geometry.affine, np.eye(4), atol=1e-12)
    again = thick(result.volume.array, factor, axis)
    assert np.abs(again.array - scan.array).max() < 2e-3 * scan.array.max()
    assert [step.name for step in result.volume.history] == ["restore:mean"]
    assert result.volume.history[0].params["axis"] == "ijk"[axis]
    slices = result.record.slices
    assert (slices["axis"], slices["factor"], slices["profile"]) == ("ijk"[axis], factor, "boxcar")
    assert (slices["target_mm"], slices["thickness_mm"]) == (1, factor)
    assert slices["residual_rms"] <= slices["residual_max"] < 2e-3 * scan.array.max()
    measured = float(np.sqrt(np.mean((again.array - scan.array) ** 2)))
    assert slices["residual_rms"] == pytest.approx(measured, rel=0.05, abs=1e-4)
    assert slices["residual_rms_of_p99"] == pytest.approx(
        slices["residual_rms"] / np.percentile(scan.array, 99), rel=1e-4
    )
    assert slices["residual_rms_of_sigma"] is None
    assert RunRecord.from_json(result.record.to_json()) == result.record


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_of_ct_is_nothing_that_the_result_leaves(tmp_path, padding):
    folder = model_folder(tmp_path / "ct", **SUPERRES, intensity="attenuation", modalities=["CT"])
    scans = []
    for outside in (-1000, padding):
        array = np.array(thick(phantom(24, 1060), 2).array) - 1000
        array += np.random.default_rng(0).normal(0, 20, array.shape).astype(np.float32)
        array[:8] = outside
        scans.append(Volume.from_array(array, np.diag([1, 1, 2, 1]), Modality.CT))
    air, padded = (restore(scan, RestoreOptions(model=str(folder), noise=20.0)).record for scan in scans)
    assert padded.noise == air.noise
    assert padded.slices == air.slices


def test_the_axis_of_the_slices_does_not_change_the_voxels(model):
    clean = phantom(24)[:, :20, :16]
    last = restore(thick(clean, 4, 2), RestoreOptions(noise=0.0), model=model).volume.array
    first = restore(
        thick(np.moveaxis(clean, 2, 0), 4, 0), RestoreOptions(noise=0.0), model=model
    ).volume.array
    np.testing.assert_allclose(np.moveaxis(first, 0, 2), last, atol=1e-3)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_weaker_result_of_a_magnitude_has_no_negative_voxels(model, strength):
    scan = thick(phantom(24), 4)
    plan = plan_slices(scan, RestoreOptions())
    assert plan.stack.interpolate(np.ascontiguousarray(plan.to_stack(scan.array))).min() < -10
    result = restore(scan, RestoreOptions(noise=0.0, strength=strength), model=model)
    assert result.volume.array.min() >= 0


def test_the_model_changes_what_the_slices_leave_open(model):
    clean = phantom(24)
    scan, options = thick(clean, 4), RestoreOptions(noise=0.0)
    result = restore(scan, options, model=model, reference=Volume.from_array(clean))
    assert result.volume.array.min() >= 0
    plan = plan_slices(scan, options)
    spline = plan.from_stack(plan.stack.interpolate(np.ascontiguousarray(plan.to_stack(scan.array))))
    assert 5 < np.abs(result.volume.array - spline).mean() < 50
    asked = {"data_range": float(clean.max() - clean.min()), "mask": head_mask(clean)}
    for where, image in (("input", spline), ("result", result.volume.array)):
        assert result.metrics[where]["psnr"].value == pytest.approx(psnr(image, clean, **asked), abs=1e-3)
        assert result.metrics[where]["ssim"].value == pytest.approx(ssim(image, clean, **asked), abs=1e-4)
    assert result.metrics["input"]["psnr"].value == pytest.approx(23.6, abs=0.5)


def smooth(points: np.ndarray) -> np.ndarray:
    """A smooth function of world points (..., 3), all over the field of view."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 500 + 150 * np.sin(x / 9) + 120 * np.cos(y / 11) + 100 * np.sin((z + x) / 10)


AFFINES = {
    "aligned": np.diag([1.0, 1.0, 1.0, 1.0]),
    "flipped": np.diag([-1.0, 1.0, -1.0, 1.0]),
    "oblique": OBLIQUE,
    "permuted": np.array([[0, 0, -1.0, 4], [1.0, 0, 0, -9], [0, 1.0, 0, 3], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(
    ("spacing", "size"), [((1, 1, 4), "iso"), ((3.5, 1, 1.2), "iso"), ((0.9, 5, 0.9), "2mm")]
)
def test_a_world_point_keeps_its_value(model, affine, spacing, size):
    shape = tuple(max(round(24 / step), 5) for step in spacing)
    affine = affine @ np.diag([*spacing, 1.0])
    grid = Geometry(shape, affine)
    array = smooth(grid.world(np.moveaxis(np.indices(shape), 0, -1))).astype(np.float32)
    scan = Volume.from_array(array, affine, Modality.MR)
    # A profile as thin as can be measures points, so that the spline through them is the function itself.
    thickness = 0.11 * max(spacing)
    options = RestoreOptions(noise=0.0, spacing=size, slice_thickness=thickness, force=True)
    result = restore(scan, options, model=model)
    found = result.volume.geometry
    axis = int(np.argmax(spacing))
    assert found.spacing[axis] == pytest.approx(
        2.0 if size == "2mm" else np.mean(np.delete(spacing, axis)), rel=1e-9
    )
    np.testing.assert_allclose(found.direction, grid.direction, atol=1e-12)
    centre = found.world((np.array(found.shape) - 1) / 2)
    np.testing.assert_allclose(centre, grid.world((np.array(shape) - 1) / 2), atol=1e-9)
    assert 0 <= found.shape[axis] * found.spacing[axis] - shape[axis] * spacing[axis] + 0.1 < 1.3 * 2
    # The result, measured once more in the world at the centres of the slices, is what was measured there.
    inside = np.moveaxis(np.indices(shape), 0, -1)
    index = (grid.world(inside) - found.origin) @ np.linalg.inv(found.affine[:3, :3]).T
    np.testing.assert_allclose(np.delete(index, axis, -1), np.delete(inside, axis, -1), atol=1e-9)
    centres = np.moveaxis(index[..., axis], axis, -1)[0, 0]
    planes, half = np.arange(found.shape[axis]), thickness / found.spacing[axis] / 2
    upper = np.minimum(centres[:, None] + half, planes + 0.5)
    weights = np.clip(upper - np.maximum(centres[:, None] - half, planes - 0.5), 0, None) / (2 * half)
    values, measured = (np.moveaxis(seen, axis, -1) for seen in (result.volume.array, array))
    np.testing.assert_allclose(values @ weights.T, measured, atol=0.05)
    assert np.abs(values @ np.roll(weights, 1, axis=1).T - measured).mean() > 2  # one voxel off is seen
    # And the spline through the slices is the function between them too.
    plan = plan_slices(scan, options)
    spline = plan.from_stack(plan.stack.interpolate(np.ascontiguousarray(plan.to_stack(array))))
    truth = smooth(found.world(np.moveaxis(np.indices(found.shape), 0, -1)))
    between = (planes > centres[1]) & (planes < centres[-2])
    left = np.moveaxis(spline - truth, axis, -1)[..., between]
    assert np.abs(left).max() < 0.5


@pytest.mark.parametrize(("size", "planes"), [("1mm", 25), (0.9, 28), ("1.3", 20), ("1.4 mm", 18)])
def test_fractional_factors_keep_the_field_of_view_and_the_slices(model, size, planes):
    scan = thick(phantom(25), 5)
    options = RestoreOptions(noise=0.0, spacing=size)
    result = restore(scan, options, model=model)
    assert result.volume.shape == (25, 25, planes)
    assert result.record.slices["residual_max"] < 5e-3 * scan.array.max()


@pytest.mark.parametrize("profile", ["boxcar", "slr", "gaussian"])
@pytest.mark.parametrize("thickness", [2.5, None, 5.0])
def test_every_profile_and_gap_is_reproduced(model, profile, thickness):
    clean = np.moveaxis(phantom(24), 2, 0)
    stack = SliceStack(24, 6, 4, thickness or 4, {"boxcar": 0, "slr": 0.25, "gaussian": 1}[profile], 1.5)
    affine = np.diag([4.0, 1, 1, 1])
    affine[0, 3] = 1.5
    array = np.moveaxis(stack.forward(np.moveaxis(clean, 0, -1)), -1, 0)
    scan = Volume.from_array(np.ascontiguousarray(array), affine, Modality.MR)
    options = RestoreOptions(noise=0.0, slice_profile=profile, slice_thickness=thickness)
    result = restore(scan, options, model=model)
    again = stack.forward(np.moveaxis(result.volume.array, 0, -1))
    assert np.abs(again - np.moveaxis(array, 0, -1)).max() < 0.02 * array.max()
    assert result.record.slices["thickness_mm"] == (thickness or 4)


def test_a_dicom_source_says_how_thick_its_slices_are(model):
    scan = thick(phantom(24), 4)
    told = Volume(
        scan.array, scan.geometry, Modality.MR, source=Source("a", "dicom", None, {"SliceThickness": 3.0})
    )
    wrong = Volume(
        scan.array, scan.geometry, Modality.MR, source=Source("a", "dicom", None, {"SliceThickness": 300.0})
    )
    options = RestoreOptions()
    assert plan_slices(told, options).thickness_mm == 3
    assert plan_slices(told, options).stack.width == pytest.approx(3)
    assert plan_slices(wrong, options).thickness_mm == 4
    assert plan_slices(told, RestoreOptions(slice_thickness=2)).thickness_mm == 2


@pytest.mark.parametrize("output", ["mean", "sample"])
def test_two_slices_are_enough(model, output):
    scan = thick(phantom(24)[:, :, 6:14], 4)
    assert scan.shape == (24, 24, 2)
    result = restore(scan, RestoreOptions(noise=0.0, output=output, **SAMPLING), model=model)
    assert result.volume.shape == (24, 24, 8)
    assert result.record.slices["residual_max"] < 5e-3 * scan.array.max()


def test_samples_differ_where_the_slices_leave_room_and_all_reproduce_them(model):
    scan = thick(phantom(24), 4)
    finals = {}
    observers = Observers(step=lambda point: finals.update({point.sample: point.estimate}))
    options = RestoreOptions(noise=0.0, output="sample", samples=3, seed=4, **SAMPLING)
    result = restore(scan, options, model=model, observers=observers)
    assert result.std is not None
    assert result.std.geometry == result.volume.geometry
    assert result.std.array.mean() > 0
    for estimate in finals.values():
        assert np.abs(thick(estimate.array, 4).array - scan.array).max() < 2e-3 * scan.array.max()
    again = restore(scan, options, model=model).volume.array
    assert again.tobytes() == result.volume.array.tobytes()
    mean = restore(scan, RestoreOptions(noise=0.0), model=model).volume.array
    assert np.abs(mean - again).max() > 1


def test_noisy_slices_are_not_fitted(model):
    clean = thick(phantom(24), 4)
    sigma = 0.05 * float(np.percentile(clean.array, 99))
    scan = Volume.from_array(noisy(clean.array, 0.05), clean.geometry.affine, Modality.MR)
    result = restore(scan, RestoreOptions(noise=sigma), model=model)
    slices, left = result.record.slices, thick(result.volume.array, 4).array - scan.array
    assert slices["residual_rms"] == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-4)
    assert slices["residual_max"] == pytest.approx(np.abs(left).max(), rel=1e-4)
    assert 0.5 * sigma < slices["residual_rms"] < 1.5 * sigma
    assert slices["residual_rms_of_sigma"] == pytest.approx(slices["residual_rms"] / sigma)


def test_an_estimate_below_the_floor_is_taken_for_none(model):
    scan = thick(phantom(24), 2)
    flat = Volume.from_array(np.full((24, 24, 8), 7.0, np.float32), np.diag([1, 1, 3, 1]), Modality.MR)
    noise = restore(flat, RestoreOptions(), model=model).record.noise
    assert noise["sigma"] == 0
    assert "taken for none" in noise["method"]
    given = restore(scan, RestoreOptions(noise="0.1%"), model=model).record.noise
    assert given["fraction"] == pytest.approx(0.001)


def test_the_size_of_a_tile_does_not_change_the_result(model):
    clean = phantom(72)[:, 30:40, 30:42]
    scan = thick(clean, 4)
    tile = 2 * (model.spec.halo + model.spec.multiple) + model.spec.multiple
    assert tile < 72
    whole, tiled = (
        restore(scan, RestoreOptions(noise=0.0, tile=size), model=model).volume.array for size in (None, tile)
    )
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * float(scan.array.max()))


def test_a_reference_belongs_on_the_grid_of_the_result(model, folder, monkeypatch):
    scan = thick(phantom(24), 4)
    truth = Volume.from_array(phantom(24), modality=Modality.MR)
    result = restore(scan, RestoreOptions(noise=0.0), model=model, reference=truth)
    assert result.metrics["result"]["rmse"].value == pytest.approx(
        rmse(result.volume.array, truth.array, mask=head_mask(truth.array))
    )
    with pytest.raises(
        GeometryError, match=r"another grid: shape \(24, 24, 6\).*the result has \(24, 24, 24"
    ):
        restore(scan, RestoreOptions(model=str(folder)), reference=scan)


@pytest.mark.parametrize(
    ("spacing", "options", "error", "message"),
    [
        ((1, 1, 1), {}, GeometryError, r"slices 1 mm apart .* nothing to resolve"),
        ((1, 1, 1.1), {}, GeometryError, "nothing to resolve"),
        ((1, 1, 4), {"slice_axis": "i"}, GeometryError, "nothing to resolve"),
        ((1, 1, 1), {"spacing": 0.5}, ConfigError, "name it with --slice-axis"),
        ((1, 1, 7), {}, ModelError, r"slices 7 voxels .* 6 \(--spacing 1\.17 or more\)"),
        ((1, 1, 1.3), {}, ModelError, r"slices 1\.3 voxels of the result apart"),
        ((2, 2, 8), {}, ModelError, r"voxels of 2 x 2 x 2 mm, tiny-superres is for 0\.6 to 1\.5 mm"),
        (
            (1, 1, 4),
            {"slice_thickness": 40.0},
            ConfigError,
            r"slice_thickness is 40 mm for slices 4 mm apart",
        ),
    ],
)
def test_what_cannot_be_resolved_is_refused(model, spacing, options, error, message):
    scan = Volume.from_array(phantom(16), np.diag([*spacing, 1.0]), Modality.MR)
    with pytest.raises(error, match=message):
        restore(scan, RestoreOptions(**options), model=model)


def test_the_spacing_that_a_refusal_names_is_taken_and_none_that_would_be_refused(model):
    scan = Volume.from_array(phantom(16), np.diag([1.0, 1.0, 7.0, 1.0]), Modality.MR)
    found = restore(scan, RestoreOptions(spacing=1.17, noise=0.0), model=model)
    assert found.volume.spacing[2] == pytest.approx(1.17, rel=0.01)
    thick = Volume.from_array(phantom(16), np.diag([1.0, 1.0, 12.0, 1.0]), Modality.MR)
    with pytest.raises(ModelError) as refused:  # 2 mm would be, which the model was not made for
        restore(thick, RestoreOptions(), model=model)
    assert "--spacing" not in str(refused.value)


@pytest.mark.parametrize(("share", "taken"), [(0.989, False), (0.991, True), (1.009, True), (1.011, False)])
def test_the_distance_of_slices_and_the_voxel_size_may_be_one_in_a_hundred_outside(model, share, taken):
    factor, size = (share * ends[share > 1] for ends in (model.spec.factor, model.spec.spacing_mm))
    for spacing, words in (((1, 1, factor), "slices .* apart"), ((size, size, 3 * size), "voxels of")):
        scan = Volume.from_array(phantom(12), np.diag([*spacing, 1.0]), Modality.MR)
        grid = target_grid(scan.geometry, Task.SUPERRES, RestoreOptions())
        if taken:
            assert check_scan(scan.geometry, "MR", model.spec, grid, force=False) == ()
        else:
            with pytest.raises(ModelError, match=words):
                check_scan(scan.geometry, "MR", model.spec, grid, force=False)


def test_a_factor_outside_may_be_forced_and_a_single_slice_not(model):
    scan = Volume.from_array(phantom(16), np.diag([1, 1, 7.0, 1]), Modality.MR)
    result = restore(scan, RestoreOptions(force=True, noise=0.0), model=model)
    assert result.volume.shape == (16, 16, 112)
    assert any("slices 7 voxels" in warning for warning in result.record.sentences)
    single = Volume.from_array(phantom(16)[:, :, :1], np.diag([1, 1, 5.0, 1]), Modality.MR)
    with pytest.raises(GeometryError, match="one slice along axis k"):
        restore(single, RestoreOptions(force=True), model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": "fine"}, "spacing is 'fine'; expected 'iso', or a length in mm"),
        ({"spacing": 0}, "spacing is 0"),
        ({"spacing": "nan"}, "spacing is 'nan'"),
        ({"slice_axis": "z"}, "slice_axis is 'z'; expected one of i, j, k"),
        ({"slice_profile": "sinc"}, "slice_profile is 'sinc'"),
        ({"slice_thickness": 0.0}, "slice_thickness is 0"),
    ],
)
def test_an_option_out_of_range_is_refused_at_once(options, message):
    with pytest.raises(ConfigError, match=message):
        RestoreOptions(**options)


def test_slices_of_ct_are_resolved_in_hounsfield_units(tmp_path):
    changes = {"modalities": ["CT"], "intensity": "attenuation"}
    model = load_model(RestoreOptions(model=str(model_folder(tmp_path / "ct", **{**SUPERRES, **changes}))))
    flat = thick(1.4 * phantom(24) - 1000, 4)
    scan = Volume.from_array(flat.array, flat.geometry.affine, Modality.CT)
    result = restore(scan, RestoreOptions(noise=0.0), model=model)
    assert result.volume.units == "HU"
    assert result.volume.array.min() < -500
    assert result.record.slices["residual_max"] < 2
    rms = result.record.slices["residual_rms"]
    assert result.record.slices["residual_rms_of_p99"] == pytest.approx(rms / 1000)


def test_options_for_slices_are_refused_where_nothing_is_resolved(tmp_path):
    denoiser = load_model(RestoreOptions(model=str(model_folder(tmp_path / "tiny")), device="cpu"))
    scan = Volume.from_array(phantom(16), modality=Modality.MR)
    with pytest.raises(
        ConfigError, match=r"spacing, slice_axis given, and the task is denoise.*--task superres"
    ):
        restore(scan, RestoreOptions(spacing="1mm", slice_axis="k"), model=denoiser)


def test_the_slice_axis_may_be_named(model):
    scan = Volume.from_array(phantom(16), np.diag([2.0, 1, 1.5, 1]), Modality.MR)
    result = restore(scan, RestoreOptions(slice_axis="k", spacing=1, noise=0.0, force=True), model=model)
    assert result.volume.shape == (16, 16, 24)
    assert result.record.slices["axis"] == "k"


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_negative_voxels_go_without_changing_what_the_slices_show(model, noise):
    """Removed alone they would brighten dark slices beside bright ones, by far more than the noise."""
    scan = thick(phantom(24), 4)
    measurement = thick_slices(scan, model.spec, RestoreOptions(noise=noise))
    estimate = np.array(measurement.baseline.array)
    estimate[::2, :, ::2] -= 60
    shown = np.maximum(measurement.plan.stack.forward(estimate), 0) if noise else scan.array
    made = measurement.physical(estimate.copy())
    assert made.min() >= 0 > estimate.min()
    touched = estimate.min(axis=-1) < 0
    again = measurement.plan.stack.forward(made)[touched]
    assert np.abs(again - shown[touched]).max() < 0.01 * scan.array.max()
    assert (
        np.abs(measurement.plan.stack.forward(np.maximum(estimate, 0))[touched] - shown[touched]).max() > 20
    )
