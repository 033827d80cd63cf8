"""Paths that are no files, or cannot be reached: each is one bad case, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from tiny import CommandLine, noisy, phantom, save, scan_folder

from medrestore.batch import find_cases
from medrestore.batch.bids.find import find_bids, is_dataset
from medrestore.batch.bids.wanted import Wanted
from medrestore.batch.find.lists import read_list
from medrestore.errors import InputError
from medrestore.files import read_header
from medrestore.io import plan_dicom
from medrestore.paths import MOST_JSON, open_file, read_json, resolved
from medrestore.provenance import sha256_file

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")

TEXTS = {
    "pipe.nii.gz": "is a named pipe, expected a file",
    "socket.nii": "is a socket, expected a file",
    "loop.nii": "is a link that leads in a circle, expected a file",
    "dangling.nii.gz": "is a link that leads nowhere, expected a file",
    "folder.nii.gz": "is a folder, expected a file",
}


@pytest.fixture
def cli(monkeypatch, capsys) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """A folder with a scan, and with everything that a path can be."""
    folder = tmp_path / "scans"
    (folder / "folder.nii.gz" / "empty").mkdir(parents=True)
    monkeypatch.chdir(folder)
    save(folder / "good_T1w.nii.gz", noisy(phantom(24), 0.05, 1))
    os.mkfifo("pipe.nii.gz")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.nii")  # the name stays
    for name, target in (("loop.nii", "loop.nii"), ("a", "a"), ("dangling.nii.gz", "none.nii.gz")):
        Path(name).symlink_to(target)
    Path("zero.nii").symlink_to("/dev/zero")
    Path("elsewhere").symlink_to(tmp_path)
    return folder


def test_each_is_a_case_that_is_refused_by_name(odd):
    found = find_cases(odd)
    assert {str(case.source): case.refused for case in found.cases if case.refused} == TEXTS
    assert [str(case.source) for case in found.cases if not case.refused] == ["good_T1w.nii.gz"]


def test_what_has_no_name_of_a_scan_is_left_out_by_name(odd):
    found = find_cases(odd)
    assert found.left_out == {
        "link to a folder that leads out of the folder": 1,
        "no file that can be opened": 2,
        "link that leads out of the folder": 1,
    }
    assert found.examples["link that leads out of the folder"] == "zero.nii"
    assert found.described()[0].endswith(", such as elsewhere")
    assert not any("such as" in line for line in found.described(hide_names=True))


def test_a_batch_goes_on(cli, odd, tmp_path, tiny_model):
    status, shown, errors = cli("batch", odd, "-o", tmp_path / "out", "--model", tiny_model)
    assert status == 3 and "1 done (0 before), 5 failed, of 6" in shown, errors
    for name, text in TEXTS.items():
        assert f"{name} failed, {text}" in errors
    assert "left out: 1 link that leads out of the folder, such as zero.nii" in shown


def test_a_name_that_is_no_utf8_is_a_name(cli, tmp_path, tiny_model):
    scans = tmp_path / "scans"
    scans.mkdir()
    save(scans / os.fsdecode(b"caf\xe9_T1w.nii.gz"), noisy(phantom(24), 0.05, 1))
    command = ("batch", scans, "-o", tmp_path / "out", "--model", tiny_model, "--hide-names")
    status, shown, errors = cli(*command)
    assert status == 0 and "1 done (0 before), 0 failed, of 1" in shown, errors
    assert "1 done (1 before)" in cli(*command)[1]


def test_a_scan_of_the_folder_names_them(cli, odd):
    status, shown, errors = cli("scan", odd)
    assert status == 0, errors
    for name in (*TEXTS, "zero.nii", "elsewhere"):
        assert name in shown
    status, shown, _ = cli("scan", odd, "--json")
    told = json.loads(shown)
    assert {Path(one["file"]).name for one in told["not_read"]} == {*TEXTS, "elsewhere"}
    assert [Path(one["file"]).name for one in told["other_formats"]] == ["good_T1w.nii.gz"]


@pytest.mark.parametrize("name", ["pipe", "pipe.nii.gz", "socket.nii", "loop.nii", "a", "zero.nii"])
@pytest.mark.parametrize("verb", ["restore", "batch", "scan", "noise"])
def test_by_itself_it_is_refused_at_once(cli, odd, tmp_path, verb, name):
    out = () if verb in {"scan", "noise"} else ("-o", tmp_path / ("out" if verb == "batch" else "out.nii"))
    status, _, errors = cli(verb, odd / name, *out)
    assert status == 2
    assert f"{name}: is a" in errors


@pytest.mark.parametrize("name", ["x" * 300 + ".nii", "none.nii", "nul\0.nii"])
def test_a_name_that_no_file_has_is_an_error_of_ours(tmp_path, name):
    with pytest.raises(InputError, match=r"no such file|out of reach"):
        read_header(tmp_path / name)


def test_a_list_that_names_them_has_a_case_for_each(odd):
    names = [*TEXTS, "gone.nii", "nul\0.nii"]
    (odd / "list.jsonl").write_text("\n".join(json.dumps({"input": name}) for name in names))
    refused = [case.refused for case in read_list(odd / "list.jsonl").cases]
    assert refused[:3] == list(TEXTS.values())[:3]
    assert refused[3] == "no such file"
    assert refused[4:] == ["is a folder without a scan", "no such file", "is out of reach, expected a file"]


def test_a_folder_of_the_name_of_a_file_is_looked_into(tmp_path):
    """Programs that unpack put head.nii into a folder head.nii."""
    (tmp_path / "head.nii").mkdir()
    save(tmp_path / "head.nii" / "head.nii", np.ones((4, 4, 4), np.float32))
    (tmp_path / "ct.nii").mkdir()
    write_series(tmp_path / "ct.nii" / "series")
    cases = find_cases(tmp_path).cases
    assert [(str(case.source), case.refused) for case in cases] == [
        ("ct.nii/series", ""),
        ("head.nii/head.nii", ""),
    ]


@pytest.fixture
def locked(monkeypatch):
    """Refuse to list folders called `locked`; root may list everything else."""
    listed = os.scandir

    def scandir(path="."):
        if Path(os.fsdecode(path)).name == "locked":
            raise PermissionError(13, "Permission denied", os.fsdecode(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", lambda path=".": [entry.name for entry in scandir(path)])


@pytest.mark.usefixtures("locked")
def test_a_folder_that_cannot_be_listed_ends_nothing(cli, tmp_path):
    save(tmp_path / "a.nii", np.ones((4, 4, 4), np.float32))
    (tmp_path / "locked").mkdir()
    found = find_cases(tmp_path)
    assert [str(case.source) for case in found.cases] == ["a.nii"]
    assert (found.described(), found.unread()) == ([], "1 folder that cannot be listed, such as locked")
    assert found.only(exclude=("locked/*",)).unlisted == ()
    status, shown, _ = cli("scan", tmp_path)
    assert status == 0 and "locked: is a folder that cannot be listed" in shown
    with pytest.raises(InputError, match="cannot be listed"):
        plan_dicom(tmp_path / "locked")


@pytest.mark.usefixtures("locked")
def test_a_series_beside_a_folder_that_cannot_be_listed_may_lack_slices(tmp_path):
    write_series(tmp_path / "in")
    (tmp_path / "in" / "locked").mkdir()
    with pytest.raises(InputError, match="cannot be listed"):
        plan_dicom(tmp_path / "in").choose()


@pytest.mark.parametrize(("name", "blocks"), [("{}", True), ("readme.txt", False)])
def test_a_link_that_leads_nowhere_may_have_been_a_slice(tmp_path, name, blocks):
    write_series(tmp_path)
    last = sorted(tmp_path.iterdir())[-1]
    if blocks:
        last.unlink()
    (tmp_path / name.format(last.name)).symlink_to("nowhere")
    if not blocks:
        assert plan_dicom(tmp_path).choose().geometry is not None
        return
    with pytest.raises(InputError, match="is a link that leads nowhere"):
        plan_dicom(tmp_path).choose()


def test_a_data_set_of_bids_has_such_paths_too(tmp_path, monkeypatch, locked):
    root = tmp_path / "raw"
    for subject in ("sub-1", "sub-2", "locked"):
        (root / subject / "anat").mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (root / "sub-3").mkdir()
    shutil.move(root / "locked", root / "sub-3" / "locked")
    anat = root / "sub-1" / "anat"
    save(anat / "sub-1_T1w.nii.gz", np.ones((4, 4, 4), np.float32))
    os.mkfifo(root / "sub-2" / "anat" / "sub-2_T1w.nii.gz")
    (anat / "sub-1_T2w.nii.gz").symlink_to("sub-1_T2w.nii.gz")
    (anat / "sub-1_PDw.nii.gz").mkdir()
    os.mkfifo(anat / "sub-1_T1w.json")
    found = find_bids(root)
    assert {str(case.source.name): case.refused for case in found.cases} == {
        "sub-1_T1w.nii.gz": "its file sub-*/anat/sub-*_T1w.json: cannot be read (it is no file); "
        "mend it, or get its content first",
        "sub-1_T2w.nii.gz": "is a link that leads in a circle, expected a file",
        "sub-2_T1w.nii.gz": "is a named pipe, expected a file",
    }
    assert found.left_out == {"folder that is named as an image": 1}
    assert found.unlisted == ("sub-3/locked",)
    assert find_bids(root, Wanted.parse(("sub=1",))).unlisted == ()
    assert find_bids(root, Wanted.parse(("datatype=anat",))).unlisted == ()


@pytest.mark.usefixtures("locked")
def test_a_folder_that_cannot_be_listed_is_said_whatever_else_is_not(cli, tmp_path, tiny_model):
    scan_folder(tmp_path / "in", ("a.nii",))
    (tmp_path / "in" / "locked").mkdir()
    command = ("batch", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_model, "-q")
    status, shown, errors = cli(*command)
    assert (status, shown) == (3, "") and "1 folder that cannot be listed, such as locked" in errors
    assert "such as" not in cli(*command, "--hide-names")[2]
    assert cli(*command, "--exclude", "locked/*")[::2] == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": 1}' + " " * MOST_JSON,
        "[1]",
        "",
        "\xff",
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_json_beside_scans_is_read_within_bounds(tmp_path, text):
    path = tmp_path / "dataset_description.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"."):
        read_json(path)
    with pytest.raises(InputError, match=r"dataset_description\.json: cannot be read"):
        is_dataset(tmp_path)


@pytest.mark.parametrize("name", ["pipe", "socket.nii", "zero.nii"])
def test_nothing_but_files_is_opened(odd, name):
    for opens in (open_file, sha256_file):
        with pytest.raises(InputError, match="expected a file"):
            opens(odd / name)
    assert open_file(odd / "good_T1w.nii.gz").read(2) == b"\x1f\x8b"


def test_links_are_followed_as_far_as_they_lead(odd, tmp_path):
    assert resolved(odd / "elsewhere" / "scans" / "pipe") == (tmp_path / "scans" / "pipe").resolve()
    assert resolved(odd / "a").name == "a"
