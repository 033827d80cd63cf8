"""deepinv's reconstruction algorithms as models of medrestore, with `mr-denoise` for their prior.

This module is imported whenever plugins are listed, so it imports nothing heavy.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from medrestore import LoadContext, Modality, ModelSpec, Task, hookimpl
from medrestore.plugin import OperatorSpec

if TYPE_CHECKING:
    from medrestore.diffusion import Denoiser
    from medrestore.plugin import Operator

WIDTH = 1.0
"""Standard deviation of the blur, in voxels."""

WHOLE = 4096
"""A halo that says: never in tiles. Each step looks at the whole volume, and so does the blur."""

PAPERS = {
    "ddrm": ("Denoising diffusion restoration models", "Kawar et al., NeurIPS 2022"),
    "diffpir": ("Plug-and-play image restoration by diffusion", "Zhu et al., CVPRW 2023"),
    "dps": ("Diffusion posterior sampling", "Chung et al., ICLR 2023"),
}
"""Of deepinv's algorithms, by the names of their models."""


@hookimpl
def medrestore_operators() -> list[OperatorSpec]:
    """Declare the operator `deepinv/blur`."""
    return [
        OperatorSpec(
            name="blur", title=f"Gaussian blur of {WIDTH:g} voxel, mirrored at the border", build=build_blur
        )
    ]


def build_blur(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Operator:
    """Make it for a grid; it counts in voxels."""
    from medrestore_deepinv.blur import Blur

    del spacing_mm
    return Blur(shape, WIDTH)


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare a model for each algorithm: it undoes the blur, and the noise."""
    return [
        ModelSpec(
            name=f"{name}-deblur",
            title=f"{title} against a blur of {WIDTH:g} voxel: the mean of a few draws",
            task=Task.DENOISE,
            modalities=(Modality.MR,),
            licence="Apache-2.0 AND BSD-3-Clause",
            reference=reference,
            spacing_mm=(0.4, 7.0),
            noise=(0.005, 0.05),
            halo=WHOLE,
            multiple=8,
            load=partial(load, name),
            operator="deepinv/blur",
            domain="mr-head",
        )
        for name, (title, reference) in PAPERS.items()
    ]


def load(algorithm: str, context: LoadContext) -> Denoiser:
    """Load one; torch and deepinv are imported here, so that listing models stays fast."""
    from medrestore_deepinv.models import reconstruction

    return reconstruction(algorithm, WIDTH, context)
