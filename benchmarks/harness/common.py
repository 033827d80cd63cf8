"""What the benchmarks share: the clean volume, a method in a process of its own, scores, the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import medrestore
from medrestore.engine import RestoreOptions
from medrestore.engine.cost.calibration import calibration
from medrestore.engine.models.find import find_model
from medrestore.geometry import Geometry
from medrestore.metrics import head_mask, psnr, reference_range, ssim_map
from medrestore.provenance import sha256_file
from medrestore.training import anatomy
from medrestore.types import Modality, Task

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "benchmarks"
CH2 = Path("/usr/share/mricron/templates/ch2.nii.gz")
NO_CH2 = (
    f"{CH2} is not there. It is Colin27 from Debian: `apt-get install mricron-data`, or without installing "
    "`apt-get download mricron-data && dpkg -x mricron-data_*.deb mricron` and "
    "`--volume mricron/usr/share/mricron/templates/ch2.nii.gz`"
)
COMPUTED = Path("computed-body")
"""Stands for a CT that is computed, not read: free of noise, and no file."""
UNSEEN = 4711  # seed of anatomy that no training run computes
QUICK = 64
BORDER = 5  # voxels at the border that have no SSIM


@dataclass
class Truth:
    """A clean volume with what every measurement on it needs."""

    name: str
    sha256: str
    voxels: np.ndarray
    affine: np.ndarray
    head: np.ndarray
    p99: float
    data_range: float
    crop: str

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sizes, in mm."""
        return tuple(float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))

    def describe(self) -> dict[str, Any]:
        """All but the voxels, for the report."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "shape": list(self.voxels.shape),
            "spacing_mm": [round(n, 4) for n in self.spacing],
            "minimum": float(self.voxels.min()),
            "maximum": float(self.voxels.max()),
            "p99": self.p99,
            "data_range": self.data_range,
            "head_fraction": float(self.head.mean()),
            "crop": self.crop,
        }


CT_WINDOW = (-1000, 1000)  # HU; what is outside, padding and metal, would set the data range


def load_truth(path: Path, *, quick: bool, modality: str = "MR") -> Truth:
    """Read a clean volume; CT is given in HU + 1000, so that air is 0 as it is in MR."""
    volume = computed_body() if path == COMPUTED else medrestore.read(path)
    voxels = np.ascontiguousarray(volume.array, dtype=np.float32)
    if modality == "CT":
        voxels = voxels.clip(*CT_WINDOW) - CT_WINDOW[0]
    affine, crop, head = volume.geometry.affine, "", head_mask(voxels)
    if quick:
        part = middle_box(voxels.shape, (QUICK,) * 3)
        affine = volume.geometry.cropped(part).affine
        voxels, head = np.ascontiguousarray(voxels[part]), head[part]
        crop = f"only the middle {QUICK} voxels of each axis"
    return Truth(
        name=path.name,
        sha256=sha256_file(path) if path.is_file() else volume.source.sha256 or "",
        voxels=voxels,
        affine=np.asarray(affine),
        head=head,
        p99=float(np.percentile(voxels, 99)),
        data_range=reference_range(voxels),
        crop=crop,
    )


def computed_body() -> medrestore.Volume:
    """A body of CT, in HU, with no noise at all."""
    body = anatomy.torso(np.random.default_rng(UNSEEN))
    affine = np.diag([*body.spacing, 1.0])
    return medrestore.Volume.from_array(body.hu, affine, modality=medrestore.Modality.CT)


def middle_box(shape: tuple[int, ...], sides: tuple[int, ...], multiple: int = 1) -> tuple[slice, ...]:
    """Where the middle is: so many voxels of each axis, or what there is, in whole multiples."""
    kept = [min(side, n) // multiple * multiple for side, n in zip(sides, shape, strict=True)]
    return tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(shape, kept, strict=True))


def middle(truth: Truth, size: int, multiple: int = 1) -> Truth:
    """Cut the middle out: `size` voxels of each axis, or what there is, in whole multiples."""
    where = middle_box(truth.voxels.shape, (size,) * 3, multiple)
    return replace(
        truth,
        voxels=np.ascontiguousarray(truth.voxels[where]),
        head=truth.head[where],
        affine=Geometry(truth.voxels.shape, truth.affine).cropped(where).affine,
        crop=f"only the middle {size} voxels of each axis, percentile and range those of the whole volume",
    )


def run_method(task: str, method: str, scan: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Run one method in a fresh process; return its volume and what it measured of itself.

    `scan` has the fields of the `Scan` that the methods of the task take. What medrestore measures once on a
    machine, to foresee memory and time, it measures here: it is no part of a restoration.
    """
    if method.startswith("ours"):
        options = RestoreOptions(model=str(scan["model"]) or None, task=Task(task))
        calibration(options, Modality(scan.get("modality", Modality.MR)))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **scan)
        command = [sys.executable, "-m", "benchmarks.harness.worker", task, method, str(source), str(target)]
        # It finds what this process finds: the filters of a plugin that tests put on the path, say.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise RuntimeError(last[0])
        with np.load(target) as data:
            return data["voxels"], json.loads(str(data["measured"]))


