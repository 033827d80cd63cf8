"""CT scans that come packed: the slices of a DICOM series in an archive, a project of InVesalius.

What DICOM says of geometry beyond distances is not kept: benchmarks need voxels and their sizes.
"""

from __future__ import annotations

import plistlib
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np

from medrestore.types import Modality
from medrestore.volume import Volume

CRANIUM = Path("/usr/share/doc/invesalius-examples/examples/Cranium.inv3")
"""CT of an adult head, 0.96 x 0.96 x 1.5 mm: `apt-get install invesalius-examples` (Debian, GPL-2)."""


def unpacked(path: Path) -> Volume:
    """Read a packed scan.

    Args:
        path: A project of InVesalius (``.inv3``), or an archive whose longest DICOM series is read.
    """
    return _project(path) if path.suffix == ".inv3" else _series(path)


def _project(path: Path) -> Volume:
    """Read what InVesalius saved: voxels as (Z, Y, X) in HU, from foot to head, from back to front."""
    with tarfile.open(path) as archive:
        files = {PurePosixPath(name).name: archive.extractfile(name) for name in archive.getnames()}
        about = plistlib.load(files["main.plist"])
        matrix = about["matrix"]
        voxels = np.frombuffer(files[matrix["filename"]].read(), matrix["dtype"]).reshape(matrix["shape"])
    affine = np.diag([*map(float, about["spacing"]), 1.0])
    return Volume.from_array(np.ascontiguousarray(voxels.T, np.float32), affine, Modality.CT)


def _series(path: Path) -> Volume:
    """Read the slices of the longest CT series of an archive, in the order of their places."""
    import pydicom  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        found = map(_dicom, sorted(file for file in Path(folder).rglob("*") if file.is_file()))
        slices = [one for one in found if one is not None]
        names = [one.SeriesInstanceUID for one in slices]
        largest = max(set(names), key=names.count)
        slices = sorted(
            (one for one in slices if one.SeriesInstanceUID == largest),
            key=lambda one: float(one.ImagePositionPatient[2]),
        )
        planes = [pydicom.pixels.apply_modality_lut(one.pixel_array, one).T for one in slices]
        thick = float(slices[1].ImagePositionPatient[2] - slices[0].ImagePositionPatient[2])
        spacing = [float(size) for size in slices[0].PixelSpacing][::-1]
    return Volume.from_array(
        np.stack(planes, axis=-1).astype(np.float32), np.diag([*spacing, thick, 1.0]), Modality.CT
    )


def _dicom(path: Path):  # type: ignore[no-untyped-def]
    import pydicom  # noqa: PLC0415

    try:
        found = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError:
        return None
    return found if "PixelData" in found else None
