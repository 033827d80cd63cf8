"""The ways to resolve thick slices that are compared. Each imports its own library when it is asked for."""

# ruff: noqa: PLC0415  a method's process must hold its own library alone, or peak memory means nothing

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.denoise.methods import Method
from medrestore.physics.slices import SOFTNESS, SliceStack


@dataclass
class Scan:
    """What a method is given.

    Attributes:
        voxels: (X, Y, Z), float32; slices along `axis`.
        affine: (4, 4), voxel to RAS+ mm.
        axis: Array axis across the slices.
        planes: Planes that are to come out.
        factor: Distance of the slices in planes; the first slice begins with the first plane.
        width: Full width of a slice in planes.
        profile: ``"boxcar"``, ``"slr"`` or ``"gaussian"``.
        sigma: True noise level, in the unit of the voxels.
        model: Name or folder of the model that medrestore runs; empty for its default.
        modality: ``"MR"`` or ``"CT"``; the voxels of CT are HU + 1000.
        notes: A method may leave facts about its run here.
    """

    voxels: np.ndarray
    affine: np.ndarray
    axis: int
    planes: int
    factor: float
    width: float
    profile: str
    sigma: float
    model: str = ""
    modality: str = "MR"
    notes: dict[str, float | str] = field(default_factory=dict)

    @property
    def stack(self) -> SliceStack:
        """The measurement as an operator along the last axis."""
        slices = self.voxels.shape[self.axis]
        first = (self.factor - 1) / 2
        return SliceStack(self.planes, slices, self.factor, self.width, SOFTNESS[self.profile], first)

    @property
    def slices(self) -> np.ndarray:
        """The voxels with the slice axis last."""
        return np.ascontiguousarray(np.moveaxis(self.voxels, self.axis, -1))

    @property
    def spacing(self) -> float:
        """Distance of the planes, mm."""
        return float(np.linalg.norm(self.affine[:3, self.axis])) / self.factor


Resolve = Callable[[Scan], np.ndarray]
LOBES = 3


def _along(resolve: Resolve) -> Callable[[], Resolve]:
    """Turn a method that has the slice axis last into one that has it in its place."""
    return lambda: lambda scan: np.ascontiguousarray(np.moveaxis(resolve(scan), -1, scan.axis))


def _positions(scan: Scan) -> np.ndarray:
    """Where the planes lie, in slices; constant past the ends."""
    stack = scan.stack
    positions = (np.arange(scan.planes) - stack.first) / stack.spacing
    return positions.clip(0, stack.slices - 1)


def _weighted(scan: Scan, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    weights = kernel(_positions(scan)[None] - np.arange(scan.stack.slices)[:, None])
    return scan.slices @ (weights / weights.sum(axis=0)).astype(np.float32)


def _linear(scan: Scan) -> np.ndarray:
    return _weighted(scan, lambda x: np.maximum(1 - np.abs(x), 0))


def _lanczos(scan: Scan) -> np.ndarray:
    return _weighted(scan, lambda x: np.where(np.abs(x) < LOBES, np.sinc(x) * np.sinc(x / LOBES), 0))


def _cubic(scan: Scan) -> np.ndarray:
    return scan.stack.interpolate(scan.slices)


def _consistent(scan: Scan) -> np.ndarray:
    # The proximal step weighs the noise against what a spline misses in a head, as our own model is told.
    bright = float(np.percentile(scan.slices, 99))
    error = 0.06 * (1 - 1 / scan.factor) * bright
    return scan.stack.consistent(_cubic(scan), scan.slices, ridge=(scan.sigma / error) ** 2)


def _ours(*, sample: bool = False, exact: bool = False) -> Resolve:
    import medrestore
    from medrestore.geometry import Geometry

    restore = medrestore.restore  # loaded on first use, with torch; not to be counted as resolving

    def run(scan: Scan) -> np.ndarray:
        grid = Geometry(scan.voxels.shape, scan.affine)
        zero = 1000 if scan.modality == "CT" else 0
        volume = medrestore.Volume(scan.voxels - zero, grid, medrestore.Modality(scan.modality))
        options = medrestore.RestoreOptions(
            model=scan.model or None,
            task=medrestore.Task.SUPERRES,
            spacing=scan.spacing,
            slice_axis="ijk"[scan.axis],
            slice_profile=scan.profile,
            slice_thickness=scan.width * scan.spacing,
            output="sample" if sample else "mean",
            noise=0.0 if exact else "auto",
            force=True,  # slices of nothing are tried too
        )
        result = restore(volume, options)
        record = result.record
        scan.notes |= {f"timing {phase}": seconds for phase, seconds in record.timings.items()}
        scan.notes |= {key: record.noise[key] for key in ("sigma", "fraction", "method")}
        scan.notes["model"] = record.model.name
        return result.volume.array + zero

    return run


def _eclare() -> Resolve:
    import nibabel as nib

    command = os.environ.get("ECLARE") or shutil.which("run-eclare")
    if command is None:
        raise RuntimeError("run-eclare is not installed; `pip install eclare`, or say in ECLARE where it is")

    def run(scan: Scan) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "in.nii.gz")
            nib.save(nib.Nifti1Image(scan.voxels, scan.affine), source)
            profile = {"boxcar": "rect", "gaussian": "gaussian"}[scan.profile]
            options = {
                "--in-fpath": source,
                "--out-dir": folder,
                "--n-patches": ECLARE_PATCHES,
                "--relative-slice-thickness": scan.width,
                "--relative-slice-profile-type": profile,
            }
            words = [str(word) for pair in options.items() for word in pair]
            done = subprocess.run([command, *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip().splitlines()[-1])
            print(re.sub(r".*\r", "", done.stdout)[-300:], file=sys.stderr)
            found = nib.load(Path(folder, "in_eclare.nii.gz"))
            return np.asarray(found.dataobj, dtype=np.float32)

    return run


ECLARE_PATCHES = int(os.environ.get("ECLARE_PATCHES", "1000000"))

METHODS: dict[str, Method] = {
    "linear": Method("linear", "numpy", "along the axis", _along(_linear)),
    "lanczos": Method("Lanczos", "numpy", f"{LOBES} lobes, weights that sum to one", _along(_lanczos)),
    "cubic": Method("cubic spline", "scipy", "along the axis, not-a-knot ends", _along(_cubic)),
    "cubic-consistent": Method(
        "cubic spline, made consistent",
        "scipy",
        "then the nearest volume that reproduces the slices (a proximal step where they are noisy)",
        _along(_consistent),
    ),
    "ours": Method("medrestore", "medrestore", "posterior mean, noise level estimated", _ours),
    "ours-exact": Method(
        "medrestore, slices reproduced",
        "medrestore",
        "posterior mean, told that the slices have no noise",
        lambda: _ours(exact=True),
    ),
    "ours-sample": Method(
        "medrestore, one sample", "medrestore", "10 Heun steps, seed 0", lambda: _ours(sample=True)
    ),
    "eclare": Method(
        "ECLARE",
        "eclare",
        f"trains on the scan itself, on {ECLARE_PATCHES} patches (its default: 1000000); profile given",
        _eclare,
    ),
}
