"""One worked example of every hook beside models and formats: here the declarations, the work in its modules.

This module is imported whenever plugins are listed, so it imports nothing heavy: each declared function
imports what it needs when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore import LoadContext, Modality, ModelSpec, Task, hookimpl
from medrestore.plugin import (
    GeneratorSpec,
    MetricSpec,
    NetworkSpec,
    NoiseEstimatorSpec,
    OperatorSpec,
    SamplerSpec,
    VerbSpec,
)
from medrestore_examples.metric import correlation
from medrestore_examples.noise import immerkaer
from medrestore_examples.observers import log
from medrestore_examples.sampler import dpm2m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from medrestore.diffusion import Denoiser
    from medrestore.plugin import Operator, Stage
    from medrestore.provenance import RunRecord


@hookimpl
def medrestore_metrics() -> list[MetricSpec]:
    """Declare the metric `examples/correlation`."""
    return [
        MetricSpec(
            name="correlation",
            definition="Pearson correlation of the voxels",
            compute=correlation,
            higher_is_better=True,
        )
    ]


@hookimpl
def medrestore_networks() -> list[NetworkSpec]:
    """Declare the network `examples/cnn`."""
    return [NetworkSpec(name="cnn", title="A few plain convolutions", build=build_cnn)]


def build_cnn(**options: Any) -> nn.Module:
    """Make it; torch is imported here, so that listing plugins stays fast."""
    from medrestore_examples.network import Cnn

    return Cnn(**options)


@hookimpl
def medrestore_samplers() -> list[SamplerSpec]:
    """Declare the sampler `examples/dpm2m`."""
    return [
        SamplerSpec(
            name="dpm2m",
            title="DPM-Solver++ (2M), second order for one evaluation a step",
            sample=dpm2m,
            evaluations=lambda steps: steps,
            volumes=3,  # the estimate before, the one that is continued, and what is between them
        )
    ]


@hookimpl
def medrestore_noise_estimators() -> list[NoiseEstimatorSpec]:
    """Declare the noise estimator `examples/immerkaer`."""
    title = "White noise by a Laplacian mask, after Immerkaer"
    return [NoiseEstimatorSpec(name="immerkaer", title=title, estimate=immerkaer)]


@hookimpl
def medrestore_operators() -> list[OperatorSpec]:
    """Declare the operator `examples/blur`."""
    return [OperatorSpec(name="blur", title="Gaussian blur of 0.8 voxels", build=build_blur)]


def build_blur(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Operator:
    """Make it; it is the same on every grid."""
    from medrestore_examples.operator import Blur

    del shape, spacing_mm
    return Blur()


@hookimpl
def medrestore_models() -> list[ModelSpec]:
    """Declare the model `examples/deblur`, whose scans went through the operator."""
    return [
        ModelSpec(
            name="deblur",
            title="Landweber's iteration against a blur of 0.8 voxels",
            task=Task.DENOISE,
            modalities=(Modality.MR,),
            licence="Apache-2.0",
            reference="Landweber, Am J Math 73, 1951",
            spacing_mm=(0.1, 5.0),
            noise=(0.0, 0.05),
            halo=24,  # `HALO` of the module, which is heavy to import
            load=load_deblur,
            operator="examples/blur",
        )
    ]


def load_deblur(context: LoadContext) -> Denoiser:
    """Load it; torch is imported here, so that listing models stays fast."""
    from medrestore_examples import operator

    return operator.load_deblur(context)


@hookimpl
def medrestore_generators() -> list[GeneratorSpec]:
    """Declare the generator `examples/cloud`."""
    return [
        GeneratorSpec(
            name="cloud",
            title="Clouds: a Gaussian field with a spectrum of a power law",
            modality=Modality.UNKNOWN,
            licence="Apache-2.0",
            reference="Wiener, Extrapolation, Interpolation and Smoothing of Stationary Time Series, 1949",
            spacing_mm=(0.5, 4.0),
            field_mm=(256.0, 256.0, 256.0),
            load=load_clouds,
        )
    ]


def load_clouds(context: LoadContext) -> Sequence[Stage]:
    """Load it; torch is imported here, so that listing plugins stays fast."""
    from medrestore_examples.generator import clouds

    return clouds()


@hookimpl
def medrestore_verbs() -> list[VerbSpec]:
    """Declare the command `medrestore describe`."""
    return [
        VerbSpec(name="describe", help="Print grid, modality and percentiles of a scan.", load=load_describe)
    ]


def load_describe() -> Callable[..., None]:
    """Load it; numpy is imported here, for nothing but the command itself."""
    from medrestore_examples.verb import describe

    return describe


@hookimpl
def medrestore_volume_restored(record: RunRecord) -> None:
    """Log the noise of each volume."""
    log("restored", model=record.model.name, sigma=record.noise["sigma"])


@hookimpl
def medrestore_case_written(records: tuple[RunRecord, ...], files: tuple[Path, ...]) -> None:
    """Log what was written."""
    log("written", volumes=len(records), files=[path.name for path in files])


@hookimpl
def medrestore_case_failed(source: str, error: str) -> None:
    """Log why a case failed."""
    log("failed", source=source, error=error)
