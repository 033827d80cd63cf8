"""What tests of the whole path share: a phantom, a model that takes no time, the command line."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tomli_w
import torch
import typer
from scipy import ndimage
from typer.main import get_command

from medrestore.cli import main
from medrestore.networks import build
from medrestore.physics.mr_noise import add_rician
from medrestore.plugin import read_model_folder
from medrestore.training.export import TrainingFacts, export_model
from medrestore.training.recipe import DataOptions, LoopOptions, NetworkOptions, TrainConfig

NETWORK = {"widths": [8, 8], "down": [1, 1], "up": [1]}
MODEL = {
    "name": "tiny",
    "title": "A tiny network that nobody trained",
    "task": "denoise",
    "modalities": ["MR"],
    "licence": "Apache-2.0",
    "reference": "none",
    "spacing_mm": [0.6, 1.5],
    "noise": [0.01, 0.15],
    "outputs": ["mean", "sample"],
    "dtypes": ["float32"],
}


SUPERRES = {"task": "superres", "name": "tiny-superres", "factor": [1.5, 6.0], "noise": [0.0, 0.08]}
"""What turns `model_folder` into one for thick slices."""


def phantom(size: int = 32, scale: float = 800.0) -> np.ndarray:
    """An ellipsoidal head of three tissues in dark air, (size, size, size) float32, bright end at `scale`."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 3, indexing="ij")
    radius = np.sqrt((x / 0.85) ** 2 + (y / 0.95) ** 2 + (z / 0.8) ** 2)
    wave = 0.15 * np.sin(9 * x) * np.cos(7 * y + 2 * z)
    tissue = np.select([radius < 0.35 + wave, radius < 0.75 + wave, radius < 1], [0.55, 1.0, 0.75], 0.0)
    return (scale * ndimage.gaussian_filter(tissue, 0.6)).astype(np.float32)


def noisy(clean: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    """Rician noise of `level` times the 99th percentile."""
    return add_rician(clean, level * float(np.percentile(clean, 99)), np.random.default_rng(seed))


def save(path: Path, array: np.ndarray, spacing: float = 1.0) -> Path:
    """Write a NIfTI file with isotropic voxels; a fourth axis makes a series."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (-12.0, 7.0, 30.0)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def model_folder(folder: Path, network: Mapping[str, object] = NETWORK, **changes: object) -> Path:
    """Write a model folder of an untrained network whose branches are not zero, so that it does something."""
    torch.manual_seed(0)
    options = {
        **network,
        **({"details": 4} if changes.get("task") == "superres" or changes.get("colour") else {}),
    }
    made = build("voxelnet", options)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    config = TrainConfig(
        data=DataOptions(roots=(".",), scans=()),
        loop=LoopOptions(steps=1),
        model={**MODEL, **changes},
        network=NetworkOptions(options=options),
    )
    export_model(made, config, TrainingFacts(0, (), None), folder)
    return folder


def with_calibration(folder: Path, clues: int = 7) -> Path:
    """Write a calibration beside the weights of a folder: every interval is two fifths of the noise wide."""
    terms, groups, levels = 1 + clues + clues * (clues + 1) // 2, ([0.0], [1.0]), (0.5, 0.8, 0.9, 0.95)
    departure = {"mean": 0.0, "deviation": 1.0, "subjects": 5}
    table = {
        "model": "tiny",
        "sha256": read_model_folder(folder).sha256,
        "ensemble": 1,
        "made": "2026-01-01",
        "medrestore": "0",
        "population": {"subjects": 5, "scans": 5, "tuned_on": 1, "noise": "white", "note": ""},
        "ranges": {
            "noise": [0.01, 0.1],
            "spacing_mm": [0.5, 3.0],
            "correlation": [0.0, 0.9],
            "factor": [1.0, 6.0],
        },
        "scale": {
            "means": [0.0] * clues,
            "deviations": [1.0] * clues,
            "weights": [math.log(0.1), *[0.0] * (terms - 1)],
            "ends": [-5.0, 1.0],
        },
        "quantiles": {
            "groups": {"size": groups[0], "brightness": groups[1]},
            "rms": 1.25,
            "lower": [[-2.0 * level / 0.9] * 4 for level in levels],
            "upper": [[2.0 * level / 0.9] * 4 for level in levels],
        },
        "bound": {"psnr": departure, "ssim": departure},
    }
    (folder / "calibration.toml").write_text(tomli_w.dumps(table))
    return folder


@cache
def built(app: typer.Typer) -> Any:
    """Return the command of an app, made once in a process, as each process of a user's makes it once."""
    return get_command(app)


class CommandLine:
    """Runs `medrestore` in this process, as the console script would."""

    def __init__(self, monkeypatch, capsys) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Return the exit status, stdout and stderr."""
        self._monkeypatch.setattr("sys.argv", ["medrestore", *map(str, arguments)])
        self._monkeypatch.setattr("typer.main.get_command", built)
        self._capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        found = self._capsys.readouterr()
        return status, found.out, found.err


def scan_folder(root: Path, names: Iterable[str], size: int = 24) -> Path:
    """Write a noisy phantom for each name, with other noise in each; return the folder."""
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / name, noisy(phantom(size), 0.05, seed=index))
    return root


def batch_command(*arguments: object) -> list[str]:
    """Return what starts `medrestore batch` in a process of its own."""
    return [sys.executable, "-c", "from medrestore.cli import main; main()", "batch", *map(str, arguments)]


def mount_small(folder: Path, size: str) -> Path:
    """Make a folder with a file system of its own, in memory; skips the test where that may not be done."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (not root)")
    return folder
