"""The training configuration: a TOML file, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from medrestore.errors import SEEN_CHARACTERS, ConfigError
from medrestore.physics.ct_reconstruction import KERNELS
from medrestore.toml import read_toml

STRICT = ConfigDict(extra="forbid")


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("the first should be the lower one")
    return ends


def _known_kernel(name: str) -> str:
    if name not in KERNELS:
        raise ValueError(f"the kernels are {', '.join(KERNELS)}")
    return name


Flag = Annotated[bool, Strict()]
Some = Annotated[int, Strict(), Field(ge=1)]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Count = Annotated[int, Strict(), Field(ge=0)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)]
Level = Annotated[float, Strict(), Field(gt=0, le=1, allow_inf_nan=False)]
Factor = Annotated[float, Strict(), Field(ge=1, allow_inf_nan=False)]
Texts = tuple[str, ...]
Lengths = tuple[Positive, ...]
Levels = Annotated[tuple[Level, Level], AfterValidator(_rising)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]
Factors = Annotated[tuple[Factor, Factor], AfterValidator(_rising)]
Softness = Annotated[tuple[Fraction, ...], Field(min_length=1)]
Kernels = Annotated[tuple[Annotated[str, AfterValidator(_known_kernel)], ...], Field(min_length=1)]


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

    roots: Texts
    scans: Texts
    labels: Texts = ()
    exclude: Texts = ()
    validation: Texts = ()
    spacings_mm: Lengths = (1.0, 1.4)
    slices_mm: Lengths = ()
    denoise_with: str | None = None
    denoise_above: NotNegative = 0.01


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

    steps: Some
    batch: Some = 8
    patch: Some = 48
    rate: NotNegative = 2e-3
    warmup: Count = 100
    hold: Fraction = 0.3
    ema: Fraction = 0.999
    clip: Positive = 1.0
    mean: Fraction = 0.75
    unconditional: Fraction = 0.0
    seed: Seed = 1
    checkpoint_minutes: NotNegative = 5.0
    validate_steps: Count = 1000
    bfloat16: Flag | None = None
    compile: Flag = False
    workers: Count = 0


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

    noise: Levels = (0.007, 0.18)
    rician: Fraction = 0.75
    varying: Fraction = 0.15
    unmapped: Fraction = 0.2
    estimate_error: NotNegative = 0.03
    coloured: Fraction = 0.0
    untold: Fraction = 0.15
    coils: Fraction = 0.0
    resampled: Fraction = 0.0
    quantised: Fraction = 0.0


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

    factor: Factors = (1.5, 6.0)
    width: Range = (0.6, 1.2)
    softness: Softness = (0.0, 0.0, 0.25, 0.5, 1.0)
    noisy: Fraction = 0.5
    noise: Levels = (0.003, 0.08)
    rician: Fraction = 0.75
    estimate_error: NotNegative = 0.05


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

    noise: Levels = (0.006, 0.16)
    kernels: Kernels = ("soft", "standard", "sharp")
    photons: Range = (2e4, 4e5)
    electronic: NotNegative = 8.0
    single: Fraction = 0.6
    helical: NotNegative = 0.8
    smoothed: Fraction = 0.25
    clipped: Fraction = 0.5
    estimate_error: NotNegative = 0.1
    phantoms: Count = 6


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

    tone_curve: Fraction = 0.35
    bias_field: Fraction = 0.3
    blur: Fraction = 0.0
    blur_width: Range = (0.3, 0.9)
    lesions: Fraction = 0.0
    scale: NotNegative = 0.35
    synthetic: Fraction = 0.2


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
        ConfigError: The file is missing, no TOML, or has an unknown or missing key, or a value of another
            type or out of range.
    """
    try:
        return TypeAdapter(TrainConfig).validate_python(read_toml(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the training configuration: {error.strerror}") from error
    except ValidationError as error:  # a ValueError as well
        faults = "; ".join(map(_told, error.errors()))
        raise ConfigError(f"{path}: {faults}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _told(fault: ErrorDetails) -> str:
    key, given = ".".join(map(str, fault["loc"])), fault["input"]
    observed = "" if isinstance(given, dict) else f", got {given!r:.{SEEN_CHARACTERS}}"
    return f"{key}: {fault['msg'].removeprefix('Value error, ')}{observed}"
