"""One worked example of every hook beside models and formats: here the declarations, the work in its modules.

This module is imported whenever plugins are listed, so it imports nothing heavy: each declared function
imports what it needs when it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore import hookimpl
from medrestore.plugin import MetricSpec, NetworkSpec, NoiseEstimatorSpec, SamplerSpec
from medrestore_examples.metric import correlation
from medrestore_examples.noise import immerkaer
from medrestore_examples.observers import log
from medrestore_examples.sampler import dpm2m

if TYPE_CHECKING:
    from torch import nn

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
