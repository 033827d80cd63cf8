"""The table of README.md: `python -m medrestore_deepinv.score SCAN...`, a minute or two for each scan.

The middle of each scan is blurred, and gets white Gaussian noise, whose level is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from medrestore import LoadContext, read
from medrestore.diffusion import Condition
from medrestore.metrics import psnr
from medrestore_deepinv import WIDTH
from medrestore_deepinv.blur import Blur
from medrestore_deepinv.denoiser import KNOWN_WHITE, MedrestoreDenoiser
from medrestore_deepinv.models import ALGORITHMS, PRIOR, reconstruction

SIDE, SIGMA, SEED = 40, 0.02, 0
"""Voxels along each axis; noise over the 99th percentile; of the noise."""


def middle(path: Path) -> Tensor:
    """Return the middle of a scan, (1, 1, X, Y, Z), its 99th percentile 1."""
    array = np.asarray(read(path).array, dtype=np.float32)
    sides = [min(size, SIDE) // 8 * 8 for size in array.shape]
    where = tuple(slice((n - side) // 2, (n + side) // 2) for n, side in zip(array.shape, sides, strict=True))
    return torch.from_numpy(array[where] / np.percentile(array, 99))[None, None]


def measure(clean: Tensor) -> Iterator[tuple[str, float]]:
    """Yield the PSNR of each method, over the brighter voxels."""
    blur = Blur(tuple(clean.shape[2:]), WIDTH)
    noise = SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(SEED))
    scan = blur.forward(clean) + noise
    mask = (clean > 0.1).numpy()[0, 0]

    def score(image: Tensor) -> float:
        return psnr(image.numpy()[0, 0], clean.numpy()[0, 0], data_range=1.0, mask=mask)

    def wiener(constant: float) -> Tensor:
        values = blur.values
        return blur.image(values / (values**2 + constant) * blur.spectrum(scan))

    yield "blurred scan", score(scan)
    yield "best Wiener filter", max(score(wiener(constant)) for constant in np.geomspace(1e-4, 1, 25))
    yield "`mr-denoise`, blur left", score(MedrestoreDenoiser.of_model(PRIOR, scale=1.0)(scan, SIGMA))
    for name in ALGORITHMS:
        made = reconstruction(name, WIDTH, LoadContext())
        yield f"`{name}-deblur`", score(made(scan, math.inf, Condition(scan, SIGMA, details=KNOWN_WHITE)))


def main(scans: Annotated[list[Path], typer.Argument(help="Scans that `mr-denoise` has not seen.")]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    columns = [dict(measure(middle(path))) for path in scans]
    typer.echo(f"| PSNR in dB | {' | '.join(path.name.split('.')[0] for path in scans)} |")
    typer.echo("|---" * (1 + len(scans)) + "|")
    for name in columns[0]:
        typer.echo(f"| {name} | {' | '.join(f'{column[name]:.2f}' for column in columns)} |")


if __name__ == "__main__":
    typer.run(main)
