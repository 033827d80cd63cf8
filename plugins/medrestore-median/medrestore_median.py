"""A median filter as a medrestore model: the smallest plugin that keeps the whole contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medrestore import LoadContext, Modality, ModelSpec, Task, hookimpl

if TYPE_CHECKING:
    from medrestore.diffusion import Denoiser


def load(context: LoadContext) -> Denoiser:
    """Make the denoiser; what is heavy is imported here, so that listing models stays fast."""
    import torch
    from scipy.ndimage import median_filter

    def denoise(x, sigma, condition):
        # With an infinite sigma the state x says nothing: the estimate comes from the scan.
        scan = condition.image.cpu().numpy()  # (B, 1, X, Y, Z)
        return torch.from_numpy(median_filter(scan, size=(1, 1, 3, 3, 3))).to(x.device)

    return denoise


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare the model `median/median3`."""
    return [
        ModelSpec(
            name="median3",
            title="Median of 3 x 3 x 3 voxels",
            task=Task.DENOISE,
            modalities=(Modality.MR,),
            licence="Apache-2.0",
            reference="Tukey, Exploratory Data Analysis, 1977",
            spacing_mm=(0.1, 5.0),
            noise=(0.0, 0.1),
            halo=1,
            load=load,
        )
    ]
