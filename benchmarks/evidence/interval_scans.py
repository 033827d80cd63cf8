"""The truths that intervals are fitted to, calibrated on and tested on: crops of public scans, by subject.

Scans with visible noise of their own are averaged over blocks of voxels first, since that noise would count
as error; for slices, which must not be averaged, it is taken out by the denoiser.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import medrestore
from benchmarks.harness.common import CH2, ROOT, UNSEEN
from medrestore.geometry import Geometry
from medrestore.physics.kspace import crop_band
from medrestore.training import anatomy
from medrestore.types import Modality, Task
from medrestore.volume import Volume

DATA = ROOT.parent / "shared" / "data"
ICBM = Path("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
"""The template in the package nilearn, looked for below the folder given with --nilearn."""

SIDES = {Modality.MR: (64, 72, 56), Modality.CT: (96, 96, 32)}
SETS = ("tune", "held-out", "test")


@dataclass(frozen=True)
class Truth:
    """Where a truth comes from.

    Attributes:
        subject: Whose scan it is.
        path: Below `DATA`, absolute, or empty for computed anatomy.
        blocks: Voxels averaged along each axis.
        band: Share of the frequencies along each axis that was measured: the rest is cropped first.
        denoised: Whether its own noise is taken out by the denoiser.
        computed: Computed anatomy: "body", or the label map of a head; empty for a scan.
        seed: Of the computed anatomy.
    """

    subject: str
    path: str | Path = ""
    blocks: tuple[int, int, int] = (1, 1, 1)
    band: tuple[float, float, float] | None = None
    denoised: bool = False
    computed: str = ""
    seed: int = 0


def _sub(number: int) -> Truth:
    return Truth(f"ds002748/sub-{number:02d}", f"mr/ds002748/sub-{number:02d}_T1w.nii.gz")


def _raw(number: int, **how: object) -> Truth:
    path = f"mr/ds000011/sub-{number:02d}_T1w.nii.gz"
    return Truth(f"ds000011/sub-{number:02d}", path, **how)  # type: ignore[arg-type]


def _body(seed: int) -> Truth:
    return Truth(f"computed body {seed}", computed="body", seed=seed)


def _head(label: int, seed: int) -> Truth:
    return Truth(f"computed head {label}", computed=f"labels/head{label}_labels.nii.gz", seed=seed)


HALF = (2, 2, 2)
PLANE = (2, 2, 1)
UIH, PYCORTEX = (
    Truth("uih", "mr/uih_head_t1w_1mm.nii.gz"),
    Truth("pycortex", "mr/pycortex_head_t1w_1mm.nii.gz"),
)
FORREST = Truth("studyforrest", "mr/studyforrest_t1w.nii.gz", HALF)
NIIMATH = Truth("niimath", "mr/niimath_brain_t1w_0p8mm.nii.gz")
NIIVUE, T2 = Truth("niivue", "mr/niivue_head_t1w_1mm.nii.gz"), Truth("t2", "mr/niivue_brain_t2w_1mm.nii.gz")
COLIN, TEMPLATE = Truth("Colin27", CH2), Truth("ICBM152", ICBM)
P12 = "mr/open_ms/long_patient12_study2_"

TRUTHS: dict[str, dict[str, tuple[Truth, ...]]] = {
    "mr-denoise": {
        "tune": (
            *map(_sub, (1, 7, 13)),
            *(UIH, FORREST, NIIMATH, PYCORTEX, NIIVUE, T2),
            Truth("open_ms/patient01", "mr/open_ms/long_patient01_study1_T2W.nii.gz", PLANE),
            Truth("open_ms/patient04", "mr/open_ms/long_patient04_study1_FLAIR.nii.gz", PLANE),
        ),
        "held-out": (
            _sub(22),
            *(_raw(number, blocks=HALF) for number in (1, 2, 3)),
            Truth("open_ms/patient12", f"{P12}T2W.nii.gz", PLANE),
            Truth("open_ms/patient12", f"{P12}FLAIR.nii.gz", PLANE),
            Truth("niivue T2 2 mm", "mr/niivue_head_t2w_2mm.nii.gz", band=(0.8, 0.8, 1)),
            TEMPLATE,
        ),
        "test": (
            COLIN,
            *map(_sub, (23, 24)),
            *(_raw(number, blocks=HALF) for number in (4, 5)),
            Truth("tcga_brain2", "mr/tcga_brain2_axial.nii.gz", PLANE),
        ),
    },
    "mr-superres": {
        "tune": (UIH, FORREST, NIIMATH, PYCORTEX, T2),
        "held-out": (*(_raw(number, denoised=True) for number in (1, 2, 3)), TEMPLATE, NIIVUE),
        "test": (COLIN, *(_raw(number, denoised=True) for number in (4, 5))),
    },
    "ct-denoise": {
        "tune": (
            Truth("LIDC chest", "dicom/ct_chest.tar.xz", (2, 2, 3)),
            Truth("ACRIN body", "ct/acrin_petct_body.nii.gz", PLANE),
            Truth("CMB chest", "ct/cmb_chest_lung_kernel.nii.gz", HALF),
            *map(_body, (1, 2)),
            *(_head(label, 1) for label in (1, 2)),
        ),
        "held-out": (
            Truth("dcm_qa_ct head", "dicom/qa_ct_tilt.tar.xz", PLANE),
            *map(_body, range(101, 106)),
        ),
        "test": (
            Truth("TotalSegmentator torso", "ct/totalseg_torso_1p5mm.nii.gz", HALF),
            _body(UNSEEN),
            _head(5, UNSEEN),
        ),
    },
    "ct-superres": {
        "tune": (
            Truth("LIDC chest", "dicom/ct_chest.tar.xz", denoised=True),
            *map(_body, (2, 3)),
            *(_head(label, 1) for label in (1, 2)),
        ),
        "held-out": tuple(map(_body, (211, 231, 233, 237, 239))),  # of 1.25 mm: thicker slices are no truth
        "test": (
            Truth("TotalSegmentator torso", "ct/totalseg_torso_1p5mm.nii.gz", denoised=True),
            *map(_body, (UNSEEN, UNSEEN + 3)),
        ),
    },
}


def truths(model: str, part: str, nilearn: Path) -> Iterator[tuple[str, Volume]]:
    """Yield the truths of a model, each with its subject; scans that are not here are told and left out.

    Args:
        model: Name of a shipped model.
        part: One of `SETS`.
        nilearn: Folder that the package nilearn was unpacked into.
    """
    for one in TRUTHS[model][part]:
        modality = Modality.CT if model.startswith("ct") else Modality.MR
        if not (one.computed or _path(one, nilearn).exists()):
            print(f"{one.subject} is not here and is left out", flush=True)
            continue
        volume = _computed(one) if one.computed else _read(_path(one, nilearn))
        volume = Volume.from_array(*_averaged(volume, one), modality)
        volume = cropped(volume, SIDES[modality])
        if one.denoised:
            volume = medrestore.restore(volume, medrestore.RestoreOptions(task=Task.DENOISE)).volume
        yield one.subject, volume


def _computed(one: Truth) -> Volume:
    rng = np.random.default_rng(one.seed)
    if one.computed == "body":
        made = anatomy.torso(rng)
    else:
        made = anatomy.head(medrestore.read(DATA / one.computed).array.astype(np.uint8), rng)
    return Volume.from_array(made.hu, np.diag([*made.spacing, 1.0]), modality=Modality.CT)


def _path(one: Truth, nilearn: Path) -> Path:
    return nilearn / one.path if one.path == ICBM else DATA / one.path


def _read(path: Path) -> Volume:
    return _archive(path) if path.name.endswith(".tar.xz") else medrestore.read(path)


def _archive(path: Path) -> Volume:
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


def _averaged(volume: Volume, one: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and affine after the band was cropped and blocks were averaged."""
    array, affine = np.asarray(volume.array, np.float32), np.array(volume.geometry.affine)
    if volume.modality is Modality.CT:
        array = np.maximum(array, -1024)
    if one.band is not None:
        sizes = [round(side * share / 2) * 2 for side, share in zip(array.shape, one.band, strict=True)]
        affine[:3, :3] *= np.array(array.shape) / sizes
        array = np.abs(crop_band(array, sizes))
    counts = [side // block for side, block in zip(array.shape, one.blocks, strict=True)]
    array = array[tuple(slice(count * block) for count, block in zip(counts, one.blocks, strict=True))]
    parts = [part for pair in zip(counts, one.blocks, strict=True) for part in pair]
    affine[:3, :3] *= one.blocks
    return array.reshape(parts).mean(axis=(1, 3, 5)), affine


def cropped(volume: Volume, sides: tuple[int, int, int]) -> Volume:
    """Cut a box out: the middle along the first and last axis, near the border along the second: some air."""
    box = []
    for axis, (side, extent) in enumerate(zip(sides, volume.shape, strict=True)):
        kept = min(side, extent)
        start = (extent - kept) // (5 if axis == 1 and volume.modality is Modality.MR else 2)
        box.append(slice(start, start + kept))
    geometry: Geometry = volume.geometry.cropped(box)
    array = np.ascontiguousarray(volume.array[tuple(box)])
    return Volume.from_array(array, geometry.affine, volume.modality)
