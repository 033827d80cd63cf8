"""Restorations that a verdict is tried on: scans with noise of their own or simulated, and thick slices.

Limits are set on some subjects and reported on others. A restoration is kept in a folder, so that trying
other statistics on it takes no network.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import medrestore
from benchmarks.ct.run import Truth, low_dose
from benchmarks.evidence import computed
from benchmarks.evidence.packed import CRANIUM, unpacked
from benchmarks.evidence.parts import boxes, cut
from benchmarks.harness.common import CH2, ROOT
from medrestore.noise.ct import estimate_ct_noise, without_padding
from medrestore.noise.intensity import bright_level
from medrestore.physics.mr_colour import COLOURS, simulate
from medrestore.physics.slices import SOFTNESS, SliceStack
from medrestore.training.ct_noise import unit_noise
from medrestore.training.recipe import CtOptions
from medrestore.types import Modality
from medrestore.volume import Volume

DATA = ROOT.parent / "shared" / "data"
SIDE, SLICES = 72, 24
"""Voxels along each axis of the parts of scans that are restored, and slices of a part of a CT scan."""

DS, OLD, MS = (
    "mr/ds002748/sub-{}_T1w.nii.gz",
    "mr/ds000011/sub-{}_T1w.nii.gz",
    "mr/open_ms/long_patient{}.nii.gz",
)
FINE = ("uih_head_t1w_1mm", "niivue_head_t1w_1mm", "niimath_brain_t1w_0p8mm")
SUBJECTS: dict[str, dict[str, tuple[str, ...]]] = {
    "MR denoise": {
        "limits": (
            *map(DS.format, ("22", "01", "07")),
            *map(OLD.format, ("01", "02", "03")),
            *map(MS.format, ("04_study1_T1W", "01_study1_FLAIR")),
            *(f"mr/{name}.nii.gz" for name in (*FINE, "niivue_brain_t2w_1mm", "tcga_brain1_axial")),
        ),
        "test": (
            str(CH2),
            *map(DS.format, ("23", "24")),
            *map(OLD.format, ("04", "05")),
            *map(MS.format, ("12_study2_T2W", "12_study2_FLAIR")),
            *(f"mr/{name}.nii.gz" for name in ("tcga_brain2_axial", "niivue_head_t2w_2mm")),
        ),
    },
    "CT denoise": {
        "limits": (
            "ct/acrin_petct_body.nii.gz",
            "ct/cmb_chest_lung_kernel.nii.gz",
            "body 1",
            "body 2",
            "head 1",
        ),
        "test": ("ct/totalseg_torso_1p5mm.nii.gz", "body 4711", "head 5"),
    },
    "MR superres": {
        "limits": (*(f"mr/{name}.nii.gz" for name in FINE), *map(OLD.format, ("01", "02", "03"))),
        "test": (str(CH2), *map(OLD.format, ("04", "05")), "mr/niivue_brain_t2w_1mm.nii.gz"),
    },
    "CT superres": {
        "limits": (),  # it is judged by those of MR
        "test": (
            *("ct/totalseg_torso_1p5mm.nii.gz", str(CRANIUM)),
            *("body 2", "body 3", "body 4711", "brain 4711", "corner 4711"),
        ),
    },
}
"""By task the subjects that limits are set on, and those that they are reported on. Nobody is in both."""

MR_NOISE = (
    ("own", 0.0),
    ("white", 0.02),
    ("fermi-0.75", 0.05),
    ("white", 0.1),
    ("filled-1.5", 0.03),
    ("band-0.8", 0.08),
)
"""Colours, and levels as fractions of the bright level."""

CT_NOISE = (("own", 1.0), ("soft", 0.5), ("sharp", 0.2))
"""Kernels, and doses as fractions of the full one."""

SLICED = (
    (2, "boxcar", "white", 0.0),
    (4, "boxcar", "white", 0.0),
    (6, "boxcar", "white", 0.02),
    (3, "gaussian", "white", 0.0),
    (4, "slr", "white", 0.03),
    (3, "boxcar", "filled-1.5", 0.05),
    (5, "boxcar", "hann", 0.08),
    (2, "gaussian", "white", 0.1),
)
"""Factors, profiles, colours in the plane of the slices, and levels as fractions of the bright level."""

SLICED_CT = (
    (2, "boxcar", "soft", 0.0),
    (4, "boxcar", "soft", 0.0),
    (6, "boxcar", "standard", 0.02),
    (3, "gaussian", "soft", 0.0),
    (4, "slr", "soft", 0.03),
    (3, "boxcar", "sharp", 0.05),
    (5, "boxcar", "standard", 0.08),
    (2, "gaussian", "sharp", 0.1),
)
"""The same of CT: kernels of the noise of a low dose, and levels as fractions of the attenuation of water."""

THICKEST = {Modality.MR: 7.0, Modality.CT: 5.0}
"""Distance in mm of slices that are cleaned before they are resolved: others with noise get no verdict."""


@dataclass(frozen=True)
class Case:
    """A scan to restore.

    Attributes:
        name: Of the subject, of the part and of the noise.
        subject: Whom it shows.
        task: Key of `SUBJECTS`.
        scan: The part of the scan.
    """

    name: str
    subject: str
    task: str
    scan: Volume


def cases(task: str, role: str) -> Iterator[Case]:
    """Yield the cases of a task: ``"limits"`` or ``"test"``."""
    made = {"MR denoise": _noisy_mr, "CT denoise": _noisy_ct, "MR superres": _sliced, "CT superres": _sliced}
    for subject in SUBJECTS[task][role]:
        short = Path(subject).name.partition(".")[0]
        short = short if "sub-" not in short else f"{Path(subject).parent.name} {short}"
        for name, scan in made[task](load(subject), np.random.default_rng(zlib.crc32(subject.encode()))):
            yield Case(f"{short}, {name}", short, task, scan)


def load(subject: str) -> Volume:
    """Read a scan, or compute the one of a seed: a body, a head of a label map or of Colin27, a corner."""
    kind, _, seed = subject.partition(" ")
    if not seed:
        packed = Path(subject).suffix in {".xz", ".inv3"}
        volume = (unpacked if packed else medrestore.read)(DATA / subject)
        array = (
            without_padding(volume.array) if volume.modality is Modality.CT or subject[:2] == "ct" else None
        )
        if array is None:
            return Volume.from_array(volume.array, volume.geometry.affine, modality=Modality.MR)
        return Volume.from_array(array, volume.geometry.affine, modality=Modality.CT)
    if kind == "body":
        return computed.body(int(seed))
    if kind == "corner":
        return computed.corner(int(seed))
    return computed.head(computed.BRAIN if kind == "brain" else computed.label_map(int(seed)), int(seed))


def _noisy_mr(volume: Volume, rng: np.random.Generator) -> Iterator[tuple[str, Volume]]:
    level = bright_level(volume.array)
    parts = boxes(volume, (SIDE,) * 3, 2)
    for number, (colour, share) in enumerate(MR_NOISE):
        noisy = (
            volume.array
            if colour == "own"
            else simulate(volume.array, COLOURS[colour], share * level, rng).noisy
        )
        part = number % 2 if colour != "own" else slice(None)
        for at, box in enumerate(parts if colour == "own" else [parts[part]]):
            yield f"{colour} {share:.0%}, part {at if colour == 'own' else part}", cut(volume, noisy, box)


def _noisy_ct(volume: Volume, rng: np.random.Generator) -> Iterator[tuple[str, Volume]]:
    middle = volume.shape[2] // 2
    slab = (slice(None), slice(None), slice(max(middle - SLICES // 2, 0), middle + SLICES // 2))
    volume = cut(volume, volume.array, slab)
    own = estimate_ct_noise(volume.array)
    own = own if own > 1.5 else 0.0
    truth = Truth("", volume.array, tuple(map(float, volume.spacing)), own)
    for kernel, dose in CT_NOISE:
        if kernel == "own" and not own:
            continue
        noise = 0.0 if kernel == "own" else low_dose(truth, dose, kernel, own or 12.0)[0]
        for at, box in enumerate(boxes(volume, (96, 96, SLICES), 2)):
            yield f"{kernel} {dose:.0%}, part {at}", cut(volume, volume.array + noise, box)


def _sliced(volume: Volume, rng: np.random.Generator) -> Iterator[tuple[str, Volume]]:
    is_ct = volume.modality is Modality.CT
    parts = boxes(volume, (80, 80, 48 if is_ct else 72), 2)
    kinds = SLICED_CT if is_ct else SLICED
    for number, (factor, profile, colour, share) in enumerate(kinds):
        at = number % 2
        x, y, z = parts[at]
        fine = cut(volume, volume.array, (x, y, z))
        planes = fine.shape[2] // factor * factor
        stack = SliceStack(planes, planes // factor, factor, factor, SOFTNESS[profile], (factor - 1) / 2)
        affine = fine.geometry.affine.copy()
        affine[:3, 3] += affine[:3, 2] * (factor - 1) / 2
        affine[:3, 2] *= factor
        # A slice is measured whole, and cut afterwards: its window in k-space would wrap what is cut.
        slices = stack.forward(volume.array[:, :, z.start : z.start + planes])
        if share and is_ct:
            slices = slices + 1000 * np.float32(share) * _ct_noise(slices, fine.spacing, colour, rng)
        elif share:
            slices = simulate(slices, COLOURS[colour], share * bright_level(slices), rng).noisy
        if factor * fine.spacing[2] > THICKEST[volume.modality]:
            continue
        scan = Volume.from_array(
            np.ascontiguousarray(slices[x, y], np.float32), affine, modality=fine.modality
        )
        yield f"x{factor} {profile}, {colour} noise {share:.0%}, part {at}", scan


def _ct_noise(
    slices: np.ndarray, spacing: tuple[float, ...], kernel: str, rng: np.random.Generator
) -> np.ndarray:
    """Return noise of a low dose, of unit deviation in the soft tissue of slices in HU."""
    return unit_noise(slices / np.float32(1000) + 1, spacing, CtOptions(kernels=(kernel,)), rng)[0]
