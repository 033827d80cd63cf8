"""NIfTI files for tests, sound and broken ones."""

from __future__ import annotations

import struct

import nibabel as nib
import numpy as np

KINDS = {1: nib.Nifti1Image, 2: nib.Nifti2Image}


def affine_of(degrees, spacing, origin, permutation=(0, 1, 2)) -> np.ndarray:
    matrix = nib.eulerangles.euler2mat(*np.deg2rad(degrees))[:, list(permutation)]
    return nib.affines.from_matvec(matrix * spacing, origin)


AFFINES = {
    "plain": affine_of((0, 0, 0), (1, 1, 1), (-90, -126, -72)),
    "flipped": affine_of((0, 0, 0), (-1, -1, 1), (90, 126, -72)),
    "left-handed": affine_of((0, 0, 0), (-0.7, 0.7, 0.7), (95.3, -120.1, -60.9)),
    "anisotropic": affine_of((0, 0, 0), (0.45, 0.45, 6.5), (-113.2, 80.4, -33.7)),
    "sagittal": affine_of((0, 0, 0), (0.9, -0.86, 0.86), (-80, 110, -140), (2, 0, 1)),
    "oblique": affine_of((20, -15, 40), (0.7, 0.8, 3.0), (-91.23, 12.57, 33.01)),
    # Half turns: the quaternion of the qform is at its least precise here.
    "nearly upside down": affine_of((179.3, 0.5, -0.4), (1.0, 1.1, 0.9), (-127.7, 131.3, 120.9)),
    "oblique flipped": affine_of((-35, 70, 170), (-0.5, 0.6, -2.2), (110.1, -95.5, 210.3)),
    "sheared": affine_of((10, 5, 0), (1, 1, 2), (3, 4, 5))
    @ (np.eye(4) + np.eye(4)[[0]].T @ np.eye(4)[[2]] * 0.2),
}


def ramp(shape=(6, 7, 8), dtype="float32") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(path, data, affine=None, version=1, **header) -> None:
    image = KINDS[version](data, AFFINES["oblique"] if affine is None else affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)


def patched(path, offset: int, form: str, *values) -> None:
    """Overwrite header bytes of an uncompressed file."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)


def orient(path, sform_code, qform_code) -> tuple[np.ndarray, np.ndarray]:
    image = nib.Nifti1Image(ramp(), None)
    image.header.set_data_shape(ramp().shape)
    image.header.set_qform(AFFINES["anisotropic"], code=qform_code)
    image.header.set_sform(AFFINES["oblique"], code=sform_code)
    with path.open("wb") as file:
        image.header.write_to(file)
        file.write(ramp().tobytes(order="F"))
    return AFFINES["oblique"], AFFINES["anisotropic"]
