"""The evidence of a residual: what it says of residuals of which everything is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrestore.engine.evidence import slabs as slabbed
from medrestore.engine.evidence.moments import FEWEST
from medrestore.engine.evidence.residual import residual_evidence

SHAPE = (20, 18, 16)
NOTHING = dict.fromkeys(
    ("std_over_sigma", "mean_over_sigma", "neighbour_correlation", "edge_correlation", "kurtosis")
)


def tissue(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A result that is tissue all over."""
    return np.full(shape, 100, np.float32)


def white(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def correlated(noise: np.ndarray, rho: float, axis: int) -> np.ndarray:
    """Noise of the same deviation, correlated along one axis by `rho` from voxel to voxel: AR(1)."""
    found = np.moveaxis(noise, axis, 0).copy()
    for row in range(1, len(found)):
        found[row] = rho * found[row - 1] + np.sqrt(1 - rho**2) * found[row]
    return np.moveaxis(found, 0, axis)


def test_mean_and_deviation_are_in_units_of_the_noise():
    scan = tissue() + 3 + 2 * white()
    found = residual_evidence(scan, tissue(), 4.0)
    residual = (scan - tissue()).astype(np.float64)
    assert found["mean_over_sigma"] == pytest.approx(residual.mean() / 4, abs=1e-5)
    assert found["std_over_sigma"] == pytest.approx(residual.std() / 4, abs=1e-5)
    assert found["mean_over_sigma"] == pytest.approx(0.75, abs=0.03)
    assert found["std_over_sigma"] == pytest.approx(0.5, abs=0.02)
    assert abs(found["neighbour_correlation"]) < 0.05


def test_a_result_that_is_too_bright_leaves_a_negative_mean():
    assert residual_evidence(tissue() - 2, tissue(), 4.0)["mean_over_sigma"] == pytest.approx(-0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("rho", [0.5, -0.5])
def test_the_correlation_of_neighbours_is_found_along_any_axis_with_its_sign(axis, rho):
    residual = correlated(white(), rho, axis)
    found = residual_evidence(tissue() + residual, tissue(), 1.0)
    near, far = (np.moveaxis(residual, axis, 0)[part].ravel() for part in (slice(None, -1), slice(1, None)))
    assert found["neighbour_correlation"] == pytest.approx(np.corrcoef(near, far)[0, 1], abs=1e-4)
    assert found["neighbour_correlation"] == pytest.approx(rho, abs=0.05)
    assert found["std_over_sigma"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_correlation_is_the_one_that_is_farthest_from_zero(sign):
    residual = correlated(correlated(white(), sign * 0.6, 1), sign * -0.3, 0)
    found = residual_evidence(tissue() + residual, tissue(), 1.0)
    assert found["neighbour_correlation"] == pytest.approx(sign * 0.6, abs=0.05)


def test_a_level_for_each_voxel_is_that_of_its_residual():
    level = np.broadcast_to(np.linspace(1, 5, SHAPE[1], dtype=np.float32)[:, None], SHAPE)
    found = residual_evidence(tissue() + level * (1 + white()), tissue(), level)
    assert found["mean_over_sigma"] == pytest.approx(1, abs=0.05)
    assert found["std_over_sigma"] == pytest.approx(1, abs=0.05)


def test_a_constant_residual_has_no_correlation():
    found = residual_evidence(tissue() + 3, tissue(), 4.0)
    expected = {"std_over_sigma": 0, "mean_over_sigma": 0.75, "kurtosis": 1.0}
    assert found == NOTHING | expected


def test_nothing_is_said_of_fewer_voxels_than_needed():
    few, enough = (3, 3, 11), (4, 5, 5)
    assert np.prod(few) == FEWEST - 1 and np.prod(enough) == FEWEST
    assert residual_evidence(tissue(few) + white(few), tissue(few), 1.0) == NOTHING
    found = residual_evidence(tissue(enough) + white(enough), tissue(enough), 1.0)
    assert found["std_over_sigma"] == pytest.approx(white(enough).std(), rel=1e-4)
    assert found["neighbour_correlation"] is None  # of pairs there are fewer


@pytest.mark.parametrize("sigma", [0.0, np.zeros(SHAPE), np.ones(SHAPE) * (np.arange(SHAPE[2]) != 3)])
def test_nothing_is_said_where_there_is_no_noise(sigma):
    assert residual_evidence(tissue() + white(), tissue(), sigma) == NOTHING


def head() -> tuple[np.ndarray, np.ndarray]:
    """A scan and its result: tissue with noise of deviation 1 in air with ten times as much."""
    restored = np.zeros((24, 24, 24), np.float32)
    restored[6:18, 6:18, 6:18] = 500
    noise = white(restored.shape)
    noise[outside(restored.shape, 4, 20)] *= 10
    return restored + noise, restored


def outside(shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Tell which voxels lie outside a cube."""
    return np.any((np.indices(shape) < low) | (np.indices(shape) >= high), axis=0)


def test_air_is_left_out():
    scan, restored = head()
    assert (scan - restored).std() > 5
    assert residual_evidence(scan, restored, 1.0)["std_over_sigma"] == pytest.approx(1, abs=0.05)


def test_the_zero_of_the_units_is_where_tissue_begins():
    scan, restored = head()
    found = residual_evidence(scan - 1000, restored - 1000, 1.0, zero=-1000.0)
    assert found == pytest.approx(residual_evidence(scan, restored, 1.0), abs=1e-3)
    # Taken for a magnitude, all of this CT is darker than air.
    assert residual_evidence(scan - 1000, restored - 1000, 1.0) == NOTHING


@pytest.mark.parametrize("rows", [0, 1, 3, 19])
@pytest.mark.parametrize("mapped", [False, True])
def test_the_thickness_of_the_slabs_makes_no_difference(monkeypatch, rows, mapped):
    restored = tissue()
    restored[:, :5] = 0  # air, so that pairs have to be looked for
    scan = restored + correlated(white(), 0.4, 0) + 0.3
    level = (1.5 + 0.1 * white()).clip(1, 2) if mapped else 1.5
    whole = residual_evidence(scan, restored, level)
    monkeypatch.setattr(slabbed, "_SLAB", rows * scan[0].size)
    found = list(slabbed.slabs(scan, restored, level, 0.0))
    assert len(found) == -(-SHAPE[0] // max(rows, 1)) > 1
    assert residual_evidence(scan, restored, level) == pytest.approx(whole, rel=1e-9)
    assert whole["neighbour_correlation"] == pytest.approx(0.4, abs=0.05)


def test_edges_that_went_with_the_noise_are_seen():
    scan = tissue((40, 40, 40)) + 40 * (np.indices((40, 40, 40)).sum(axis=0) // 12 % 2).astype(np.float32)
    blurred = residual_evidence(scan, ndimage.gaussian_filter(scan, 1.0), 1.0)
    plain = residual_evidence(scan + white(scan.shape), scan, 1.0)
    assert blurred["edge_correlation"] > 0.3
    assert blurred["kurtosis"] > 4
    assert abs(plain["edge_correlation"]) < 0.05
    assert plain["kurtosis"] == pytest.approx(3, abs=0.3)
