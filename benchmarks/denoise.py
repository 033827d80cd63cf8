"""Measure denoisers on the same noisy volumes: PSNR, SSIM, time and memory of each.

    python benchmarks/denoise.py                            # Colin27 of Debian's mricron-data, 3, 5, 10 %
    python benchmarks/denoise.py --volume scan.nii.gz --levels 5 --methods ours,nlm
    python benchmarks/denoise.py --quick                    # 64 voxels cubed from the middle: minutes

Each filter runs in a process of its own. Writes denoise.md, denoise.json and denoise.png (with -quick in the
name for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tables
from methods import METHODS

import medrestore
from medrestore.metrics import head_mask, psnr, reference_range, ssim_map
from medrestore.physics.noise import add_gaussian, add_rician
from medrestore.provenance import sha256_file

HERE = Path(__file__).resolve().parent
CH2 = Path("/usr/share/mricron/templates/ch2.nii.gz")
NO_CH2 = (
    f"{CH2} is not there. It is Colin27 from Debian: `apt-get install mricron-data`, or without installing "
    "`apt-get download mricron-data && dpkg -x mricron-data_*.deb mricron` and "
    "`--volume mricron/usr/share/mricron/templates/ch2.nii.gz`"
)
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

    def describe(self) -> dict[str, Any]:
        """All but the voxels, for the report."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "shape": list(self.voxels.shape),
            "spacing_mm": [round(float(n), 4) for n in np.linalg.norm(self.affine[:3, :3], axis=0)],
            "minimum": float(self.voxels.min()),
            "maximum": float(self.voxels.max()),
            "p99": self.p99,
            "data_range": self.data_range,
            "head_fraction": float(self.head.mean()),
            "crop": self.crop,
        }


def load_truth(path: Path, *, quick: bool) -> Truth:
    volume = medrestore.read(path)
    voxels = np.ascontiguousarray(volume.array, dtype=np.float32)
    affine, crop, head = volume.geometry.affine, "", head_mask(voxels)
    if quick:
        part = tuple(slice(max(0, (n - QUICK) // 2), max(0, (n - QUICK) // 2) + QUICK) for n in voxels.shape)
        affine = volume.geometry.cropped(part).affine
        voxels, head = np.ascontiguousarray(voxels[part]), head[part]
        crop = f"only the middle {QUICK} voxels of each axis"
    return Truth(
        name=path.name,
        sha256=sha256_file(path) if path.is_file() else volume.source.sha256,
        voxels=voxels,
        affine=np.asarray(affine),
        head=head,
        p99=float(np.percentile(voxels, 99)),
        data_range=reference_range(voxels),
        crop=crop,
    )


def add_noise(truth: Truth, level: float, noise: str, seed: int) -> tuple[np.ndarray, float]:
    """The noisy volume and its sigma; the draw depends on seed and level, not on what else is measured."""
    sigma = level / 100 * truth.p99
    rng = np.random.default_rng([seed, round(1000 * level)])
    add = add_rician if noise == "rician" else add_gaussian
    return add(truth.voxels, sigma, rng), sigma


def run_filter(
    method: str, truth: Truth, noisy: np.ndarray, sigma: float, args: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """Run one filter in a fresh process; return its volume and what it measured of itself."""
    scan = {"affine": truth.affine, "sigma": sigma, "rician": args.noise == "rician", "model": args.model}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, voxels=noisy, **scan)
        command = [sys.executable, str(HERE / "worker.py"), method, str(source), str(target)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
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


def measure(truth: Truth, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every filter at every level on one volume; a filter that fails leaves its reason and stops nothing."""
    runs = []
    for level in args.levels:
        noisy, sigma = add_noise(truth, level, args.noise, args.seed)
        for method in args.methods:
            run: dict[str, Any] = {"volume": truth.name, "level": level, "sigma": sigma, "method": method}
            run["title"] = METHODS[method].title
            try:
                image, measured = run_filter(method, truth, noisy, sigma, args)
                run |= measured | score(image, truth)
                print(
                    f"{truth.name} {level:g} % {run['title']}: {run['psnr_head']:.2f} dB, SSIM "
                    f"{run['ssim_head']:.4f} in the head, {run['filter_s']:.1f} s, {run['peak_mb']:.0f} MB",
                    flush=True,
                )
            except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                run["error"] = str(error)
                print(f"{truth.name} {level:g} % {run['title']}: {error}", file=sys.stderr, flush=True)
            runs.append(run)
    return runs


def describe_setup(args: argparse.Namespace, truths: list[Truth]) -> dict[str, Any]:
    chosen = {name: METHODS[name] for name in args.methods}
    names = [Path(path).name for path in args.volume]
    options = [
        "--levels",
        ",".join(f"{n:g}" for n in args.levels),
        "--noise",
        args.noise,
        "--seed",
        str(args.seed),
    ]
    quick = ["--quick"] if args.quick else []
    quick += ["--model", Path(args.model).name] if args.model else []
    volumes = [part for name in names for part in ("--volume", name)]
    return {
        "command": shlex.join(
            [
                "python",
                "benchmarks/denoise.py",
                *volumes,
                *options,
                "--methods",
                ",".join(args.methods),
                *quick,
            ]
        ),
        "date": datetime.now(UTC).date().isoformat(),
        "noise": args.noise,
        "seed": args.seed,
        "volumes": [truth.describe() for truth in truths],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
        "packages": _versions({m.package for m in chosen.values()} | {"torch", "monai", "numpy", "scipy"}),
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


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--volume", type=Path, action="append", help=f"clean volume, repeatable (default: {CH2})"
    )
    parser.add_argument(
        "--levels", default="3,5,10", help="sigma in %% of the 99th percentile (default: 3,5,10)"
    )
    parser.add_argument("--noise", choices=["rician", "gaussian"], default="rician")
    parser.add_argument(
        "--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)} (default: all)"
    )
    parser.add_argument(
        "--model", default="", help="model of medrestore, a name or a folder (default: its own)"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "benchmarks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"crop to {QUICK} voxels cubed")
    args = parser.parse_args(argv)
    args.levels = [float(level) for level in args.levels.split(",")]
    args.methods = args.methods.split(",")
    unknown = [name for name in args.methods if name not in METHODS]
    if unknown:
        parser.error(f"unknown methods {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if not args.volume:
        if not CH2.exists():
            parser.error(NO_CH2)
        args.volume = [CH2]
    if len({path.name for path in args.volume}) < len(args.volume):
        parser.error("two volumes have the same file name; tables are by name")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=args.quick) for path in args.volume]
    report = {
        "setup": describe_setup(args, truths),
        "runs": [run for t in truths for run in measure(t, args)],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    stem = "denoise-quick" if args.quick else "denoise"
    (args.out / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    tables.plot(report, args.out / f"{stem}.png")
    (args.out / f"{stem}.md").write_text(tables.markdown(report, f"{stem}.png"))


if __name__ == "__main__":
    main()
