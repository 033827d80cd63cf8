"""Which images of a BIDS data set are restored: filters on the command line, and files of filters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrestore.batch.bids.find import find_bids
from medrestore.batch.bids.wanted import Wanted
from medrestore.errors import ConfigError, InputError


def sources(root: Path, *filters: str) -> list[str]:
    return [case.source.name for case in find_bids(root, Wanted.parse(filters)).cases]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("sub=02", "datatype=anat"), ["sub-02_FLAIR.nii.gz"]),
        (("datatype=func",), ["sub-02_task-rest_bold.nii.gz"]),
        (("session=ses-b",), ["sub-01_ses-b_T2w.nii.gz"]),
        (("run=1",), ["sub-01_ses-a_run-01_T1w.nii.gz"]),
        (("suffix=T2w", "suffix=FLAIR"), ["sub-01_ses-b_T2w.nii.gz", "sub-02_FLAIR.nii.gz"]),
        (("sub=01", "suffix=FLAIR"), []),
    ],
)
def test_filters_take_images_by_their_entities(raw, filters, names):
    assert sources(raw, *filters) == names


def test_what_cannot_be_filtered_by_is_refused(raw):
    with pytest.raises(ConfigError, match="no entity of BIDS"):
        Wanted.parse(["colour=red"])
    with pytest.raises(ConfigError, match="ENTITY=VALUE"):
        Wanted.parse(["sub"])
    with pytest.raises(InputError, match="no participant 09"):
        find_bids(raw, Wanted.parse(participants=["sub-09"]))


def filtered(raw: Path, tmp_path: Path, query: object) -> list[str]:
    file = tmp_path / "filter.json"
    file.write_text(json.dumps(query))
    return [case.source.name for case in find_bids(raw, Wanted.parse(file=file)).cases]


EVERYTHING = [
    "sub-01_ses-a_run-01_T1w.nii.gz",
    "sub-01_ses-b_T2w.nii.gz",
    "sub-02_FLAIR.nii.gz",
    "sub-02_task-rest_bold.nii.gz",
]


@pytest.mark.parametrize(
    ("query", "left_out"),
    [
        ({}, []),
        ({"t1w": {"session": "b"}}, EVERYTHING[:1]),
        ({"t1w": {"session": ["a", "b"], "run": 1}}, []),
        ({"t2w": {"session": None}, "bold": {"task": "*"}}, EVERYTHING[1:2]),
        ({"mine": {"datatype": "anat", "suffix": ["T1w", "T2w"], "run": "*"}}, EVERYTHING[1:2]),
        ({"a": {"datatype": "anat", "subject": "01"}, "fmap": {"anything": {}}}, EVERYTHING[2:3]),
        ({"bold": {"task": "motor"}, "BOLD": {"task": "rest"}}, []),
    ],
)
def test_a_filter_file_leaves_out_what_its_query_of_that_kind_does_not_match(raw, tmp_path, query, left_out):
    assert filtered(raw, tmp_path, query) == [name for name in EVERYTHING if name not in left_out]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"t1": {"run": 1}}, "'t1' is no suffix"),
        ({"t1w": {"colour": "red"}}, "no entity of BIDS"),
        ({"t1w": {"run": True}}, "expected a label"),
        ({"t1w": {"run": []}}, "expected a label"),
        ({"t1w": "run"}, "is no object"),
    ],
)
def test_a_filter_file_that_says_nothing_sensible_is_refused(raw, tmp_path, query, message):
    with pytest.raises(ConfigError, match=message):
        filtered(raw, tmp_path, query)


def test_a_filter_file_that_cannot_be_read_is_refused(raw, tmp_path):
    with pytest.raises(InputError, match="holds no JSON object"):
        filtered(raw, tmp_path, [1])
    with pytest.raises(InputError, match="No such file"):
        Wanted.parse(file=tmp_path / "missing.json")
