"""Classical denoisers as models of medrestore: baselines through the same commands, report and verdict.

This module is imported whenever plugins are listed, so it imports nothing heavy: filters wait for `load`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from medrestore import LoadContext, Modality, ModelSpec, Task, hookimpl
from medrestore.plugin import Intensity

if TYPE_CHECKING:
    from medrestore.diffusion import Denoiser

LICENCE = "Apache-2.0 AND BSD-3-Clause"
"""Of this package and of DIPY and scikit-image, which filter."""

WHOLE = 4096
"""Halo of a filter that computes something over the whole volume: it is never cut into tiles."""


@dataclass(frozen=True)
class FilterFacts:
    """What is declared of a filter.

    Attributes:
        title: For a person.
        reference: Paper.
        halo: Voxels around a voxel that take part in its value.
        multiple: Of sizes and starts of tiles.
    """

    title: str
    reference: str
    halo: int = WHOLE
    multiple: int = 1


@dataclass(frozen=True)
class SeriesFacts:
    """What is declared of a method for series; as `FilterFacts`, and the licence of its library."""

    title: str
    reference: str
    licence: str
    halo: int
    multiple: int = 1


FILTERS = {
    # Blocks of radius 2 lie at every other voxel and are compared within 2 voxels around.
    "nlm": FilterFacts("Non-local means (DIPY)", "Coupe et al., IEEE Trans Med Imaging 27, 2008", 8, 2),
    # It iterates until the energy of the whole falls no more.
    "tv": FilterFacts("Total variation (scikit-image)", "Chambolle, J Math Imaging Vis 20, 2004"),
    # Thresholds are set by the variance of each band over the whole.
    "wavelet": FilterFacts(
        "Wavelets, BayesShrink (scikit-image)", "Chang, Yu and Vetterli, IEEE Trans Image Process 9, 2000"
    ),
}
"""By the name of the function in `filters`."""


SERIES = {
    "mppca": SeriesFacts("MP-PCA (DIPY)", "Veraart et al., NeuroImage 142, 2016", "BSD-3-Clause", 8),
    "nordic": SeriesFacts("NORDIC (patch-denoise)", "Moeller et al., NeuroImage 226, 2021", "MIT", 12, 2),
}
"""By the name of the function in `low_rank`."""

FEWEST = 8
"""Volumes: of fewer there are hardly any singular values of noise to tell signal from."""


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare a model of MR and one of CT for each filter, and those of series."""
    single = [_filter(name, modality) for modality in (Modality.MR, Modality.CT) for name in FILTERS]
    return [*single, *(_of_series(name) for name in SERIES)]


def _filter(name: str, modality: Modality) -> ModelSpec:
    facts, ct = FILTERS[name], modality is Modality.CT
    return ModelSpec(
        name=f"{name}-ct" if ct else name,
        title=f"{facts.title}, for {modality}",
        task=Task.DENOISE,
        modalities=(modality,),
        licence=LICENCE,
        reference=facts.reference,
        load=partial(load_filter, name=name, rician=not ct),
        intensity=Intensity.ATTENUATION if ct else Intensity.P99,
        spacing_mm=(0.1, 10.0),
        noise=(0.0, 0.2),
        halo=facts.halo,
        multiple=facts.multiple,
        api=2,
    )


def _of_series(name: str) -> ModelSpec:
    facts = SERIES[name]
    return ModelSpec(
        name=name,
        title=f"{facts.title}, for series of MR",
        task=Task.DENOISE,
        modalities=(Modality.MR,),
        licence=f"Apache-2.0 AND {facts.licence}",
        reference=facts.reference,
        load=partial(load_low_rank, name=name),
        spacing_mm=(0.1, 10.0),
        noise=(0.0, 0.2),
        halo=facts.halo,
        multiple=facts.multiple,
        series=FEWEST,
        api=2,
    )


def load_low_rank(context: LoadContext, *, name: str) -> Denoiser:
    """Load a method for series."""
    from medrestore_classical import low_rank
    from medrestore_classical.denoisers import denoiser_of_series

    del context
    if name == "mppca":  # it finds the level by itself
        return denoiser_of_series(lambda series, sigma: low_rank.mppca(series))
    return denoiser_of_series(low_rank.nordic)


def load_filter(context: LoadContext, *, name: str, rician: bool) -> Denoiser:
    """Load a filter; the libraries are imported here, so that listing models stays fast."""
    from medrestore_classical import filters
    from medrestore_classical.denoisers import denoiser_of

    del context
    return denoiser_of(getattr(filters, name), rician=rician)
