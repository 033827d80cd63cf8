"""The training configuration: a TOML file, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from medrestore.errors import ConfigError
from medrestore.toml import read_toml

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class DataOptions:
    """What is trained on.

    Attributes:
        roots: Folders that the patterns are relative to, themselves relative to the configuration file.
        scans: Glob patterns of clean scans: NIfTI files, or folders of one DICOM series.
        labels: Glob patterns of label maps.
        exclude: Glob patterns of what the patterns above find and must not be seen.
        validation: Scans for the validation score; never trained on.
        spacings_mm: Resolutions to which finer scans are also lowered, beside their own.
        denoise_with: Model that scans with noise of their own are restored with before they are learnt from,
            or None: a network keeps the noise that its targets have.
        denoise_above: Noise from which that is done, as a fraction of the 99th percentile.
        slices_mm: Slice thicknesses into which scans of thin slices are also averaged, along each axis.
    """

    roots: tuple[str, ...]
    scans: tuple[str, ...]
    labels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    spacings_mm: tuple[float, ...] = (1.0, 1.4)
    slices_mm: tuple[float, ...] = ()
    denoise_with: str | None = None
    denoise_above: float = 0.01


@dataclass(frozen=True, config=STRICT)
class NetworkOptions:
    """Name of a network, in `medrestore.networks` or ``plugin/name``, and its keyword arguments."""

    name: str = "voxelnet"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class LoopOptions:
    """How long and how fast.

    Attributes:
        steps: Updates in all.
        batch: Patches an update.
        patch: Side of a patch in voxels.
        rate: Peak learning rate.
        warmup: Updates over which the rate rises.
        hold: Fraction of the updates after which the rate falls to zero along a cosine.
        ema: Decay of the weight average that is exported.
        clip: Largest norm of the gradient.
        mean: Fraction of a batch at an infinite state level, that is, for the posterior mean.
        unconditional: Fraction of a batch with the scan left out; `mean` applies to what remains.
        seed: Seed of everything random.
        checkpoint_minutes: Time between checkpoints.
        validate_steps: Updates between validations; 0 for none.
        bfloat16: Whether matrix work runs in bfloat16; None where the device has it natively.
        compile: Whether the network is compiled, which takes half a minute; a GPU may then be twice as fast.
        workers: Processes that draw batches ahead of time, for a GPU that would wait for them; 0 for none,
            the only choice on Windows. The batches do not depend on it.
    """

    steps: int
    batch: int = 8
    patch: int = 48
    rate: float = 2e-3
    warmup: int = 100
    hold: float = 0.3
    ema: float = 0.999
    clip: float = 1.0
    mean: float = 0.75
    unconditional: float = 0.0
    seed: int = 1
    checkpoint_minutes: float = 5.0
    validate_steps: int = 1000
    bfloat16: bool | None = None
    compile: bool = False
    workers: int = 0


@dataclass(frozen=True, config=STRICT)
class DegradationOptions:
    """How clean patches are degraded.

    Attributes:
        noise: Lowest and highest level, as fractions of the 99th percentile of the scan.
        rician: Probability of Rician rather than Gaussian noise.
        varying: Probability of noise that varies over the patch, as parallel imaging makes it.
        unmapped: Probability that a model is told nothing of how the noise varies.
        estimate_error: Standard deviation of the logarithm of the level that the model is told; the
            logarithm of the map of varying noise has four times as much, each correlation as much.
        coloured: Probability of a k-space window on image and noise. Above 0 the model is told the colour.
        untold: Probability that it is not, so that it learns to find the colour itself.
        coils: Probability that a magnitude is the sum of squares of 2 to 8 coils rather than of one.
        resampled: Probability that image and noise are interpolated once more.
        quantised: Probability of voxels rounded to a fraction of the noise.
    """

    noise: tuple[float, float] = (0.007, 0.18)
    rician: float = 0.75
    varying: float = 0.15
    unmapped: float = 0.2
    estimate_error: float = 0.03
    coloured: float = 0.0
    untold: float = 0.15
    coils: float = 0.0
    resampled: float = 0.0
    quantised: float = 0.0


@dataclass(frozen=True, config=STRICT)
class SliceOptions:
    """How clean patches are measured in thick slices, for super-resolution.

    Attributes:
        factor: Smallest and largest distance of the slices, in planes of the fine grid.
        width: Smallest and largest width of a slice, as fractions of that distance.
        softness: Softness of the profiles to choose from, 0 a boxcar and 1 a Gaussian.
        noisy: Probability of noise in the slices.
        noise: Its lowest and highest level, as fractions of the 99th percentile of the scan.
        rician: Probability of Rician rather than Gaussian noise.
        estimate_error: Standard deviation of the logarithm of the level that the model is told.
    """

    factor: tuple[float, float] = (1.5, 6.0)
    width: tuple[float, float] = (0.6, 1.2)
    softness: tuple[float, ...] = (0.0, 0.0, 0.25, 0.5, 1.0)
    noisy: float = 0.5
    noise: tuple[float, float] = (0.003, 0.08)
    rician: float = 0.75
    estimate_error: float = 0.05


@dataclass(frozen=True, config=STRICT)
class CtOptions:
    """How clean patches of CT are degraded: by the noise of a low dose.

    Attributes:
        noise: Lowest and highest level in soft tissue, as fractions of the attenuation of water.
        kernels: Names of reconstruction kernels in `medrestore.physics.ct_noise.KERNELS`.
        photons: Fewest and most photons of a ray in air: fewer make streaks.
        electronic: Standard deviation of the electronic noise, in photons.
        single: Probability of the noise of one kernel rather than of a mixture.
        helical: Largest deviation of the kernel that correlates neighbouring slices, in slices.
        smoothed: Probability of noise that was blurred after its reconstruction.
        clipped: Probability of a scan that is cut off at -1024 HU.
        estimate_error: Standard deviation of the logarithm of the level that the model is told.
        phantoms: How many volumes of computed anatomy are made; their share of the patches is
            `augmentation.synthetic`.
    """

    noise: tuple[float, float] = (0.006, 0.16)
    kernels: tuple[str, ...] = ("soft", "standard", "sharp")
    photons: tuple[float, float] = (2e4, 4e5)
    electronic: float = 8.0
    single: float = 0.6
    helical: float = 0.8
    smoothed: float = 0.25
    clipped: float = 0.5
    estimate_error: float = 0.1
    phantoms: int = 6


@dataclass(frozen=True, config=STRICT)
class AugmentationOptions:
    """What is done to a clean patch.

    Attributes:
        tone_curve: Probability of another contrast.
        bias_field: Probability of a smooth change of brightness.
        blur: Probability of a loss of resolution, as averaging, motion and interpolation leave it.
        blur_width: Smallest and largest standard deviation of it, in voxels.
        lesions: Probability of small bright and dark ellipsoids in the tissue.
        scale: Standard deviation of the logarithm of the overall brightness.
        synthetic: Probability of a patch from a label map, where there are label maps.
    """

    tone_curve: float = 0.35
    bias_field: float = 0.3
    blur: float = 0.0
    blur_width: tuple[float, float] = (0.3, 0.9)
    lesions: float = 0.0
    scale: float = 0.35
    synthetic: float = 0.2


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """All that a training run needs.

    Attributes:
        data: What is trained on.
        loop: How long and how fast.
        model: The fields of the model folder's `model.toml`.
        network: What is trained.
        augmentation: What is done to clean patches.
        degradation: The noise that the model is to remove.
        slices: The slices that it is to resolve, instead; None for denoising.
        ct: The noise of CT, instead of the noise of `degradation`; None for MR.
    """

    data: DataOptions
    loop: LoopOptions
    model: Mapping[str, Any]
    network: NetworkOptions = NetworkOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
    degradation: DegradationOptions = DegradationOptions()
    slices: SliceOptions | None = None
    ct: CtOptions | None = None


def load_config(path: Path) -> TrainConfig:
    """Read a configuration.

    Raises:
        ConfigError: The file is missing, no TOML, or has an unknown, missing or ill-typed key.
    """
    try:
        return TypeAdapter(TrainConfig).validate_python(read_toml(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the training configuration: {error.strerror}") from error
    except ValidationError as error:  # a ValueError as well
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {faults}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
