"""Features of scans, of parts of them, and of what is no such scan: one line of JSON each.

    python -m benchmarks.evidence.rows ../shared/data UNPACKED rows.jsonl

In UNPACKED are DICOM series, each archive in a folder of its name, and pyradiomics' source distribution.

Subjects are of one split: with ``fit`` weights and limits are set, and ``test`` is counted. Whoever a shipped
model was trained on is of ``fit``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from scipy.ndimage import gaussian_filter

import medrestore
from benchmarks.evidence import inputs
from benchmarks.evidence.inputs import Scan
from benchmarks.evidence.packed import CRANIUM, unpacked
from medrestore.engine.models.content import check_content
from medrestore.engine.models.domain import refusing
from medrestore.engine.models.features import scan_features
from medrestore.engine.models.find import find_model
from medrestore.engine.models.recognise import FEWEST_SLICES, LEAST_SIDE
from medrestore.geometry import Geometry
from medrestore.noise.intensity import bright_level
from medrestore.options import ReadPolicy, RestoreOptions
from medrestore.physics.mr_noise import add_rician
from medrestore.plugin.spec import DOMAINS
from medrestore.training import anatomy
from medrestore.training.contrast import random_bias_field
from medrestore.types import Modality
from medrestore.volume import Volume

TEMPLATES = Path("/usr/share/mricron/templates")
RESAMPLED = ReadPolicy(on_tilt="resample", on_nonuniform="resample")
PIECES = 2  # of a scan in larger voxels, whose parts are as common as the whole
HALVED = 400  # pixels across from which a CT is averaged over 2 x 2 pixels, for time's sake


@dataclass(frozen=True)
class Row:
    """The features of one input.

    Attributes:
        truth: Its domain, or ``"neither"``.
        kind: What was made of the scan; ``"scan"`` for nothing.
        part: ``"whole"``, ``"crop"`` or ``"slab"``.
        subject: Of the scan.
        split: ``"fit"`` or ``"test"``.
        features: By name.
        codes: Findings of the rules, by the domain that it is given as.
    """

    truth: str
    kind: str
    part: str
    subject: str
    split: str
    features: dict[str, float]
    codes: dict[str, list[str]]


@dataclass(frozen=True)
class Subject:
    """A scan of somebody: name, split, where it is, and the domain."""

    name: str
    split: str
    domain: str
    path: Path
    series: str | None = None

    def load(self) -> Scan:
        """Return the first volume; a large CT averaged to half as many pixels."""
        volume = self._read()
        array, grid = np.asarray(volume.array), volume.geometry
        if self.domain != "ct" or array.shape[0] < HALVED:
            return array, grid
        x, y, z = array.shape[0] // 2, array.shape[1] // 2, array.shape[2]
        halved = array[: 2 * x, : 2 * y].reshape(x, 2, y, 2, z).mean((1, 3), dtype=np.float32)
        affine = grid.affine.copy()
        affine[:3, :2] *= 2
        return halved, Geometry(halved.shape, affine)

    def _read(self) -> Volume:
        if self.path.suffix == ".inv3":
            return unpacked(self.path)
        if self.path.suffix == ".nrrd":
            return Volume.from_sitk(SimpleITK.ReadImage(str(self.path)), DOMAINS[self.domain])
        return medrestore.read_series(self.path, policy=RESAMPLED, series=self.series)[0]


def subjects(data: Path, dicom: Path) -> Iterator[Subject]:
    """Yield the scans of the shared folder, of the folder of what was unpacked, and the heads of Debian."""
    mr = data / "mr"
    alone = ("studyforrest_t1w", "uih_head_t1w_1mm", "niimath_brain_t1w_0p8mm", "pycortex_head_t1w_1mm")
    for name in (*alone, "niivue_head_t1w_1mm", "niivue_brain_t2w_1mm", "tcga_brain1_axial"):
        yield Subject(name, "fit", "mr-head", mr / f"{name}.nii.gz")
    for path in sorted((mr / "ds002748").glob("*.nii.gz")):
        yield Subject(path.name[:6], "test" if path.name >= "sub-22" else "fit", "mr-head", path)
    for path in sorted((mr / "open_ms").glob("*.nii.gz")):
        yield Subject(path.name[5:14], "test" if "patient12" in path.name else "fit", "mr-head", path)
    yield Subject("mr_t1w_sagittal", "fit", "mr-head", dicom / "mr_t1w_sagittal")
    for path in sorted((mr / "ds000011").glob("*.nii.gz")):
        yield Subject(f"ds000011/{path.name[:6]}", "test", "mr-head", path)
    for name in ("tcga_brain2_axial", "niivue_head_t2w_2mm"):
        yield Subject(name, "test", "mr-head", mr / f"{name}.nii.gz")
    for name in ("ch2", "ch2bet"):
        yield Subject("colin27", "test", "mr-head", TEMPLATES / f"{name}.nii.gz")
    for name in ("HFS", "HFP"):
        yield Subject("qa_decubitus", "test", "mr-head", dicom / "qa_decubitus/qa_decubitus/In" / name)
    yield from _in_ct(data / "ct", dicom)


def _in_ct(ct: Path, dicom: Path) -> Iterator[Subject]:
    yield Subject("ct_chest", "fit", "ct", dicom / "ct_chest")
    for name in ("acrin_petct_body", "cmb_chest_lung_kernel"):
        yield Subject(name, "fit", "ct", ct / f"{name}.nii.gz")
    yield Subject("totalseg_torso", "test", "ct", ct / "totalseg_torso_1p5mm.nii.gz")
    for series in ("1", "2"):
        yield Subject("qa_ct_tilt", "test", "ct", dicom / "qa_ct_tilt/qa_ct_tilt/In/GE", series)
    yield Subject("InVesalius cranium", "fit", "ct", CRANIUM)
    for name in ("lung1", "lung2"):
        yield Subject(f"pyradiomics {name}", "fit", "ct", dicom / f"pyradiomics-3.1.0/data/{name}_image.nrrd")


def source_of(subject: str) -> str:
    """Return where a subject comes from: people of one data set were scanned alike, and count as one."""
    for prefix, name in (("sub-", "ds002748"), ("patient", "open_ms"), ("computed body", "computed bodies")):
        if subject.startswith(prefix):
            return name
    return subject


def computed(labels: Path) -> Iterator[tuple[str, Scan]]:
    """Yield computed bodies and heads in HU, of which those that are fitted with are made."""
    rng = np.random.default_rng(3)
    made = [(f"computed body {number}", anatomy.torso(rng)) for number in range(8)]
    for number in range(1, 5):
        maps = np.asarray(medrestore.read(labels / f"head{number}_labels.nii.gz").array).astype(int)
        made.append((f"computed head {number}", anatomy.head(maps, rng)))
    for name, phantom in made:
        yield name, (phantom.hu, Geometry(phantom.hu.shape, np.diag([*phantom.spacing, 1.0])))


def computed_mr(labels: Path) -> Iterator[tuple[str, Scan]]:
    """Yield heads of random contrast, made of label maps as patches for training are."""
    rng = np.random.default_rng(4)
    for number in (1, 2, 3):
        volume = medrestore.read(labels / f"head{number}_labels.nii.gz")
        maps = np.asarray(volume.array).astype(int)
        for draw in range(4):
            means = rng.uniform(0.15, 1, maps.max() + 1).astype(np.float32)
            spread = rng.uniform(0, 0.06, maps.max() + 1).astype(np.float32)
            means[0] = spread[0] = 0
            texture = rng.standard_normal(maps.shape, dtype=np.float32)
            image = gaussian_filter(means[maps] + spread[maps] * texture, rng.uniform(0.3, 0.7))
            image = 1000 * np.maximum(image, 0) * random_bias_field(image.shape, rng)
            sigma = np.float32(rng.uniform(0.005, 0.05) * bright_level(image))
            yield f"computed MR head {number}.{draw}", (add_rician(image, sigma, rng), volume.geometry)


def other_objects(data: Path, dicom: Path) -> Iterator[tuple[str, str, Scan]]:
    """Yield MR scans that are of no head, each with what it is and its name."""
    for folder in ("spine", "fetal_stacks"):
        for path in sorted((data / "mr" / folder).glob("*.nii.gz")):
            volume = medrestore.read(path)
            yield "another organ", f"{folder}/{path.name}", (np.asarray(volume.array), volume.geometry)
    volume = medrestore.read(dicom / "qa_frag/qa_frag/In")
    yield "a phantom", "qa_frag", (np.asarray(volume.array), volume.geometry)


class Rows:
    """Makes rows, and writes each to a file as soon as it is there.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._out = path.open("w")
        options = {name: RestoreOptions(model=f"{name[:2]}-denoise") for name in DOMAINS}
        self._specs = {name: find_model(options[name], Modality.UNKNOWN)[1] for name in DOMAINS}

    def put(self, truth: str, kind: str, part: str, who: tuple[str, str], scan: Scan) -> None:
        """Add a row; what is too small for features is passed over.

        Args:
            truth: See `Row`.
            kind: See `Row`.
            part: See `Row`.
            who: Subject and split.
            scan: The input.
        """
        sides = sorted(scan[0].shape)
        if sides[0] < FEWEST_SLICES or sides[1] < LEAST_SIDE:
            return
        codes = {name: self._codes(Volume(*scan, DOMAINS[name]), name) for name in DOMAINS}
        row = Row(truth, kind, part, *who, scan_features(*scan), codes)
        self._out.write(json.dumps(asdict(row)) + "\n")
        self._out.flush()

    def _codes(self, volume: Volume, domain: str) -> list[str]:
        """Return the codes of the rules that a scan breaks, given to a model of a domain."""
        found = check_content(volume, self._specs[domain])
        broken = refusing(volume, self._specs[domain], found)
        return sorted({one.code for one in (*found, *broken)})

    def of_scan(self, scan: Scan, domain: str, who: tuple[str, str], rng: np.random.Generator) -> None:
        """Add a scan whole, in part and acquired otherwise, and what is no scan, made of it."""
        modality, split = DOMAINS[domain].value, who[1]
        pieces = list(inputs.parts(scan, rng))
        for part, piece in pieces:
            self.put(domain, "scan", part, who, piece)
        for kind, change in inputs.SAME[modality].items():
            for part, piece in (pieces[0], pieces[int(rng.integers(len(pieces)))]):
                self.put(domain, kind, part, who, change(piece, rng))
        for kind, change in inputs.changes(modality, split).items():
            # Of many alike that weights are fitted with, some will do.
            if split == "fit" and rng.random() < (0.5 if kind in inputs.LIES else 0.2):
                continue
            self.put("neither", kind, "whole", who, change(scan, rng))
            if kind not in inputs.LIES and "pictures" not in kind:
                part, piece = pieces[int(rng.integers(len(pieces)))]
                self.put("neither", kind, part, who, change(piece, rng))
        if modality == "CT":
            for part, piece in pieces:
                self.put("neither", "a body, as MR", part, who, inputs.as_mr_of_a_body(piece, rng))

    def of_thick(self, scan: Scan, domain: str, who: tuple[str, str], rng: np.random.Generator) -> None:
        """Add crops of the scan as one of thick slices, as clinical scans are, and it in larger voxels."""
        for number, (part, piece) in enumerate(inputs.parts(inputs.thick(scan, rng), rng)):
            if part == "crop":
                self.put(domain, "thick slices, cut", part, who, piece)
            if number == inputs.CROPS:
                break
        larger = [inputs.coarser(scan, rng) for _ in range(2)]
        for one in larger:
            self.put(domain, "larger voxels", "whole", who, one)
            _, *pieces = inputs.parts(one, rng)
            for number in rng.permutation(len(pieces))[:PIECES]:
                self.put(domain, "larger voxels, cut", pieces[number][0], who, pieces[number][1])


