"""Measure denoisers on simulated low-dose CT: soft-tissue window, bias in HU, noise spectrum, time.

    python -m benchmarks.ct.run                               # computed body and head, quarter and tenth dose
    python -m benchmarks.ct.run --volume ../shared/data/ct/totalseg_torso_1p5mm.nii.gz
    python -m benchmarks.ct.run --model runs/ct-denoise/model --methods noisy,ours,nlm --quick

A scan is taken to be of full dose: the noise that it has is measured, and the photons set to what gives it. A
lower dose adds the difference. Computed anatomy has no noise; there full dose is the noise given with --full.
Writes ct.md, ct.json, ct.png and ct-slices.png (ct-quick for --quick) to the folder given with --out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

import medrestore
from benchmarks.ct import tables as ct_tables
from benchmarks.ct.methods import METHODS, Scan
from benchmarks.harness.common import (
    DOCS,
    ROOT,
    UNSEEN,
    computed_body,
    describe_machine,
    middle_box,
    weights,
    write_page,
)
from benchmarks.harness.pictures import Row, side_by_side
from medrestore.engine.cost.calibration import calibration
from medrestore.metrics import psnr, ssim_map
from medrestore.noise.ct import estimate_ct_noise, without_padding
from medrestore.physics.ct_noise import Beam, Dose, low_dose_noise
from medrestore.physics.ct_reconstruction import KERNELS, Grid
from medrestore.training import anatomy
from medrestore.training.ct_noise import tissue_level

LABELS = ROOT.parent / "shared" / "data" / "labels" / "head5_labels.nii.gz"
WINDOW = (-160.0, 240.0)
TISSUES = {"air": (-1100, -950), "fat": (-130, -70), "soft tissue": (0, 100), "bone": (250, 2000)}
BODY = -500.0
BORDER = 5  # voxels at the border that have no SSIM
NPS_SIDE = 16  # pixels of the squares in which the spectrum is measured
FULL = 12.0  # HU: noise of computed anatomy at full dose
PACKAGES = {"medrestore", "bm4d", "dipy", "scikit-image"}
WHITE = 60.0  # HU: the error that is white in the picture


@dataclass
class Truth:
    """A scan that is taken for the truth.

    Attributes:
        name: For the tables.
        voxels: (X, Y, Z) in HU.
        spacing: In mm.
        own: Level in HU of the noise that it has; 0 for computed anatomy.
    """

    name: str
    voxels: np.ndarray
    spacing: tuple[float, ...]
    own: float = 0.0


def load(path: Path, average: int) -> Truth:
    """Read a scan and average its slices in groups: thicker ones have less noise that counts as truth."""
    volume = medrestore.read(path)
    voxels, spacing = without_padding(volume.array), tuple(map(float, volume.spacing))
    groups = voxels.shape[2] // average
    voxels = voxels[:, :, : groups * average].reshape(*voxels.shape[:2], groups, average).mean(axis=3)
    name = path.name + (f", {average} slices averaged" if average > 1 else "")
    return Truth(name, voxels, (*spacing[:2], spacing[2] * average), estimate_ct_noise(voxels))


def computed() -> list[Truth]:
    """A body and, where the label map that it is made around is there, a head, from an unseen seed."""
    body = computed_body()
    found = [Truth("computed body", body.array, body.spacing)]
    if LABELS.exists():
        labels = medrestore.read(LABELS).array.astype(np.uint8)
        head = anatomy.head(labels, np.random.default_rng(UNSEEN))
        found.append(Truth("computed head", head.hu[:, :, 50:98], head.spacing))
    return found


def low_dose(truth: Truth, dose: float, kernel: str, full: float) -> tuple[np.ndarray, np.ndarray, Beam]:
    """Return the noise in HU that a lower dose adds, another draw of it, and the beam of full dose."""
    units = truth.voxels / 1000 + 1
    grid = Grid(truth.voxels.shape[:2], truth.spacing[:2])
    rng = np.random.default_rng(UNSEEN)
    # The soft kernel sets the photons: a sharp one of the same scan has its noise from the same photons.
    beam = Beam()
    middle = units[:, :, ::4]
    trial = low_dose_noise(middle, grid, Dose(beam=beam), rng)
    beam = replace(beam, photons=beam.photons * (1000 * tissue_level(trial, middle) / full) ** 2)
    setting = Dose(dose, 1.0 if truth.own else 0.0, beam, KERNELS[kernel])
    draws = [1000 * low_dose_noise(units, grid, setting, rng) for _ in range(2)]
    return draws[0], draws[1], beam


def spectrum(noise: np.ndarray) -> np.ndarray:
    """Power of noise that is independent from slice to slice, (X, Y, Z), mean voxels times variance."""
    plane = np.sum(np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2, axis=2)
    return np.repeat(ndimage.uniform_filter(plane, 5, mode="wrap")[:, :, None], noise.shape[2], axis=2)


def score(image: np.ndarray, truth: Truth, noisy: np.ndarray) -> dict[str, Any]:
    """Scores in the window of soft tissue inside the body, bias by tissue, and mean frequencies of noise."""
    body = ndimage.binary_fill_holes(ndimage.gaussian_filter(truth.voxels, 1) > BODY)
    low, high = WINDOW
    seen, true = np.clip(image, low, high), np.clip(truth.voxels, low, high)
    similarity = ssim_map(seen, true, data_range=high - low)
    inner = body[(slice(BORDER, -BORDER),) * 3]
    # Tissue is told from a smooth copy, and away from edges: a noisy truth would choose its own noise.
    smooth = ndimage.gaussian_filter(truth.voxels, 1.5)
    calm = ndimage.maximum_filter(smooth, 5) - ndimage.minimum_filter(smooth, 5) < 60 + 2 * truth.own
    bias = {}
    for name, (least, most) in TISSUES.items():
        here = (smooth > least) & (smooth < most) & (calm | (name == "bone"))
        bias[name] = float(np.mean(image[here] - truth.voxels[here])) if here.sum() > 100 else None
    soft = calm & (smooth > TISSUES["soft tissue"][0]) & (smooth < TISSUES["soft tissue"][1])
    left, removed = (in_plane_power(noise, soft) for noise in (image - truth.voxels, noisy - image))
    return {
        "psnr": psnr(seen, true, data_range=high - low, mask=body),
        "ssim": float(np.mean(similarity[inner], dtype=np.float64)),
        "bias": bias,
        "left_frequency": mean_frequency(left, truth.spacing),
        "removed_frequency": mean_frequency(removed, truth.spacing),
        "left_spectrum": radial(left, truth.spacing),
        "left_hu": float((image - truth.voxels)[soft].std()),
    }


def in_plane_power(noise: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Noise power spectrum in the plane, over squares that are all in a mask; zeros where there is none."""
    power = np.zeros((NPS_SIDE, NPS_SIDE))
    for x in range(0, noise.shape[0] - NPS_SIDE, NPS_SIDE // 2):
        for y in range(0, noise.shape[1] - NPS_SIDE, NPS_SIDE // 2):
            box = (slice(x, x + NPS_SIDE), slice(y, y + NPS_SIDE))
            slices = where[box].mean(axis=(0, 1)) > 0.95
            squares = noise[box][:, :, slices]
            power += np.sum(np.abs(np.fft.fft2(squares - squares.mean((0, 1)), axes=(0, 1))) ** 2, axis=2)
    return power


def frequencies(spacing: tuple[float, ...]) -> np.ndarray:
    """Distance of each entry of a spectrum from zero, in cycles/mm."""
    return np.hypot(*np.meshgrid(*(np.fft.fftfreq(NPS_SIDE, d) for d in spacing[:2]), indexing="ij"))


def mean_frequency(power: np.ndarray, spacing: tuple[float, ...]) -> float | None:
    """Power-weighted mean frequency in cycles/mm."""
    return float((power * frequencies(spacing)).sum() / power.sum()) if power.any() else None


def radial(power: np.ndarray, spacing: tuple[float, ...]) -> dict[str, list[float]] | None:
    """Shape of a spectrum: mean power in rings up to the Nyquist frequency, over the mean of the rings."""
    if not power.any():
        return None
    step = 1 / (NPS_SIDE * max(spacing[:2]))
    ring = np.rint(frequencies(spacing) / step)
    rings = range(1, NPS_SIDE // 2 + 1)
    mean = np.array([power[ring == n].mean() for n in rings])
    return {
        "cycles_per_mm": [round(n * step, 4) for n in rings],
        "power": (mean / mean.mean()).round(4).tolist(),
    }


def warm_up(methods: list[str], model: str) -> None:
    """Let methods do what they do once in a process, imports above all: it is no part of their times."""
    calibration(medrestore.RestoreOptions(model=model), medrestore.Modality.CT)
    noise = np.random.default_rng(0).normal(0, 20, (32, 32, 16)).astype(np.float32)
    for method in methods:
        with contextlib.suppress(Exception):  # it is told in the table
            METHODS[method][1](Scan(noise, (1.0, 1.0, 1.0), 20.0, spectrum(noise), model))


def measure(truth: Truth, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Row]]:
    """Every filter at every dose and kernel; one that fails leaves its reason and stops nothing.

    Also returns a row for the picture, of the first dose and kernel.
    """
    runs, rows = [], []
    middle = truth.voxels.shape[2] // 2
    full = truth.own or args.full
    for kernel in args.kernels:
        for dose in args.doses:
            noise, other, beam = low_dose(truth, dose, kernel, full)
            level = 1000 * tissue_level(noise / 1000, truth.voxels / 1000 + 1)
            voxels = np.asarray(truth.voxels + noise, dtype=np.float32)
            scan = Scan(voxels, truth.spacing, level, spectrum(other), args.model)
            shown = {}
            for method in args.methods:
                title, run = METHODS[method]
                made = {"volume": truth.name, "kernel": kernel, "dose": dose, "level": level}
                made |= {"method": method, "title": title}
                made |= {"photons": beam.photons, "own": truth.own}
                try:
                    started = time.perf_counter()
                    image = np.asarray(run(scan), dtype=np.float32)
                    made |= {"seconds": time.perf_counter() - started, **score(image, truth, voxels)}
                    shown[title.replace(", ", "\n")] = _upright(image[:, :, middle])
                except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
                    made["error"] = str(error)
                print(json.dumps(made), file=sys.stderr, flush=True)
                runs.append(made)
            if dose == args.doses[0] and kernel == args.kernels[0]:
                name = f"{truth.name}, {kernel}"
                rows.append(Row(name, _upright(truth.voxels[:, :, middle]), shown, WINDOW, WHITE))
    return runs, rows


def _upright(plane: np.ndarray) -> np.ndarray:
    """Turn an (X, Y) slice so that the front is above."""
    return plane.T[::-1]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volume", type=Path, action="append", default=[], help="scan in HU, repeatable")
    parser.add_argument("--average", type=int, default=1, help="slices of a scan to average (default: 1)")
    parser.add_argument("--doses", default="0.25,0.1", help="fractions of full dose (default: 0.25,0.1)")
    parser.add_argument("--kernels", default="soft,sharp", help=f"of {', '.join(KERNELS)}")
    parser.add_argument("--full", type=float, default=FULL, help="noise of computed anatomy at full dose, HU")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--model", default="ct-denoise", help="model of medrestore, a name or a folder")
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--quick", action="store_true", help="16 slices and 96 pixels from the middle")
    args = parser.parse_args(argv)
    args.doses = [float(dose) for dose in args.doses.split(",")]
    args.kernels, args.methods = args.kernels.split(","), args.methods.split(",")
    for name, known in ((args.kernels, KERNELS), (args.methods, METHODS)):
        if unknown := [item for item in name if item not in known]:
            parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(known)}")
    return args


def cropped(truth: Truth) -> Truth:
    """The middle of a volume."""
    part = middle_box(truth.voxels.shape, (96, 96, 16))
    return replace(truth, voxels=np.ascontiguousarray(truth.voxels[part]))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load(path, args.average) for path in args.volume] + computed()
    truths = [cropped(truth) for truth in truths] if args.quick else truths
    warm_up(args.methods, args.model)
    measured = [measure(truth, args) for truth in truths]
    runs, rows = ([one for pair in measured for one in pair[part]] for part in (0, 1))
    names = [Path(word).name if "/" in word else word for word in (sys.argv[1:] if argv is None else argv)]
    command = shlex.join(["python", "-m", "benchmarks.ct.run", *names])
    stem = "ct-quick" if args.quick else "ct"
    setup = {
        "command": command,
        "weights": weights(args.model, "CT", "denoise"),
        **describe_machine(PACKAGES),
    }
    text = ct_tables.markdown(setup, truths, runs, stem)
    write_page(args.out, stem, {"setup": setup, "runs": runs}, text)
    ct_tables.plot(runs, args.out / f"{stem}.png")
    side_by_side(rows, args.out / f"{stem}-slices.png")


if __name__ == "__main__":
    main()
