"""The scans and label maps of a training run: which are found, which are set apart."""

from __future__ import annotations

import pytest

from medrestore.errors import ConfigError
from medrestore.training.corpus import find
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
