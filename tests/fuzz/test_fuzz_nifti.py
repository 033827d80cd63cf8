"""Damaged NIfTI files, and the JSON files of BIDS beside them: see `judge` and `damage`."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from damage import ANY, Damage, damaged, set_number, splice
from judge import PERSON, bounded, check_words, share, tried

from medrestore.io import read_series, reading_findings
from medrestore.options import ReadPolicy
from medrestore.volume import Volume

PARTS, WHOLE = 10, 20_000
SHAPE = (5, 4, 3)

_FIELDS = {
    1: {
        "i": (0, 32, 140, 144),
        "h": (36, *range(40, 56, 2), 68, 70, 72, 74, 120, 252, 254),
        "f": (56, 60, 64, *range(76, 108, 4), 108, 112, 116, 124, 128, 132, 136, *range(256, 328, 4)),
        "B": (38, 39, 122, 123, *range(344, 352)),
    },
    2: {
        "i": (0, 344, 348, 496, 500, 504),
        "h": (12, 14),
        "q": (*range(16, 80, 8), 168, 224, 232),
        "d": (80, 88, 96, *range(104, 168, 8), 176, 184, 192, 200, 208, 216, *range(352, 496, 8)),
        "B": (*range(4, 12), *range(540, 544)),
    },
}
"""Where the numbers of a header lie, by its version and their types."""

_FLOATS = (0.0, -0.0, 1.0, -1.0, 2.0, 352.0, 353.5, 1e-30, -1e30, 1e30, 3e38, float("nan"), float("inf"))
VALUES = {
    "i": (0, 1, -1, 348, 540, 2**31 - 1, -(2**31)),
    "h": (0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 99, 255, 256, 512, 768, 1536, 2304, -1, 32767, -32768),
    "q": (0, 1, 2, 4, 7, 544, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**63)),
    "f": _FLOATS,
    "d": (*_FLOATS, 1e300, -1e308),
    "B": (0, 1, 2, 7, 16, 24, 56, 110, 128, 255),
}


def field_damage(version: int) -> Damage:
    fields = [(at, form) for form, places in _FIELDS[version].items() for at in places]
    return set_number(fields, VALUES, "<<<>")


def scan(number: int) -> bytes:
    """Return a sound file: versions, byte orders, types, forms, series, scaling and extensions take turns."""
    draw = np.random.default_rng(number)
    version, order = 1 + number % 2, "<>"[number // 2 % 2]
    dtype = ("u1", "i2", "f4", "f8", "u2")[number % 5]
    shape = (SHAPE, SHAPE[:2], (*SHAPE, 3), (*SHAPE, 1))[number // 3 % 4]
    header = {1: nib.Nifti1Header, 2: nib.Nifti2Header}[version](endianness=order)
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    affine = np.array([[-2.0, 0, 0, 10], [0, 1.5, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1]])
    header.set_qform(affine, code=number % 3)
    header.set_sform(affine, code=number // 2 % 5)
    header.set_xyzt_units("mm", "sec")
    for field in ("descrip", "aux_file", "intent_name", *(("db_name",) if version == 1 else ())):
        header[field] = PERSON.encode()[: header[field].dtype.itemsize]
    if dtype[0] != "f":
        header.set_slope_inter(0.5, -3)
    if number % 4 == 1:
        header.extensions.append(nib.nifti1.Nifti1Extension("comment", PERSON.encode() * 3))
    header["vox_offset"] = header.single_vox_offset + header.extensions.get_sizeondisk()
    stream = io.BytesIO()
    header.write_to(stream)
    stream.seek(int(header["vox_offset"]))
    stream.write(draw.integers(0, 200, shape).astype(order + dtype).tobytes(order="F"))
    return stream.getvalue()


SCANS = tuple(scan(number) for number in range(24))
PACKED = tuple(gzip.compress(content, mtime=0) for content in SCANS)
SIDECAR = json.dumps(
    {
        "PatientName": PERSON,
        "Modality": "MR",
        "AcquisitionMatrixPE": 4,
        "ReconMatrixPE": 4,
        "BaseResolution": 5,
        "PartialFourier": 0.75,
        "ImageType": ["ORIGINAL", PERSON, "ND"],
        "ScanOptions": PERSON,
        "PhaseEncodingDirection": "j-",
        "ImageOrientationPatientDICOM": [1, 0, 0, 0, 1, 0],
        "NonlinearGradientCorrection": True,
    }
).encode()
_JSON = (
    b"[" * 5000,
    b'{"a":' * 5000,
    b"9" * 6000,
    b"1e999",
    b"null",
    b"\xff\xfe",
    b'"\\ud800"',
    b"-0.0",
    b" " * 9000,
)


def read(path: Path, draw: random.Random) -> tuple[Volume, ...]:
    return read_series(path, policy=ReadPolicy(nan_fill=draw.choice((None, 0.0))))


def check_volumes(volumes: tuple[Volume, ...], folder: Path) -> None:
    """Check what holds of every scan that is read, whatever its file was."""
    assert len({volume.shape for volume in volumes}) == 1
    for volume in volumes:
        assert np.isfinite(volume.array).all()
        assert volume.array.dtype == np.float32
    for finding in reading_findings(volumes[0]):
        check_words(finding.text, folder)
    check_words(sorted(volumes[0].source.details.get("sampling", {}).get("ignored", ())), folder)


def same(one: tuple[Volume, ...], other: tuple[Volume, ...]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.array, b.array) and a.geometry == b.geometry for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("part", range(PARTS))
def test_plain_files(tmp_path, part):
    draw, path = random.Random(f"plain {part}"), tmp_path / "in_T1w.nii"
    with bounded():
        for _ in range(share(WHOLE, 0.4 / PARTS)):
            number = draw.randrange(len(SCANS))
            ways = (*ANY, splice(SCANS), *[field_damage(1 + number % 2)] * 6)
            path.write_bytes(damaged(draw, SCANS[number], ways))
            found = tried(lambda: read(path, draw), tmp_path)
            if not isinstance(found, str):
                check_volumes(found, tmp_path)


@pytest.mark.parametrize("part", range(PARTS))
def test_compressed_files_whose_contents_were_damaged_before(tmp_path, part):
    """As many programs write them: with the checksum of what is damaged."""
    draw, path = random.Random(f"inner {part}"), tmp_path / "in_T1w.nii.gz"
    with bounded():
        for _ in range(share(WHOLE, 0.2 / PARTS)):
            number = draw.randrange(len(SCANS))
            ways = (*ANY, splice(SCANS), *[field_damage(1 + number % 2)] * 6)
            path.write_bytes(zlib.compress(damaged(draw, SCANS[number], ways), 1, wbits=31))
            found = tried(lambda: read(path, draw), tmp_path)
            if not isinstance(found, str):
                check_volumes(found, tmp_path)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_damage_to_a_stream_gives_another_scan(tmp_path, part):
    """A checksum tells: the scan is read as it was, or not at all."""
    draw, path = random.Random(f"outer {part}"), tmp_path / "in_T1w.nii.gz"
    sound = []
    for content in PACKED:
        path.write_bytes(content)
        sound.append(read_series(path))
    with bounded():
        for _ in range(share(WHOLE, 0.3 / PARTS)):
            number = draw.randrange(len(PACKED))
            path.write_bytes(damaged(draw, PACKED[number]))
            found = tried(lambda: read(path, draw), tmp_path)
            if not isinstance(found, str):
                check_volumes(found, tmp_path)
                assert same(found, sound[number])


@pytest.mark.parametrize("part", range(PARTS))
def test_the_json_beside_a_scan(tmp_path, part):
    draw, path = random.Random(f"json {part}"), tmp_path / "in_T1w.nii"
    path.write_bytes(SCANS[0])
    (expected,) = read_series(path)
    with bounded():
        for _ in range(share(WHOLE, 0.1 / PARTS)):
            content, at = damaged(draw, SIDECAR), draw.randrange(len(SIDECAR))
            if draw.random() < 0.2:
                content = SIDECAR[:at] + draw.choice(_JSON) + SIDECAR[at:]
            elif draw.random() < 0.2:
                content = draw.choice(_JSON)
            (tmp_path / "in_T1w.json").write_bytes(content)
            (found,) = tried(lambda: read_series(path), tmp_path)
            assert np.array_equal(found.array, expected.array)
            check_volumes((found,), tmp_path)


def test_what_is_sound_is_read(tmp_path):
    """Else nothing of the above would say much."""
    for number, content in enumerate(SCANS):
        path = tmp_path / f"{number}.nii"
        path.write_bytes(content)
        packed = tmp_path / f"{number}.nii.gz"
        packed.write_bytes(PACKED[number])
        assert same(read_series(path), read_series(packed))
        assert {finding.code for finding in reading_findings(read_series(path)[0])} <= {"place-not-stated"}
