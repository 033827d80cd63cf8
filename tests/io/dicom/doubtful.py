"""CT whose header leaves something open, and the codes of what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_series import dicom_errors, write_series
from test_dicom_write import record_of

from medrestore.io import plan_dicom, read_series, reading_findings, write_dicom


def codes(volume) -> list[str]:
    """Codes of what is said of how a scan was read; the plan says the same, but for what pixels tell."""
    found = [finding.code for finding in reading_findings(volume)]
    (series,) = plan_dicom(Path(volume.source.path)).series
    assert [note.code for note in series.notes] == [code for code in found if code != "padding-not-believed"]
    return found


def head_of_ct(seed: int = 0, noise: float = 10.0) -> np.ndarray:
    """A round head in air, HU, (slice, row, column), int16: 10 x 12 pixels for each of six slices."""
    hounsfield = np.full((6, 10, 12), -1000.0)
    hounsfield[:, 2:8, 2:10] = 40
    hounsfield[:, 2, 2:10] = 900
    return np.rint(hounsfield + np.random.default_rng(seed).normal(0, noise, hounsfield.shape)).astype(
        np.int16
    )


def ct(folder, stored, **attributes):
    """Write a CT of stored values; attributes replace or, when None, remove what is there."""

    def change(index, data):
        data.PixelRepresentation = int(stored.dtype.kind == "i")
        data.add_new("PixelData", "OW", stored[index].tobytes())
        for name, value in attributes.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)

    write_series(folder, "CT", change)


def rederived(volumes, out) -> None:
    """Write a derived series of volumes and check that it is in order, and read as it was written."""
    write_dicom(volumes, out, [record_of(volume) for volume in volumes])
    assert all(dicom_errors(path) == [] for path in out.iterdir())
    for volume, again in zip(volumes, read_series(out), strict=True):
        np.testing.assert_allclose(again.array, volume.array, atol=0.51)
        assert reading_findings(again) == ()
