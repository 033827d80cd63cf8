"""The scans and label maps of a training run: which are found, which are set apart."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import phantom, save

from medrestore.errors import ConfigError, InputError
from medrestore.training.corpus import find, load
from medrestore.training.recipe import DataOptions


@pytest.fixture
def files(tmp_path):
    for name in ("train/one.nii", "train/two.nii", "other/three.nii.gz", "held.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(folder, **patterns: tuple[str, ...]) -> list[str]:
    """Return the names of the scans that are trained on."""
    return [path.name for path in find(DataOptions(roots=(".",), **patterns), folder)[0]]


@pytest.mark.parametrize("key", ["validation", "exclude"])
def test_a_pattern_sets_apart_what_it_matches_as_a_glob_and_nothing_in_folders(files, key):
    scans = ("train/*.nii", "other/*.nii.gz", "*.nii")
    (files / "more.nii").touch()
    assert found(files, scans=scans, **{key: ("held*",)}) == [
        "one.nii",
        "two.nii",
        "three.nii.gz",
        "more.nii",
    ]


@pytest.mark.parametrize("key", ["validation", "exclude"])
@pytest.mark.parametrize("apart", ["apart/*.nii", "apart"])
def test_what_is_set_apart_through_a_link_is_not_seen(files, key, apart):
    (files / "apart").mkdir()
    (files / "apart" / "x.nii").symlink_to("../held.nii")
    (files / "more.nii").touch()
    assert found(files, scans=("*.nii",), **{key: (apart,)}) == ["more.nii"]


def test_a_link_to_what_is_set_apart_is_not_seen(files):
    (files / "linked").symlink_to("train")
    assert found(files, scans=("linked/*.nii",), exclude=("train/one.nii",)) == ["two.nii"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({"scans": ("*.mgz",)}, r"data\.scans: nothing in .* matches '\*\.mgz'"),
        ({"labels": ("*.mgz",)}, r"data\.labels: nothing in"),
        ({"exclude": ("held.nii.gz",)}, r"data\.exclude: nothing in .* matches 'held\.nii\.gz'"),
        ({"validation": ("V*",)}, r"data\.validation: nothing in"),
        ({"scans": ("",)}, r"data\.scans: '' is no glob pattern"),
        ({"exclude": ("/etc/*",)}, r"data\.exclude: '/etc/\*' is no glob pattern"),
        (
            {"scans": ("held.nii", "train/*"), "exclude": ("train",)},
            r"all that 'train/\*' matches is set apart",
        ),
    ],
)
def test_a_pattern_that_finds_nothing_is_an_error(files, patterns, message):
    with pytest.raises(ConfigError, match=message):
        found(files, **{"scans": ("*.nii",), **patterns})


@pytest.mark.parametrize("value", [256, -1, 0.3])
def test_a_value_that_is_no_label_is_told(tmp_path, value):
    labels = np.zeros((4, 4, 4), np.float32)
    labels[1, 2, 3] = value
    save(tmp_path / "map.nii", labels)
    with pytest.raises(InputError, match=rf"map\.nii: has the value {value} in 1 voxels"):
        load(DataOptions(roots=(".",), scans=(), labels=("map.nii",)), tmp_path)


@pytest.mark.parametrize("spike", [1e9, None])
def test_a_scan_that_there_is_nothing_to_learn_from_is_told(tmp_path, spike):
    scan = np.zeros((24, 24, 24), np.float32) if spike is None else phantom(24)
    scan[5, 5, 5] = spike or 0
    save(tmp_path / "one.nii", scan)
    with pytest.raises(InputError, match=r"one\.nii: its brightest voxel is"):
        load(DataOptions(roots=(".",), scans=("one.nii",)), tmp_path)


def test_a_single_thin_slice_is_no_blank_at_a_lower_resolution(tmp_path):
    save(tmp_path / "one.nii", phantom(24)[:, :, 12:13], 0.5)
    scans = load(DataOptions(roots=(".",), scans=("one.nii",)), tmp_path).scans
    assert [scan.shape for scan in scans] == [(24, 24, 1), (12, 12, 1), (9, 9, 1)]
    assert all(scan.max() > 0.5 for scan in scans)
