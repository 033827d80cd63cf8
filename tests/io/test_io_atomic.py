from __future__ import annotations

import errno
import os
import stat
import sys

import pytest

from medrestore.errors import OutputError
from medrestore.io import atomic_folder, atomic_write

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


def test_file_appears_only_when_the_body_is_done(tmp_path):
    target = tmp_path / "out.png"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("out.png")
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("trouble", [RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("overwrite", [False, True])
def test_failure_leaves_the_old_file_and_no_rubbish(tmp_path, trouble, overwrite):
    target = tmp_path / "out"
    if overwrite:
        target.write_bytes(b"old")

    def body(temporary):
        temporary.write_bytes(b"half")
        raise trouble

    with pytest.raises(type(trouble)), atomic_write(target, overwrite) as temporary:
        body(temporary)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == (
        [("out", b"old")] if overwrite else []
    )


def test_full_disk_is_an_output_error_that_names_the_file(tmp_path):
    with pytest.raises(OutputError, match=r"out\.nii.*No space left"), atomic_write(tmp_path / "out.nii"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_replaced_only_on_request(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"), atomic_write(target):
        pytest.fail("the body must not run")
    assert target.read_bytes() == b"old"
    with atomic_write(target, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    target = tmp_path / "out"
    if not links:

        def no_links(*_):
            raise PermissionError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)

    def body(temporary):
        temporary.write_bytes(b"mine")
        target.write_bytes(b"theirs")

    with pytest.raises(OutputError, match="exists already"), atomic_write(target) as temporary:
        body(temporary)
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_works_where_the_file_system_has_no_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    with atomic_write(tmp_path / "out") as temporary:
        temporary.write_bytes(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_target_must_be_a_file_in_a_folder(tmp_path):
    with pytest.raises(OutputError, match="does not exist"), atomic_write(tmp_path / "missing" / "out"):
        pass
    with pytest.raises(OutputError, match="is a folder"), atomic_write(tmp_path, overwrite=True):
        pass


@posix
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "out") as temporary:
            temporary.write_bytes(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_long_names_leave_room_for_the_temporary_one(tmp_path):
    target = tmp_path / ("x" * 240 + ".nii.gz")
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"x")
    assert target.exists()


def test_a_folder_appears_with_all_that_is_in_it_or_not_at_all(tmp_path):
    target = tmp_path / "series"
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as hidden:
        (hidden / "a").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(target) as hidden:
        (hidden / "inner").mkdir()
        (hidden / "inner" / "a").write_text("whole")
        assert not target.exists()
    assert (target / "inner" / "a").read_text() == "whole"
    with pytest.raises(OutputError, match="exists already"), atomic_folder(target):
        pass
    with pytest.raises(ZeroDivisionError), atomic_folder(target, overwrite=True):
        raise ZeroDivisionError
    assert (target / "inner" / "a").read_text() == "whole"
    with atomic_folder(target, overwrite=True) as hidden:
        (hidden / "b").write_text("new")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path):
    target = tmp_path / "series"

    def another_run_ends(hidden):
        (hidden / "a").write_text("ours")
        target.mkdir()
        (target / "a").write_text("theirs")

    with pytest.raises(OutputError, match="exists already"), atomic_folder(target) as hidden:
        another_run_ends(hidden)
    assert (target / "a").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_no_folder_to_replace(tmp_path):
    (tmp_path / "series").write_text("precious")
    with pytest.raises(OutputError, match="is a file"), atomic_folder(tmp_path / "series", overwrite=True):
        pass
    assert (tmp_path / "series").read_text() == "precious"
