"""What a header states of how its scan was sampled, and whether the spectrum confirms it.

The rule: the spectrum decides, and a stated band is no more than a place to look at. A clear cliff is
believed wherever it is. Without a clear cliff, a lower fall is enough within 3 % of the end that the header
states (`band.STATED_CLIFF` instead of `band.CLIFF`), and the band ends there: zeros were filled in, and
something smeared the cliff. Where the power goes on beyond that end, the header is overruled. Where the
spectrum cannot tell, all frequencies count as measured, whatever the header states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medrestore.noise.model import SamplingHints, Verdict
from medrestore.provenance import JSON
from medrestore.volume import Volume

NEAR = 0.03
"""Difference of two bands, in fractions of Nyquist, up to which both count as the same,"""

NEAR_VOXELS = 4
"""or in voxels of the band where that is more: two samples of the spectrum, as leakage moves a cliff
outwards by up to 1.7."""


def sampling_hints(volume: Volume) -> SamplingHints:
    """Return what the header of a scan states of its sampling.

    Args:
        volume: The scan as it was read; the readers keep what a header states in the details of the source.
    """
    stated = {} if volume.source is None else volume.source.details.get("sampling")
    if not isinstance(stated, Mapping):
        return SamplingHints()
    samples, voxels = _three(stated.get("acquired")), _three(stated.get("voxels"))
    x, y, z = (_band(*pair) for pair in zip(samples, voxels, strict=True))
    ignored = stated.get("ignored")
    return SamplingHints(
        bands=(x, y, z),
        partial_fourier=_said(stated, "partial_fourier"),
        filtered=_said(stated, "filtered"),
        distortion_corrected=_said(stated, "distortion_corrected"),
        ignored=tuple(map(str, ignored)) if isinstance(ignored, tuple) else (),
    )


def verdict_on(stated: float | None, measured: float | None, size: int) -> Verdict | None:
    """Return whether the spectrum confirms a stated band; None where no band is stated.

    Args:
        stated: Band that the header states, as a fraction of Nyquist.
        measured: Band that the spectrum shows; None where the spectrum cannot tell.
        size: Voxels of the scan along the axis.
    """
    if stated is None:
        return None
    if measured is None:
        return Verdict.NOT_MEASURED
    near = max(NEAR, NEAR_VOXELS / size)
    return Verdict.CONFIRMED if abs(stated - measured) <= near else Verdict.OVERRULED


def _band(samples: JSON, voxels: JSON) -> float | None:
    """Return a band; None where more was sampled than the scan has, as where the field of view was cut."""
    if not isinstance(samples, int) or not isinstance(voxels, int) or not 0 < samples <= voxels:
        return None
    return samples / voxels


def _three(values: JSON) -> Sequence[JSON]:
    return values if isinstance(values, tuple) and len(values) == 3 else (None, None, None)


def _said(stated: Mapping[str, JSON], name: str) -> bool | None:
    value = stated.get(name)
    return value if isinstance(value, bool) else None
