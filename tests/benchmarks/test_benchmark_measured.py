"""What scans that were measured say of a method: stacks in several orientations, faint inserts, the page."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage

from benchmarks.measured import phantom, run, stacks
from benchmarks.superres.methods import METHODS
from medrestore.testing.low_contrast import Insert

SIDE, WIDTH = 60, 3


def body():
    """Blobs of several sizes, smooth at a voxel, air at the borders."""
    rng = np.random.default_rng(0)
    image = sum(
        width**1.5 * ndimage.gaussian_filter(rng.standard_normal((SIDE,) * 3), width) for width in (1.2, 4)
    )
    axes = np.meshgrid(*(np.linspace(-1, 1, SIDE),) * 3, indexing="ij")
    inside = 1 / (1 + np.exp((np.sqrt(sum(axis**2 for axis in axes)) - 0.85) * 30))
    return (100 * inside * (3 + image)).astype(np.float32)


def stack(truth, axis, shift=0.0):
    """Slices of three voxels along an axis, which becomes the last; the body moved so many mm along x."""
    moved = ndimage.shift(truth, (shift, 0, 0), order=3)
    turned = np.moveaxis(moved, axis, -1)
    voxels = turned.reshape(*turned.shape[:2], -1, WIDTH).mean(axis=-1)
    others = [n for n in range(3) if n != axis]
    affine = np.zeros((4, 4))
    affine[others[0], 0] = affine[others[1], 1] = affine[3, 3] = 1
    affine[axis, 2], affine[axis, 3] = WIDTH, (WIDTH - 1) / 2
    return stacks.Stack(f"along-{axis}.nii", np.ascontiguousarray(voxels), affine)


def test_detail_that_is_right_correlates_with_what_the_other_stack_measured():
    truth = body()
    one, other = stack(truth, 2), stack(truth, 0)
    scan = one.as_scan("")
    assert (scan.planes, scan.factor) == (SIDE, WIDTH)
    np.testing.assert_allclose(stacks.fine_affine(scan), np.eye(4), atol=1e-12)
    fine = {"cubic": METHODS["cubic"].load()(scan), "ours": truth}
    cubic, ours = stacks.compare(one, other, fine, np.eye(4))
    assert ours["detail"] > 0.95 > cubic["detail"] + 0.1
    assert ours["strength"] == pytest.approx(1, abs=0.1)
    assert cubic["strength"] < 0.8 and cubic["voxels"] == ours["voxels"] > 1000


def test_a_body_that_moved_is_found_where_it_went():
    truth = body()
    motion = stacks.register(truth, np.eye(4), stack(truth, 1, shift=2.0))
    assert motion[:3, 3] + motion[:3, :3] @ np.full(3, 30) == pytest.approx([28, 30, 30], abs=0.3)


def test_a_filter_that_blurs_lowers_contrast_and_noise_and_both_are_told():
    rng = np.random.default_rng(1)
    template = np.zeros((9, 9))
    template[3:6, 3:6] = 10
    insert = Insert(10, (slice(0, 9), slice(0, 9)), template - template.mean())
    before = {
        kind: (5 * rng.standard_normal((10, 9, 9)) + kind * template).astype(np.float32)
        for kind in (False, True)
    }
    after = {kind: ndimage.gaussian_filter(images, (0, 1.5, 1.5)) for kind, images in before.items()}
    found = phantom.compare(before, after, insert, seed=0)
    assert found["before"]["contrast"] == pytest.approx(10, abs=1.5)
    assert found["after"]["contrast"] < 0.7 * found["before"]["contrast"]
    assert found["after"]["noise"] < 0.5 * found["before"]["noise"]
    assert found["low"] <= found["after"]["area"] - found["before"]["area"] <= found["high"]


def test_what_is_not_measured_again_stays_on_the_page(tmp_path, monkeypatch):
    kept = {"setup": {"command": "before", "date": "2026-01-01", "cpu": "", "cores": 2, "threads": "1"}}
    kept["setup"] |= {"system": "Linux", "python": "3.11"}
    kept["runs"] = [{"title": "noisy input", "psnr_head": 21.0, "ssim_head": 0.5, "psnr_all": 20.0}]
    (tmp_path / "measured.json").write_text(json.dumps({"brainweb": kept}))
    found = [{"stack": "a.nii", "measured": "b.nii", "title": "linear", "voxels": 90000}]
    found[0] |= {"correlation": 0.9, "detail": 0.1, "strength": 0.4}
    found.append(found[0] | {"stack": "c.nii", "voxels": 900})
    monkeypatch.setattr(stacks, "measure", lambda *_: found)
    assert run.main(["--stacks", "a.nii", "b.nii", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "measured.md").read_text()
    assert "| a | b | 90000 | linear | 0.900 | 0.100 | 0.40 |" in page and "| noisy input | 21.00 |" in page
    assert "| c | b | 900 | linear | not registered | | |" in page
    assert "--stacks a.nii b.nii" in page and "Made by `before`" in page


def test_one_stack_alone_is_refused():
    with pytest.raises(SystemExit):
        run.parse(["--stacks", "a.nii"])
