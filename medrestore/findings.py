"""What a reader of a result should know: findings with a code, a severity, a text and their numbers.

Every kind is declared here, so that the reference lists all of them and programs may act on their codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from medrestore.plain import JSON, plain_mapping


class Severity(StrEnum):
    """How much a finding weighs."""

    NOTE = "note"
    """Good to know; the result is what it is said to be."""

    WARNING = "warning"
    """The result may not be what it seems; look before using it."""


KINDS: dict[str, FindingKind] = {}
"""Every kind of finding by its code."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        code: Its name, which never changes its meaning.
        severity: What it weighs.
        meaning: When it is found and what follows, for the reference.
    """

    code: str
    severity: Severity
    meaning: str

    def __post_init__(self) -> None:
        """Enter it into the list of all kinds."""
        if self.code in KINDS:
            raise ValueError(f"the finding {self.code!r} is declared twice")
        KINDS[self.code] = self

    def found(self, text: str, **data: JSON) -> Finding:
        """Return a finding of this kind.

        Args:
            text: One sentence for a person, without values of headers.
            data: Its numbers, by name.
        """
        return Finding(self.code, text, data)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: Which kind it is.
        text: What was found, for a person.
        data: Its numbers, by name.
    """

    code: str
    text: str
    data: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Detach the numbers from the caller's objects."""
        object.__setattr__(self, "data", plain_mapping(self.data, f"finding {self.code}"))

    @property
    def severity(self) -> Severity:
        """What it weighs; what a newer or an older version found is a warning."""
        kind = KINDS.get(self.code)
        return Severity.WARNING if kind is None else kind.severity

    def as_json(self) -> dict[str, JSON]:
        """Return what a record keeps."""
        return {"code": self.code, "severity": self.severity, "text": self.text, "data": self.data}

    @classmethod
    def from_json(cls, entry: Mapping[str, JSON]) -> Finding:
        """Read what `as_json` returned.

        Raises:
            KeyError, TypeError: It is no finding.
        """
        data = entry.get("data", {})
        if not isinstance(data, Mapping):
            raise TypeError("the data of a finding are no mapping")
        return cls(str(entry["code"]), str(entry["text"]), data)


def with_warnings(findings: Iterable[Finding]) -> bool:
    """Whether any of them is a warning."""
    return any(finding.severity is Severity.WARNING for finding in findings)


def _note(code: str, meaning: str) -> FindingKind:
    return FindingKind(code, Severity.NOTE, meaning)


def _warning(code: str, meaning: str) -> FindingKind:
    return FindingKind(code, Severity.WARNING, meaning)


# What the file says of itself.
MODALITY_NOT_STATED = _warning(
    "modality-not-stated", "The scan does not say its modality and was taken for that of the model."
)
MODALITY_RECOGNISED = _note(
    "modality-recognised",
    "The scan does not say its modality and was taken for what its content is, with the probability stated.",
)
MODALITY_CONTRADICTED = _warning(
    "modality-contradicted", "The scan says one modality and the caller another, which was taken."
)
PLACE_NOT_STATED = _warning(
    "place-not-stated", "The header does not say how the scan lies in space: which side is left is not known."
)
PLACE_MENDED = _warning(
    "place-mended",
    "Fields of the header that say how the scan lies in space make no sense; the other fields placed it.",
)
FIELDS_IGNORED = _note(
    "fields-ignored", "Fields of the header make no sense, and what they should say is known without them."
)
BYTES_BEHIND_VOXELS = _warning(
    "bytes-behind-voxels",
    "Bytes follow the voxels that the header declares: it may declare too few, or the file is damaged.",
)
VOXELS_FILLED = _note("voxels-filled", "Voxels that are no number were replaced by a value, as asked for.")
SYNTHETIC = _note("synthetic", "A model made the volume of noise alone: it shows no patient.")
COPIES_PASSED_OVER = _note(
    "copies-passed-over", "Images with the same place and pixels as another were read once."
)
ATTRIBUTES_VARY = _note(
    "attributes-vary-in-volume",
    "Slices of one volume state other frames of reference or echo times, say; their places make them one.",
)
VOLUMES_BY_ORDER = _note(
    "volumes-by-order", "Nothing but the order of its images tells the volumes of a series apart."
)
SIGNED_VALUES = _warning(
    "signed-values",
    "Other images in the same places have values of another kind: these may be a phase or a field map.",
)
VOLUME_INTERRUPTED = _warning(
    "volume-interrupted", "The last volume of a series lacks slices and was left out."
)
POSITIONS_ROUNDED = _note(
    "positions-rounded",
    "Positions of slices are rounded to a tenth of a millimetre; a line was fitted to them.",
)
MALFORMED_ELEMENTS = _note(
    "malformed-elements",
    "Elements of a DICOM header hold no fit value: passed over, or a decimal comma read as a point.",
)
CLASS_NOT_STATED = _note(
    "class-not-stated",
    "The SOP class is missing or not of MR, CT or PET; modality, place and pixels are those of a slice.",
)
HOUNSFIELD_JUDGED = _warning(
    "hounsfield-judged",
    "The header does not say that the values of the CT are HU; air and the range of the values do.",
)
SCALE_NOT_BELIEVED = _warning(
    "scale-not-believed", "The rescale slope is 0; the numbers in the file were taken as they are."
)
BITS_JUDGED = _note(
    "bits-judged", "The header contradicts itself about which bits of a pixel are used; the pixels tell it."
)
GREY_INVERTED = _warning(
    "grey-inverted",
    "The scan is to be shown with black and white exchanged: the values of MR were inverted, those of CT and "
    "PET are quantities and were not.",
)
PADDING_NOT_BELIEVED = _warning(
    "padding-not-believed",
    "The value that the header calls padding lies among those of tissue; such voxels keep their values.",
)
TILES_NOT_BELIEVED = _note(
    "tiles-not-believed", "The image type says mosaic, and the rest of the header says that it is none."
)
RESAMPLED_WHEN_READ = _warning(
    "resampled-when-read", "The slices were no regular grid and were brought onto one, as was asked for."
)
LOSSY_COMPRESSION_UNKNOWN = _note(
    "lossy-compression-unknown", "The source was compressed with loss, and does not say how and by how much."
)

