from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest

from medrestore.errors import GeometryError
from medrestore.geometry import Geometry, lps_to_ras


def rotated(
    degrees: tuple[float, float, float], spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)
) -> np.ndarray:
    matrix = nib.eulerangles.euler2mat(*np.deg2rad(degrees))
    return nib.affines.from_matvec(matrix * spacing, origin)


OBLIQUE = rotated((20.0, -15.0, 40.0), (0.7, 0.8, 3.0), (-90.0, 12.5, 33.0))


def test_spacing_origin_and_direction_describe_the_affine():
    grid = Geometry((4, 5, 6), OBLIQUE)
    assert grid.spacing == pytest.approx((0.7, 0.8, 3.0))
    assert grid.origin == (-90.0, 12.5, 33.0)
    assert grid.direction.T @ grid.direction == pytest.approx(np.eye(3))
    assert grid.direction * grid.spacing == pytest.approx(OBLIQUE[:3, :3])


@pytest.mark.parametrize(
    ("affine", "codes", "oblique"),
    [
        (np.eye(4), "RAS", False),
        (np.diag([-1.0, -2.0, 3.0, 1.0]), "LPS", False),
        (np.eye(4)[[2, 0, 1, 3]], "ASR", False),
        (OBLIQUE, nib.aff2axcodes(OBLIQUE), True),
        (rotated((0.0, 0.0, 0.05)), "RAS", True),
        (rotated((0.0, 0.0, 0.001)), "RAS", False),
    ],
)
def test_axis_codes_and_obliqueness(affine, codes, oblique):
    grid = Geometry((4, 5, 6), affine)
    assert grid.axis_codes == tuple(codes)
    assert grid.is_oblique is oblique


def test_world_is_the_affine_applied():
    grid = Geometry((4, 5, 6), OBLIQUE)
    index = np.array([[[0, 0, 0], [3, 4, 5]], [[1.5, 2.5, 0.5], [-1, 0, 2]]])
    assert grid.world(index) == pytest.approx(nib.affines.apply_affine(OBLIQUE, index))
    assert grid.world((0, 0, 0)) == pytest.approx(grid.origin)
    with pytest.raises(GeometryError, match="expected"):
        grid.world([1, 2])


def test_affine_is_a_private_read_only_copy():
    mine = OBLIQUE.copy()
    grid = Geometry((4, 5, 6), mine)
    mine[0, 3] = 1e6
    assert grid.origin[0] == -90.0
    for copy in (grid, pickle.loads(pickle.dumps(grid))):
        with pytest.raises(ValueError, match="read-only"):
            copy.affine[0, 0] = 2
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert hash(pickle.loads(pickle.dumps(grid))) == hash(grid)
    assert grid != Geometry((4, 5, 7), OBLIQUE)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 1.0, 0.0, 1.0]), "singular"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "nan in row 1, column 1"),
        (np.diag([1.0, 1.0, np.inf, 1.0]), "inf in row 2"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.eye(3), "expected"),
        ([["a"] * 4] * 4, "not a matrix"),
    ],
)
def test_unusable_affine_is_refused(affine, words):
    with pytest.raises(GeometryError, match=words):
        Geometry((4, 5, 6), affine)


def test_small_and_anisotropic_voxels_are_not_singular():
    assert Geometry((2, 2, 2), np.diag([1e-3, 1e-3, 50.0, 1.0])).spacing == (1e-3, 1e-3, 50.0)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 0), (4, 5, -1), (4, 5, 6.5), "abc", None])
def test_unusable_shape_is_refused(shape):
    with pytest.raises(GeometryError, match="three positive integers"):
        Geometry(shape, np.eye(4))


def test_allclose_is_measured_in_mm_at_the_far_corner():
    grid = Geometry((201, 5, 6), np.eye(4))
    stretched = np.diag([1.0 + 1e-6, 1.0, 1.0, 1.0])  # 2e-4 mm at index 200
    assert not grid.allclose(Geometry((201, 5, 6), stretched))
    assert grid.allclose(Geometry((201, 5, 6), stretched), tol_mm=3e-4)
    assert grid.allclose(Geometry((101, 5, 6), stretched)) is False
    assert Geometry((51, 5, 6), np.eye(4)).allclose(Geometry((51, 5, 6), stretched))


@pytest.mark.parametrize(
    "slices",
    [
        (slice(1, 3), slice(None), slice(2, -1)),
        (slice(None, None, -1), slice(None, None, 2), slice(3, None)),
        (slice(-3, None), slice(0, 1), slice(None)),
    ],
)
def test_cropped_grid_keeps_every_voxel_where_it_was(slices):
    grid = Geometry((4, 5, 6), OBLIQUE)
    index = np.moveaxis(np.indices(grid.shape), 0, -1)[slices]
    crop = grid.cropped(slices)
    assert crop.shape == index.shape[:3]
    assert crop.world(np.moveaxis(np.indices(crop.shape), 0, -1)) == pytest.approx(grid.world(index))


@pytest.mark.parametrize(
    "slices", [(slice(3, 3), slice(None), slice(None)), (slice(None), slice(None)), (1, 2, 3)]
)
def test_empty_or_malformed_crop_is_refused(slices):
    with pytest.raises(GeometryError, match="crop"):
        Geometry((4, 5, 6), OBLIQUE).cropped(slices)


def test_lps_to_ras_flips_x_and_y_and_is_its_own_inverse():
    assert lps_to_ras(np.eye(4)) == pytest.approx(np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert (lps_to_ras(OBLIQUE) @ [1, 2, 3, 1])[:3] == pytest.approx(
        (OBLIQUE @ [1, 2, 3, 1])[:3] * [-1, -1, 1]
    )
    assert lps_to_ras(lps_to_ras(OBLIQUE)) == pytest.approx(OBLIQUE)