def score(image: np.ndarray, truth: Truth) -> dict[str, float]:
    """PSNR and SSIM inside the head and overall; one SSIM map serves both."""
    similarity = ssim_map(image, truth.voxels, data_range=truth.data_range)
    inner = truth.head[(slice(BORDER, -BORDER),) * 3]
    return {
        "psnr_head": psnr(image, truth.voxels, data_range=truth.data_range, mask=truth.head),
        "ssim_head": float(np.mean(similarity[inner], dtype=np.float64)),
        "psnr_all": psnr(image, truth.voxels, data_range=truth.data_range),
        "ssim_all": float(np.mean(similarity, dtype=np.float64)),
    }


def weights(model: str, modality: str, *tasks: str) -> dict[str, str]:
    """SHA-256 of the weights that are measured, by the name of the model: a page is of them alone."""
    found: dict[str, str] = {}
    for task in tasks:
        ref, spec = find_model(RestoreOptions(model=model or None, task=Task(task)), Modality(modality))
        found[ref.name] = ref.sha256 or ""
        if spec.denoise_with is not None:
            found |= weights(spec.denoise_with, modality, Task.DENOISE)
    return found


def describe_machine(packages: set[str]) -> dict[str, Any]:
    """What a report says of where and when it was made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "packages": _versions(packages | {"torch", "monai", "numpy", "scipy"}),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _versions(packages: set[str]) -> dict[str, str]:
    found = {}
    for package in sorted(packages):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = medrestore.__version__ if package == "medrestore" else "not installed"
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def both_commands(before: str, now: str) -> str:
    """Return the commands that made a page of which part was made before, as code in Markdown; each once."""
    return "` and `".join(dict.fromkeys([*before.split("` and `"), now]))


def write_page(folder: Path, name: str, report: Mapping[str, Any], text: str, indent: int | None = 1) -> None:
    """Write a page, and beside it the figures that it was made of."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=indent) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")


def add_common_arguments(parser: argparse.ArgumentParser, *, model: bool = True) -> None:
    """Add the options that every benchmark has; `model` is for those that run one."""
    parser.add_argument(
        "--volume",
        type=Path,
        action="append",
        help=f"clean volume, repeatable (default: {CH2}; for CT {COMPUTED}, which is no file)",
    )
    if model:
        parser.add_argument(
            "--model", default="", help="model of medrestore, a name or a folder (default: its own)"
        )
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"crop to {QUICK} voxels cubed")


def add_modality_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of the benchmarks that measure either modality."""
    parser.add_argument("--modality", choices=("MR", "CT"), default="MR", help="of the volumes (default: MR)")


def report_stem(name: str, args: argparse.Namespace) -> str:
    """Name of the files of a report, without suffix: -ct for CT, -quick for --quick."""
    return name + ("-ct" if args.modality == "CT" else "") + ("-quick" if args.quick else "")


def check_volumes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Take the default volume where none is given, and refuse two of one name."""
    if not args.volume and getattr(args, "modality", "MR") == "CT":
        args.volume = [COMPUTED]
    if not args.volume:
        if not CH2.exists():
            parser.error(NO_CH2)
        args.volume = [CH2]
    if len({path.name for path in args.volume}) < len(args.volume):
        parser.error("two volumes have the same file name; tables are by name")