# Whether the model is made for it.
MODALITY_OUTSIDE_MODEL = _warning(
    "modality-outside-model", "The scan is of another modality than the model is for; it was forced."
)
OUTSIDE_DOMAIN = _warning(
    "outside-domain", "By its content the scan is not of what the model was made for; it was forced."
)
SCAN_NOT_EXPLAINED = _warning(
    "scan-not-explained",
    "Of the scan, with noise added, the model loses more than of scans that it knows.",
)
VOXELS_OUTSIDE_MODEL = _warning(
    "voxels-outside-model", "Voxels have another size than the model is for; it was forced."
)
SLICES_OUTSIDE_MODEL = _warning(
    "slices-outside-model", "Slices lie at another distance than the model is for; it was forced."
)
NOISE_OUTSIDE_MODEL = _warning(
    "noise-outside-model", "The noise is weaker or stronger than what the model was made for."
)
NOISE_CONTRADICTED = _warning(
    "noise-contradicted", "The scan shows another level of noise than the one that was told, which was taken."
)
ZERO_MOVED = _warning(
    "zero-moved",
    "Many voxels lie below 0, as in z-scores, statistics, phases and differences; the model takes air for 0.",
)
VALUES_OUTSIDE_MODEL = _warning(
    "values-outside-model",
    "The voxels are not in HU, as the model expects, or they are in HU and it expects MR.",
)
REGIONS_ARE_FLAT = _warning(
    "regions-are-flat",
    "Most bright voxels equal their neighbour: labels, a mask or slices that were repeated, and no scan.",
)
AIR_IS_BRIGHT = _warning(
    "air-is-bright", "The corners of an MR scan are as bright as anything in it: it may be inverted."
)
SLICES_UNRELATED = _warning(
    "slices-unrelated",
    "Neighbouring slices are hardly more alike than distant ones: they are out of order, or hold no anatomy.",
)
VOXEL_SIZE_DOUBTED = _warning(
    "voxel-size-doubted",
    "What is in the picture is too large or too small for a head or body, its detail differs along the axes, "
    "voxels are too coarse for a structural scan, or the header contradicts them: their size may be wrong.",
)
UNMEASURED_VOXELS = _note(
    "unmeasured-voxels", "Voxels of a CT that were not measured are left as they are, or were taken for air."
)

# What was made of the noise.
NO_NOISE = _note("no-noise", "There is no noise to remove: the scan is returned as it came.")
NOISE_TOO_WEAK = _note(
    "noise-too-weak", "The noise cannot be told from fine texture: a share of what the model takes was taken."
)
NOISE_NOT_FOUND = _warning("noise-not-found", "What was read as noise is none to the model, and stays.")
ANATOMY_MAY_GO = _warning(
    "anatomy-may-go", "What was taken out has more edges or peaks than noise has: look at the residual."
)
SERIES_DIFFERS = _warning(
    "series-differs",
    "No two neighbouring volumes of a series that was restored as one differ by noise alone: where something "
    "moved, a volume holds parts of the others; a contrast that changes does less harm.",
)
SERIES_MIXED = _note(
    "series-mixed",
    "A model was given all volumes of a series at once: what changes little or in few voxels from volume to "
    "volume may have gone with the noise.",
)
SPIKES = _warning(
    "k-space-spikes", "The stripes that spikes in k-space make are no noise and are left in the result."
)

# Whether the result agrees with the scan.
VERDICT_WARN = _warning(
    "verdict-warn",
    "What was taken out differs from noise, or the result from the scan, as in few good results.",
)
VERDICT_FAIL = _warning(
    "verdict-fail",
    "What was taken out differs from noise, or the result from the scan, as in next to no good result.",
)

# What is said of the error.
INTERVALS_NOT_CALIBRATED = _warning(
    "intervals-not-calibrated",
    "The scan is unlike those that the intervals were calibrated on: they, and the bound, may not hold.",
)
DETECTABILITY_LOST = _warning(
    "detectability-lost",
    "A model observer finds virtual spheres in the result less surely than in the scan, beyond the margin.",
)
DETECTABILITY_UNKNOWN = _note(
    "detectability-unknown", "How well faint spheres are found could not be tried in this scan."
)

# What was written.
VOXELS_CLIPPED = _warning(
    "voxels-clipped", "Values did not fit into the type of the file and were set to its ends."
)

UNCLASSIFIED = _warning("unclassified", "A sentence of a record of schema 1, which had no codes.")
