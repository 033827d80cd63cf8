"""The truths that intervals are fitted to, calibrated on and tested on: crops of public scans, by subject.

Scans with visible noise of their own are averaged over blocks of voxels first, since that noise would count
as error; for slices, which must not be averaged, it is taken out by the denoiser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import medrestore
from benchmarks.evidence import computed
from benchmarks.evidence.packed import CRANIUM, unpacked
from benchmarks.evidence.parts import boxes, cut
from benchmarks.harness.common import CH2, ROOT, UNSEEN
from medrestore.geometry import Geometry
from medrestore.physics.kspace import crop_band
from medrestore.types import Modality, Task
from medrestore.volume import Volume

DATA = ROOT.parent / "shared" / "data"
ICBM = Path("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
"""The template in the package nilearn, looked for below the folder given with --nilearn."""

SIDES = {Modality.MR: (64, 72, 56), Modality.CT: (96, 96, 32)}
PARTS, PART = 3, (80, 80, 48)
"""How many parts of a scan slices of CT are made of, and their sides: its middle holds no air and no skin."""
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
        computed: How CT anatomy is computed: "body"; "head" around the brain of `path`, a label map or a scan
            without its skull; "corner" of a head that is drawn. Empty for a scan.
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
    return Truth(f"computed head {label}", computed.label_map(label), computed="head", seed=seed)


def _corner(seed: int) -> Truth:
    return Truth(f"drawn head {seed}", computed="corner", seed=seed)


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
            *map(_body, (2, 3, 263, 272)),  # all bodies of 1.25 mm: thicker slices are no truth
            *(_head(label, 1) for label in (1, 2)),
        ),
        # No label maps below: the weights have seen all of them, if in other contrast.
        "held-out": (
            Truth("InVesalius cranium", CRANIUM, denoised=True),
            *map(_body, (211, 239)),
            Truth("computed head ICBM152", ICBM, computed="head", seed=1),
            _corner(11),
        ),
        "test": (
            Truth("TotalSegmentator torso", "ct/totalseg_torso_1p5mm.nii.gz", denoised=True),
            *map(_body, (UNSEEN, UNSEEN + 3)),
            Truth("computed head Colin27", computed.BRAIN, computed="head", seed=UNSEEN),
            _corner(UNSEEN),
        ),
    },
}


def truths(model: str, part: str, nilearn: Path) -> Iterator[tuple[str, int, Volume]]:
    """Yield the subject of each truth of a model, how many it has given before, and the truth.

    Scans that are not here are told and left out.

    Args:
        model: Name of a shipped model.
        part: One of `SETS`.
        nilearn: Folder that the package nilearn was unpacked into.
    """
    given = Counter[str]()
    for one in TRUTHS[model][part]:
        modality = Modality.CT if model.startswith("ct") else Modality.MR
        path = _path(one, nilearn)
        if one.path and not path.exists():
            print(f"{one.subject} is not here and is left out", flush=True)
            continue
        volume = _computed(one, path) if one.computed else _read(path)
        volume = Volume.from_array(*_averaged(volume, one), modality)
        sliced = model == "ct-superres"
        for piece in _parts(volume) if sliced else [cropped(volume, SIDES[modality])]:
            yield one.subject, given[one.subject], _denoised(piece) if one.denoised else piece
            given[one.subject] += 1


def _parts(volume: Volume) -> list[Volume]:
    sides = tuple(min(side, extent) for side, extent in zip(PART, volume.shape, strict=True))
    return [cut(volume, volume.array, box) for box in boxes(volume, sides, PARTS)]


def _denoised(part: Volume) -> Volume:
    """Take the noise out of a truth; it is forced, as a part may not look like a scan."""
    return medrestore.restore(part, medrestore.RestoreOptions(task=Task.DENOISE, force=True)).volume


def _computed(one: Truth, path: Path) -> Volume:
    if one.computed == "head":
        return computed.head(path, one.seed)
    return (computed.body if one.computed == "body" else computed.corner)(one.seed)


def _path(one: Truth, nilearn: Path) -> Path:
    return nilearn / one.path if one.path == ICBM else DATA / one.path


def _read(path: Path) -> Volume:
    return unpacked(path) if path.suffix in {".xz", ".inv3"} else medrestore.read(path)


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
