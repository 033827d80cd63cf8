"""Measure what the generator makes beside the people that it was trained on, and draw it.

    python training/measure.py ALIGNED OUT

writes ``figures.json``, ``samples.png``, ``neighbours.png`` and ``steps.png``. Volumes stay in OUT, and are
not made again. All figures are of 4 mm, where a volume is 48 x 56 x 48, in the units of the generator
(white matter about 1), data range 1.5, no mask.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import torch
import torch.nn.functional as F
from medrestore_phantoms import TITLES
from monai.metrics import MMDMetric, MultiScaleSSIMMetric
from PIL import Image
from torch import Tensor

from medrestore import GenerateOptions, generate

COUNT, SPACING, RANGE = 6, 2.0, 1.5
STEPS = (2, 4, 8, 12, 24)
SEED, DRAWS = 0, 40
TISSUE = 0.3


def made(kind: str, steps: int, count: int, folder: Path) -> list[Tensor]:
    """Return volumes of noise, (1, X, Y, Z) of 2 mm, of the first so many of the seed."""
    options = GenerateOptions(spacing=SPACING, seed=SEED, count=count, steps=steps)
    paths = [folder / f"{kind}_{steps}_{index}.npy" for index in range(count)]
    if not all(path.exists() for path in paths):
        for path, one in zip(paths, generate(f"phantoms/{kind}", options), strict=True):
            np.save(path, one.volume.array)
            print(path.name, round(one.record.timings["restore"], 1), "s", flush=True)
    return [torch.from_numpy(np.load(path))[None] / 1000 for path in paths]


def people(subjects: Sequence[corpus.Subject]) -> list[Tensor]:
    """Return subjects as they are, (1, X, Y, Z) of 2 mm."""
    shape = [int(n / SPACING) for n in corpus.FIELD_MM]
    where = corpus.positions(tuple(shape), SPACING, [0, 0, 0], shape)
    return [corpus.look_up(one.levels[1.0], 1.0, where) for one in subjects]


def coarse(volumes: Sequence[Tensor]) -> Tensor:
    """Return (N, 1, 48, 56, 48)."""
    return F.avg_pool3d(torch.stack(list(volumes)), 2)


def correlations(some: Tensor, others: Tensor, mean: Tensor) -> np.ndarray[Any, Any]:
    """Return (N, M) correlations of what volumes have beside the mean; mirrored ones count too."""
    found = []
    for turned in (others, others.flip(2)):
        a, b = ((one - mean).flatten(1).double() for one in (some, turned))
        found.append((a @ b.T / a.norm(dim=1)[:, None] / b.norm(dim=1)[None]).numpy())
    return np.maximum(*found)


def alike(volumes: Tensor) -> float:
    """Return the mean multi-scale SSIM over pairs."""
    metric = MultiScaleSSIMMetric(
        spatial_dims=3, data_range=RANGE, kernel_size=3, kernel_sigma=0.8, weights=(0.3, 0.4, 0.3)
    )
    pairs = [(i, j) for i in range(len(volumes)) for j in range(i)][:60]
    scores = [metric(volumes[i : i + 1], volumes[j : j + 1]).item() for i, j in pairs]
    return float(np.mean(scores))


def detail(volumes: Tensor) -> float:
    """Return the deviation, in tissue, of what is lost where pairs of voxels become one."""
    rough = F.interpolate(F.avg_pool3d(volumes, 2), scale_factor=2, mode="trilinear")
    return float((volumes - rough)[rough > TISSUE].std())


def figures(kind: str, drawn: Sequence[Tensor], subjects: Sequence[corpus.Subject]) -> dict[str, Any]:
    """Return what is said of one kind."""
    rng = np.random.default_rng(SEED)
    real, new = coarse(people(subjects)), coarse(drawn)
    bent = torch.stack([corpus.whole(one, 4.0, rng) for one in subjects])
    mean = real.mean(0, keepdim=True)
    near, own = correlations(new, real, mean), correlations(real, real, mean)
    copies = correlations(bent, real, mean)
    np.fill_diagonal(own, -1)
    distance, few = MMDMetric(), len(subjects) // 2
    to_people, among_people = [], []
    for _ in range(DRAWS):
        order = rng.permutation(len(subjects))
        some, others = bent[order[:few]], bent[order[-few:]]
        among_people.append(float(distance(some, others)))
        pick = rng.permutation(len(new))[:few]
        to_people.append(float(distance(new[pick], some[: len(pick)])))
    return {
        "kind": kind,
        "volumes": len(new),
        "people": len(subjects),
        "nearest person": [float(v) for v in near.max(axis=1)],
        "which": [int(v) for v in near.argmax(axis=1)],
        "nearest other person": float(own.max(axis=1).mean()),
        "bent copy and its person": float(np.diag(copies).mean()),
        "MS-SSIM of samples": alike(new),
        "MS-SSIM of people": alike(real),
        "MMD of samples and people": [float(np.mean(to_people)), float(np.std(to_people))],
        "MMD of people and others": [float(np.mean(among_people)), float(np.std(among_people))],
        "detail of 8 mm beside people's": detail(new) / detail(real),
        "detail of 4 mm beside people's": detail(torch.stack(list(drawn)))
        / detail(torch.stack(people(subjects))),
    }


def row(volume: Tensor) -> np.ndarray[Any, Any]:
    """Return three middle slices side by side."""
    x, y, z = (n // 2 for n in volume.shape[1:])
    slices = [volume[0, x].T, volume[0, :, y].T, volume[0, :, :, z].T]
    high = max(one.shape[0] for one in slices)
    return np.concatenate(
        [np.pad(one.numpy()[::-1], ((0, high - one.shape[0]), (0, 0))) for one in slices], axis=1
    )


def picture(rows: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Draw rows of volumes, three slices of each, black 0 and white 1.4."""
    whole = np.concatenate([np.concatenate([row(one) for one in line], axis=1) for line in rows])
    Image.fromarray((np.clip(whole / 1.4, 0, 1) * 255).astype(np.uint8)).save(path, optimize=True)


def main(folder: Path, out: Path) -> None:
    """Measure and draw."""
    out.mkdir(parents=True, exist_ok=True)
    found = corpus.load(folder)
    result, samples, neighbours = [], [], []
    for kind in TITLES:
        subjects = [one for one in found if one.kind == kind]
        drawn = made(kind, GenerateOptions().steps, COUNT, out)
        result.append(figures(kind, drawn, subjects))
        samples += [drawn[index : index + 2] for index in (0, 2, 4)]
        everybody = people(subjects)
        neighbours += [[drawn[i], everybody[result[-1]["which"][i]]] for i in (0, 1)]
    ladder = [made("head", steps, 1, out)[0] for steps in STEPS]
    reference = ladder[-1]
    errors = [float((one - reference).square().mean().sqrt()) for one in ladder[:-1]]
    (out / "figures.json").write_text(
        json.dumps({"kinds": result, "steps": dict(zip(STEPS, errors, strict=False))}, indent=2)
    )
    picture(samples, out / "samples.png")
    picture(neighbours, out / "neighbours.png")
    picture([[one] for one in ladder], out / "steps.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
