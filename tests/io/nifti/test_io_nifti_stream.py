"""Compressed files to their end: checksums, what is behind the voxels, and files that are made to exhaust."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc

import numpy as np
import pytest
from nifti_files import patched, ramp, save

from medrestore.errors import InputError
from medrestore.io import read, read_first, read_header, read_series, reading_findings
from medrestore.io.nifti import stream

DATA = np.random.default_rng(0).integers(0, 4000, (12, 11, 10)).astype(np.int16)


@pytest.fixture
def plain(tmp_path) -> bytes:
    save(tmp_path / "plain.nii", DATA)
    return (tmp_path / "plain.nii").read_bytes()


def behind(volume) -> list[int]:
    return [found.data["bytes"] for found in reading_findings(volume) if found.code == "bytes-behind-voxels"]


def test_no_damaged_stream_is_taken_for_a_scan(tmp_path, plain):
    """Whatever one bit does to a compressed file: the same scan is read, or none."""
    path, whole = tmp_path / "in.nii.gz", gzip.compress(plain, mtime=0)
    same = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        try:
            volume = read(path)
        except InputError:
            continue
        same += 1
        assert np.array_equal(volume.array, DATA)
    assert same < 20  # bits of the header of gzip, which mean nothing


def test_a_header_that_declares_less_than_is_there_does_not_pass_over_the_checksum(tmp_path, plain):
    path, block = tmp_path / "in.nii.gz", bytearray(plain)
    struct.pack_into("<h", block, 40, 2)  # an image of one slice, in a file of ten
    whole = bytearray(gzip.compress(bytes(block)))
    path.write_bytes(whole)
    (one,) = behind(read(path))
    assert one == DATA.nbytes // 10 * 9
    whole[-8] ^= 1  # its checksum
    path.write_bytes(whole)
    with pytest.raises(InputError, match="damaged gzip stream"):
        read(path)


@pytest.mark.parametrize("parts", [2, 7])
def test_several_streams_are_one_file(tmp_path, plain, parts):
    path, step = tmp_path / "in.nii.gz", -(-len(plain) // parts)
    streams = [gzip.compress(plain[at : at + step]) for at in range(0, len(plain), step)]
    path.write_bytes(b"".join(streams))
    volume = read(path)
    assert np.array_equal(volume.array, DATA) and behind(volume) == []
    for number in range(parts):
        damaged = [bytearray(one) for one in streams]
        damaged[number][-6] ^= 4  # the checksum of any of them
        path.write_bytes(b"".join(damaged))
        with pytest.raises(InputError, match="damaged gzip stream"):
            read(path)


@pytest.mark.parametrize(
    ("end", "count"),
    [
        (b"junk", 4),
        (bytes(512), 512),
        (stream.GZIP_MAGIC, 2),
        (stream.GZIP_MAGIC + b"\x08nothing", 10),
        (gzip.compress(b"more", mtime=0), 4),
        (gzip.compress(b"more", mtime=0)[:-5], len(gzip.compress(b"more", mtime=0)) - 5),
        (gzip.compress(b"more", mtime=0) + b"x", 5),
    ],
)
def test_what_is_behind_the_stream_is_counted(tmp_path, plain, end, count):
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(plain) + end)
    volume = read(path)
    assert np.array_equal(volume.array, DATA)
    assert behind(volume) == [count]


def test_bytes_behind_the_voxels_within_the_stream_are_counted(tmp_path, plain):
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(plain + b"x" * 77))
    assert behind(read(path)) == [77]


@pytest.mark.parametrize("volumes", [1, 3])
def test_the_checksum_is_met_before_any_volume_is_given(tmp_path, volumes):
    data = np.stack([DATA] * volumes, axis=-1)
    save(tmp_path / "in.nii.gz", data)
    content = bytearray((tmp_path / "in.nii.gz").read_bytes())
    content[-8] ^= 1
    (tmp_path / "in.nii.gz").write_bytes(content)
    assert read_header(tmp_path / "in.nii.gz").volumes == volumes  # which meets no checksum
    with pytest.raises(InputError, match="damaged gzip stream"):
        read_series(tmp_path / "in.nii.gz")


def test_memory_is_not_taken_for_voxels_that_a_stream_does_not_hold(tmp_path):
    """A header that declares a thousand times what is there, which a stream of its size might well hold."""
    save(tmp_path / "in.nii", np.random.default_rng(0).integers(0, 9, (64, 64, 64)).astype(np.uint8))
    patched(tmp_path / "in.nii", 40, "<5h", 4, 64, 64, 64, 40)
    (tmp_path / "in.nii.gz").write_bytes(gzip.compress((tmp_path / "in.nii").read_bytes()))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="the data end at about byte 262496"):
            read_series(tmp_path / "in.nii.gz")
        assert tracemalloc.get_traced_memory()[1] < 10e6  # the volumes are 42 MB
    finally:
        tracemalloc.stop()


def test_a_bomb_behind_the_voxels_is_not_unpacked(tmp_path, plain, monkeypatch):
    monkeypatch.setattr(stream, "_FLOOR", 1 << 16)
    path = tmp_path / "in.nii.gz"
    path.write_bytes(gzip.compress(plain + bytes(1 << 23)))
    start = time.monotonic()
    with pytest.raises(InputError, match="bytes follow the voxels, as in no scan"):
        read(path)
    assert time.monotonic() - start < 5


def test_sizes_are_counted_before_volumes_are_made(tmp_path):
    """353 bytes may hold 32,767 volumes of 8 voxels; of 8,000 they hold none."""
    save(tmp_path / "in.nii", ramp((2, 2, 2), "uint8"))
    for side, words in ((2, "the data end at"), (20, "declares 262136000 bytes")):
        patched(tmp_path / "in.nii", 40, "<5h", 4, side, side, side, 32767)
        (tmp_path / "in.nii.gz").write_bytes(gzip.compress((tmp_path / "in.nii").read_bytes() + bytes(90000)))
        with pytest.raises(InputError, match=words):
            read_series(tmp_path / "in.nii.gz")


def test_nothing_is_written_of_a_stream_whose_checksum_is_another(tmp_path, tiny_model):
    import medrestore

    save(tmp_path / "in_T1w.nii.gz", DATA, np.eye(4))
    content = bytearray((tmp_path / "in_T1w.nii.gz").read_bytes())
    content[-8] ^= 1
    (tmp_path / "in_T1w.nii.gz").write_bytes(content)
    options = medrestore.RestoreOptions(model=str(tiny_model), noise="5%")
    with pytest.raises(InputError, match="damaged gzip stream"):
        medrestore.restore_file(tmp_path / "in_T1w.nii.gz", tmp_path / "out.nii", options)
    assert [path.name for path in tmp_path.iterdir()] == ["in_T1w.nii.gz"]


def test_for_a_look_the_first_volume_of_a_series_is_read_alone(tmp_path):
    series = np.stack([DATA, DATA + 1, DATA + 2], axis=-1)
    path = tmp_path / "run.nii.gz"
    save(path, series)
    header = read_header(path)
    np.testing.assert_array_equal(read_first(header).array, DATA)
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1  # the checksum, which is behind the last volume
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_first(header).array, DATA)
    with pytest.raises(InputError, match="damaged gzip stream"):
        read_series(path)
