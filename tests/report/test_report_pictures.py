"""The pictures of a case: what the worker keeps of a scan, and what the page shows of it."""

from __future__ import annotations

import gzip
import importlib
import io
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from report_rows import DONE, parsed, scan
from skimage.io import imread

from medrestore.picture import PLANES, plane
from medrestore.provenance import Source, Step
from medrestore.report import preview, write
from medrestore.report.case_page import VIEWER
from medrestore.report.page import asset
from medrestore.report.preview import FIRST, Preview
from medrestore.volume import Volume

# `medrestore.report.preview` is the function, which hides the module of that name.
preview_module = importlib.import_module("medrestore.report.preview")


def held(path, name):
    image = nib.Nifti1Image.from_bytes(gzip.decompress(Preview(path).volume(name)))
    return image.get_fdata(), image.affine


def test_a_small_scan_is_kept_voxel_by_voxel_in_its_place(tmp_path):
    affine = np.array([[0, -2, 0, 30], [1.5, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
    before = scan(affine=affine)
    preview(before, before, None, tmp_path / "kept.npz")
    array, kept_affine = held(tmp_path / "kept.npz", "before")
    np.testing.assert_allclose(array, before.array, atol=0.1)
    np.testing.assert_allclose(kept_affine, affine)


def test_a_large_scan_becomes_means_of_blocks_that_keep_to_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(preview_module, "BUDGET", 20_000)
    before = scan((40, 37, 16), np.diag([1, 1, 3, 1.0]))
    preview(before, before, None, tmp_path / "kept.npz")
    kept = Preview(tmp_path / "kept.npz")
    assert 10_000 < len(kept.volume("before")) + len(kept.volume("after")) <= 20_000
    a, b, c = kept.facts.factors["before"]
    assert (a, b, c) == (2, 2, 1)
    array, affine = held(tmp_path / "kept.npz", "before")
    assert array.shape == (20, 19, 16)
    np.testing.assert_allclose(array[3, 5, 7], before.array[6:8, 10:12, 7].mean(), atol=0.1)
    np.testing.assert_allclose(array[3, 18, 7], before.array[6:8, 36, 7].mean(), atol=0.1)
    np.testing.assert_allclose(affine @ [3, 5, 7, 1], [6.5, 10.5, 21, 1])


def test_a_page_of_a_scan_that_nothing_compresses_has_at_most_8_mb(tmp_path):
    rng = np.random.default_rng(0)
    noise = Volume.from_array(rng.uniform(0, 1, (300, 300, 24)).astype(np.float32))
    preview(noise, noise.with_array(1 - noise.array, Step("test")), None, tmp_path / "kept.npz")
    write(tmp_path, [replace(DONE, pictures=tmp_path / "kept.npz")], "A batch", single_files=True)
    assert 4_000_000 < (tmp_path / "cases/0a1b2c.html").stat().st_size <= 8_000_000
    # Nine pictures of CROP x CROP bytes that do not compress either: the axial ones above are three of them.
    most = preview_module.BUDGET + 9 * (preview_module.CROP + 1) ** 2
    assert len(asset(VIEWER)) + most * 4 / 3 <= 7_950_000


def test_slices_hang_the_same_whatever_the_order_of_the_voxels():
    straight = scan((6, 7, 8), np.diag([1, 1, 2, 1.0]))
    turned_affine = straight.geometry.affine @ np.array(
        [[0, -1, 0, 5], [0, 0, 1, 0], [-1, 0, 0, 7], [0, 0, 0, 1.0]]
    )
    turned = Volume.from_array(straight.array.transpose(2, 0, 1)[::-1, ::-1], turned_affine)
    point = straight.geometry.world([2, 3, 4])
    for name in PLANES:
        one, size = plane(straight.array, straight.geometry, name, point)
        other, other_size = plane(turned.array, turned.geometry, name, point)
        np.testing.assert_array_equal(one, other)
        assert size == other_size
    axial, size = plane(straight.array, straight.geometry, "axial", point)
    np.testing.assert_array_equal(axial, straight.array[:, ::-1, 4].T)
    assert plane(straight.array, straight.geometry, "coronal", point)[1] == (2.0, 1.0)


def test_pictures_are_png_files_of_the_slices(tmp_path):
    before = scan((20, 24, 16))
    preview(before, before.with_array(before.array * 0, Step("test")), None, tmp_path / "kept.npz")
    kept = Preview(tmp_path / "kept.npz")
    grey = imread(io.BytesIO(kept.plane("before", "axial")))
    low, high = kept.facts.window
    shades = 255 * np.clip((before.array[:, ::-1, 8].T - low) / (high - low), 0, 1)
    np.testing.assert_allclose(grey, shades, atol=0.51)
    assert imread(io.BytesIO(kept.plane("after", "axial"))).max() == 0
    red, green, blue = imread(io.BytesIO(kept.plane("residual", "axial")))[..., :3].reshape(-1, 3).mean(0)
    assert red > 150 > green
    assert red > blue


def test_before_and_after_on_other_grids_have_a_residual_only_if_it_is_given(tmp_path):
    before, after = scan((10, 10, 5), np.diag([2, 2, 4, 1.0])), scan((20, 20, 20))
    preview(before, after, None, tmp_path / "two.npz")
    preview(before, after, before, tmp_path / "three.npz")
    two, three = Preview(tmp_path / "two.npz"), Preview(tmp_path / "three.npz")
    assert [two.has_pane(name) for name in FIRST] == [True, True, False]
    assert [three.has_pane(name) for name in FIRST] == [True, True, True]
    assert two.facts.thumbnail == "coronal", "a plane in which the finer voxels show"
    rows = [replace(DONE, pictures=tmp_path / "two.npz")]
    write(tmp_path, [*rows, replace(DONE, case="3", pictures=tmp_path / "three.npz")], "A batch")
    page = parsed(tmp_path / "cases/0a1b2c.html")
    assert page.tags.count("canvas") == 2
    assert "from blue to red" not in page.text
    assert parsed(tmp_path / "cases/3.html").tags.count("canvas") == 3


def test_maps_that_go_with_a_result_are_shown_beside_it(tmp_path):
    before = scan()
    after = before.with_array(before.array - 1, Step("test"))
    null = before.with_array(before.array - before.array.mean(), Step("restore:null"))
    lower = before.with_array(before.array - 3, Step("restore:lower"))
    preview(before, after, None, tmp_path / "kept.npz", {"null": null, "lower": lower, "other": lower})
    kept = Preview(tmp_path / "kept.npz")
    assert kept.facts.maps.keys() == {"null", "lower"}
    low, high = kept.facts.maps["null"]
    assert -low == high > 0
    assert kept.facts.ends("lower") == tuple(kept.facts.window)  # as the scan, so that both can be compared
    assert kept.thumbnail("null") is None and kept.thumbnail("after") is not None
    write(tmp_path, [replace(DONE, pictures=tmp_path / "kept.npz")], "A batch")
    page = parsed(tmp_path / "cases/0a1b2c.html")
    assert page.tags.count("canvas") == 5
    for title in ("What no slice shows", "Lower end of the interval"):
        assert title in page.text
    assert '"maps": {"lower": null, "null": [-' in (tmp_path / "cases/0a1b2c.html").read_text()


def test_pictures_that_an_earlier_version_kept_are_shown(tmp_path, pictures):
    with np.load(pictures) as archive:
        parts = dict(archive)
    facts = json.loads(parts["facts"].tobytes())
    del facts["maps"]
    parts["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", **parts)
    write(tmp_path, [replace(DONE, pictures=tmp_path / "old.npz")], "A batch")
    assert parsed(tmp_path / "cases/0a1b2c.html").tags.count("canvas") == 3


def test_nothing_of_where_the_scan_comes_from_is_kept(tmp_path):
    source = Source("/data/CANARY^NAME.nii.gz", "nifti", details={"descrip": "CANARY"})
    before = replace(scan(), source=source, history=(Step("CANARY"),))
    preview(before, before, None, tmp_path / "kept.npz")
    kept = Preview(tmp_path / "kept.npz")
    assert b"CANARY" not in (tmp_path / "kept.npz").read_bytes()
    assert b"CANARY" not in gzip.decompress(kept.volume("before"))


def test_a_scan_of_one_value_and_of_one_slice_has_pictures_too(tmp_path):
    flat = Volume.from_array(np.zeros((8, 9, 1), np.float32))
    preview(flat, flat, None, tmp_path / "kept.npz")
    write(tmp_path, [replace(DONE, pictures=tmp_path / "kept.npz")], "A batch")
    assert np.array_equal(held(tmp_path / "kept.npz", "before")[0], flat.array)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file"])
def test_pictures_that_cannot_be_read_cost_the_pictures_and_not_the_report(damage, tmp_path):
    (tmp_path / "kept.npz").write_bytes(damage)
    rows = [
        replace(DONE, pictures=tmp_path / "kept.npz"),
        replace(DONE, case="2", pictures=tmp_path / "none.npz"),
    ]
    write(tmp_path, rows, "A batch")
    for case in ("0a1b2c", "2"):
        assert "There are no pictures" in (tmp_path / f"cases/{case}.html").read_text(encoding="utf-8")
