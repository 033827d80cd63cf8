"""Numbers that tell what a scan is of: sizes in mm, and what lies where in HU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medrestore.engine.models.body import of_body
from medrestore.engine.models.edges import of_edges
from medrestore.engine.models.features import scan_features
from medrestore.engine.models.hounsfield import of_hounsfield
from medrestore.geometry import Geometry

SHAPE = (64, 80, 64)
HALVES = (20.0, 30.0, 24.0)


def ellipsoid(spacing: tuple[float, float, float] = (1, 1, 1), cut: int = 0) -> tuple[np.ndarray, Geometry]:
    """Return a bright ellipsoid in air, and its grid; `cut` slices at the lower end are left out."""
    places = np.indices(SHAPE).astype(np.float32)
    middle = [(side - 1) / 2 for side in SHAPE]
    radius = sum(((at - mid) / half) ** 2 for at, mid, half in zip(places, middle, HALVES, strict=True))
    array = (radius < 1).astype(np.float32)[:, :, cut:]
    return array, Geometry(array.shape, np.diag([*spacing, 1.0]))


def test_sizes_are_those_of_the_body():
    found = dict(of_body(*ellipsoid()))
    for side, half in zip(("LR", "AP", "SI"), HALVES, strict=True):
        assert math.exp(found[f"extent {side}"]) == pytest.approx(2 * half, rel=0.06)
        assert math.exp(found[f"spread {side}"]) == pytest.approx(half / math.sqrt(5), rel=0.08)
    assert math.exp(found["section SI"]) == pytest.approx(
        math.sqrt(math.pi * HALVES[0] * HALVES[1]), rel=0.05
    )
    # Half of the largest cross-section is where 1 - (1 - depth / half)^2 is one half.
    for code, half in zip("RAS", HALVES, strict=True):
        assert math.exp(found[f"rise {code}"]) == pytest.approx(half * (1 - math.sqrt(0.5)), abs=1.2)


@pytest.mark.parametrize("axis", range(3))
def test_a_header_that_lies_moves_the_sizes_along_its_axis_and_no_others(axis):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 2.0
    plain, lied = dict(of_body(*ellipsoid())), dict(of_body(*ellipsoid((spacing[0], spacing[1], spacing[2]))))
    for number, side in enumerate(("LR", "AP", "SI")):
        moved = math.log(2) if number == axis else 0.0
        for name in ("extent", "reach", "spread", "field"):
            assert lied[f"{name} {side}"] - plain[f"{name} {side}"] == pytest.approx(moved, abs=1e-9)


def test_of_a_body_that_is_cut_the_other_end_is_still_known():
    found = dict(of_body(*ellipsoid(cut=30)))
    assert math.isnan(found["extent SI"]) and math.isnan(found["rise I"]) and math.isnan(found["AP over SI"])
    assert not math.isnan(found["rise S"]) and not math.isnan(found["extent AP"])


def test_thin_rods_of_metal_are_seen_and_magnitudes_are_no_hounsfield():
    rng = np.random.default_rng(0)
    body = rng.normal(40, 20, (200, 200, 24)).astype(np.float32)
    body[:40] = -1000
    seen = dict(of_hounsfield(body, body[::5, ::5]))
    assert seen["peak in HU"] == pytest.approx(0.4, abs=0.2)
    body[101:103, 101:103] = 3071
    rods = dict(of_hounsfield(body, body[::5, ::5]))
    assert rods["metal in HU"] - seen["metal in HU"] > 1
    assert set(dict(of_hounsfield(np.abs(body), np.abs(body[::5, ::5])))) == {"air in HU"}


@pytest.mark.parametrize("blur", [0.8, 1.2])
def test_the_width_of_a_surface_is_that_of_the_blur_and_follows_the_header(blur):
    body, grid = ellipsoid()
    array = gaussian_filter(1000 * body - 1000, blur)
    told = dict(of_edges(array, grid))
    for side in ("LR", "AP", "SI"):
        # Contrast over slope of a step that a Gaussian blurs, and a voxel in the body and in the slope.
        deviation = math.sqrt(blur**2 + 2 / 12)
        assert math.exp(told[f"edge {side}"]) == pytest.approx(deviation * math.sqrt(2 * math.pi), rel=0.15)
    lied = dict(of_edges(array, ellipsoid((2, 1, 1))[1]))
    assert lied["edge LR over AP"] - told["edge LR over AP"] == pytest.approx(math.log(2))
    assert lied["edge in voxels LR"] == told["edge in voxels LR"]


def test_magnitudes_and_thin_tables_have_no_surface_of_a_body():
    body, grid = ellipsoid()
    assert not dict(of_edges(1000 * body, grid))
    table = np.full(SHAPE, -1000, dtype=np.float32)
    table[:, 70:72] = 0
    assert not dict(of_edges(table, grid))


def test_neighbours_out_of_order_are_no_nearer_than_distant_slices():
    rng = np.random.default_rng(1)
    array = np.cumsum(rng.standard_normal((64, 64, 40)), axis=2).astype(np.float32)
    smooth = np.repeat(np.repeat(array[::8, ::8], 8, 0), 8, 1) + 20
    grid = Geometry(smooth.shape, np.eye(4))
    ordered = scan_features(smooth, grid)["coarse step over far SI"]
    shuffled = scan_features(smooth[:, :, rng.permutation(40)], grid)["coarse step over far SI"]
    assert ordered < -0.7 < -0.3 < shuffled