def main(data: Path, dicom: Path, path: Path) -> None:
    """Make all rows."""
    rows = Rows(path)
    for number, one in enumerate(subjects(data, dicom)):
        print(one.name, file=sys.stderr, flush=True)
        scan, who = one.load(), (one.name, one.split)
        rows.of_scan(scan, one.domain, who, np.random.default_rng([7, number]))
        rows.of_thick(scan, one.domain, who, np.random.default_rng([11, number]))
    for number, (name, scan) in enumerate(computed(data / "labels")):
        rows.of_scan(scan, "ct", (name, "fit"), np.random.default_rng([8, number]))
    for number, (name, scan) in enumerate(computed_mr(data / "labels")):
        for part, piece in inputs.parts(scan, np.random.default_rng([10, number])):
            rows.put("mr-head", "computed", part, (name.partition(".")[0], "fit"), piece)
    for number, (kind, name, scan) in enumerate(other_objects(data, dicom)):
        for part, piece in inputs.parts(scan, np.random.default_rng([9, number])):
            rows.put("neither", kind, part, (name, "test"), piece)
    for labels in (*sorted((data / "labels").glob("*.nii.gz")), TEMPLATES / "aal.nii.gz"):
        volume = medrestore.read(labels)
        array, grid = np.asarray(volume.array), volume.geometry
        who = (labels.name, "fit" if "head" < labels.name < "head4" else "test")
        rows.put("neither", "labels", "whole", who, (array, grid))
        rows.put("neither", "a mask", "whole", who, ((array > 0).astype(np.float32), grid))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
