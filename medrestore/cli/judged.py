"""What `medrestore metrics` is asked to judge: its options, the volumes, and the masks on their grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medrestore.errors import InputError
from medrestore.findings import MODALITY_NOT_STATED, Finding
from medrestore.options import ReadRequest
from medrestore.options.declare import OptionInfo, option
from medrestore.types import LEAST_HU, Modality

if TYPE_CHECKING:
    from medrestore.types import BoolArray, RealArray
    from medrestore.volume import Volume

WORDS = ("head", "all")
"""What `--mask` takes beside a file."""

_ALONE = "Without a reference"


@dataclass(frozen=True, kw_only=True)
class MetricsRequest:
    """How a scan is judged.

    Attributes:
        mask: Voxels to count: ``"head"`` (of the reference, or else of RESTORED), ``"all"``, or a file in
            which they are not 0.
        data_range: Data range of PSNR and SSIM in voxel units; None for maximum - minimum of the reference.
        modality: ``"MR"`` or ``"CT"`` where a file does not say: padding of CT is no part of range and head.
        as_json: Print JSON.
        before: Without a reference: the scan that was restored, on the same grid; it is judged beside
            RESTORED.
        tissue: Without a reference, twice: masks of two tissues, such as grey and white matter. None for two
            classes of intensity.
        air: Without a reference: mask of air. None for what was measured outside the head.
        region: Without a reference: mask of a homogeneous region, whose noise-power spectrum is taken.
    """

    mask: str = option(
        "head",
        OptionInfo("Voxels to count: the head, all, or those not 0 in a file.", metavar="head|all|PATH"),
    )
    data_range: float | None = option(
        None, OptionInfo("Of PSNR and SSIM; that of REFERENCE by default.", metavar="VALUE")
    )
    modality: Modality | None = option(
        None, OptionInfo("What the scans are, where they do not say: MR or CT.")
    )
    as_json: bool = option(False, OptionInfo("Print JSON.", flag="--json"))
    before: Path | None = option(
        None, OptionInfo("The scan that was restored, judged beside it.", _ALONE, metavar="SCAN")
    )
    tissue: list[Path] | None = option(
        None,
        OptionInfo(
            "Twice: masks of two tissues, such as grey and white matter; else two classes of intensity.",
            _ALONE,
            metavar="MASK",
        ),
    )
    air: Path | None = option(
        None, OptionInfo("Mask of air; else what was measured outside the head.", _ALONE, metavar="MASK")
    )
    region: Path | None = option(
        None, OptionInfo("Mask of a homogeneous region, for its noise power.", _ALONE, metavar="MASK")
    )

    def alone(self) -> list[str]:
        """Return the options given that are for an evaluation without a reference."""
        names = ("before", "tissue", "air", "region")
        return [f"--{name}" for name in names if getattr(self, name)]


def volume_pairs(
    restored: Path, reference: Path | None, given: Modality | None, reading: ReadRequest
) -> list[tuple[Volume, Volume]]:
    """Return every volume with what it is compared with, which may be one for a whole series.

    Both are of one modality then: what is given, else what either says.

    Args:
        restored: What to judge.
        reference: What it is compared with; None for itself.
        given: What they are said to be, if anything.
        reading: How DICOM is read; the series is chosen where the reference lies, if there is one.

    Raises:
        InputError: The numbers of volumes differ.
        ConfigError: Options of reading DICOM are given, and neither is DICOM.
    """
    from medrestore.cli.summary import print_findings
    from medrestore.files import read_series
    from medrestore.io import reading_findings
    from medrestore.job.output_format import check_reading, is_dicom_scan

    compared = restored if reference is None else reference
    check_reading(restored if is_dicom_scan(restored) else compared, reading)
    references = read_series(compared, policy=reading.policy, series=reading.series)
    images = references if reference is None else read_series(restored, policy=reading.policy)
    modality, findings = _taken_for(given, images[0], references[0])
    print_findings((*reading_findings(images[0]), *reading_findings(references[0]), *findings))
    images, references = (
        tuple(one.as_modality(modality) for one in series) for series in (images, references)
    )
    if len(references) not in {1, len(images)}:
        raise InputError(
            f"{reference}: a series of {len(references)} volumes, {restored} has {len(images)}; expected as "
            "many, or one"
        )
    truths = references if len(references) == len(images) else references * len(images)
    return list(zip(images, truths, strict=True))


def _taken_for(
    given: Modality | None, image: Volume, reference: Volume
) -> tuple[Modality, tuple[Finding, ...]]:
    """Return the modality that both scans are taken for, and a finding where nothing tells of padding."""
    stated = (given or Modality.UNKNOWN, image.modality, reference.modality)
    modality = next((one for one in stated if one is not Modality.UNKNOWN), Modality.UNKNOWN)
    if modality is not Modality.UNKNOWN or reference.array.min() >= LEAST_HU:
        return modality, ()
    text = (
        f"no modality is stated, and voxels below {LEAST_HU} are counted and widen the data range; pass "
        "--modality CT if they are padding"
    )
    return modality, (MODALITY_NOT_STATED.found(text),)


def chosen_mask(mask: str, truth: Volume, voxels: RealArray, reference: Path) -> BoolArray | None:
    """Return the voxels to count: those of the head of `truth`, all (None), or those not 0 in a file."""
    from medrestore.metrics import head_mask

    if mask == "all":
        return None
    if mask == "head":
        return head_mask(voxels)
    return read_mask(Path(mask), truth, reference)


def read_mask(path: Path, truth: Volume, reference: Path, *, plain: bool = False) -> BoolArray:
    """Return where a file on the grid of a volume is not 0.

    Args:
        path: The mask.
        truth: The volume.
        reference: Its file.
        plain: Whether a map of labels or probabilities is refused: of which tissue it is, it would not say.

    Raises:
        InputError: The grids differ, all is 0, or a mask that must be plain has several values beside 0.
    """
    from medrestore.files import read

    selected = read(path)
    check_grid(path, selected, reference, truth)
    inside: BoolArray = selected.array != 0
    if not inside.any():
        raise InputError(f"{path}: the mask selects no voxel; expected voxels that are not 0")
    values = selected.array[inside]
    if plain and values.size and values.min() != values.max():
        raise InputError(
            f"{path}: several values beside 0, as in a map of labels or probabilities; expected a mask of "
            "one tissue, such as 0 and 1"
        )
    return inside


def check_grid(path: Path, volume: Volume, reference: Path, truth: Volume) -> None:
    """Refuse to compare volumes that are not voxel on voxel.

    Raises:
        InputError: Shape or place differ by more than a hundredth of a millimetre.
    """
    if volume.geometry.allclose(truth.geometry, tol_mm=1e-2):
        return
    raise InputError(
        f"{path}: on another grid than {reference}: {_grid(volume)} against {_grid(truth)}; resample one to "
        "the other first"
    )


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{size:.4g}" for size in volume.spacing)
    origin = ", ".join(f"{mm:.2f}" for mm in volume.geometry.origin)
    return f"shape {volume.shape}, voxels of {spacing} mm, first voxel at ({origin}) mm"
