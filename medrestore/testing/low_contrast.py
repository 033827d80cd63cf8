"""FDA's test of low contrast in CT: are faint inserts as easy to find after restoration as before?

The phantom is that of DIDSR's LCD-CT (CC0): images with and without four inserts, at several doses, filtered
back projection, in the layout of its repository. It is not part of this package; give its folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medrestore.errors import InputError
from medrestore.metrics.observer import area_under_curve
from medrestore.testing.checks import Check
from medrestore.testing.outcome import Figure, Outcome
from medrestore.testing.scenes import is_ct
from medrestore.testing.trial import DRAWS, LEVEL, Trial
from medrestore.types import BoolArray, Float64Array, FloatArray, Modality, RealArray, Task
from medrestore.volume import Volume

PIXELS = 256
"""Along both axes of an image."""

PIXEL_MM, SLICE_MM = 0.64, 2.5
"""Of the phantom of 150 mm; what the images do not say of their slices is assumed."""

OFFSET = 1000
"""Stored less HU."""

FAINT = 60
"""HU that an insert may differ from water by."""

BESIDE = 24
"""Pixels around the inserts that are restored with them."""

MARGIN = 0.05
"""Area under the curve that may be lost: non-inferiority."""

Images = dict[bool, FloatArray]
"""(N, X, Y) in HU, with inserts (True) and without."""

Scores = tuple[Float64Array, Float64Array]
"""Of images without an insert, and of those with it."""


@dataclass(frozen=True)
class Insert:
    """One insert.

    Attributes:
        contrast: In HU.
        box: Where it is looked for.
        template: Its profile in the box, of mean 0.
    """

    contrast: float
    box: tuple[slice, slice]
    template: Float64Array


def _low_contrast(trial: Trial) -> Outcome:
    if not is_ct(trial.spec) or trial.spec.task is not Task.DENOISE:
        return Outcome(skipped="for denoising of CT alone")
    if trial.spec.series is not None:
        return Outcome(skipped="the images of the phantom are no series")
    if trial.options.fda is None:
        return Outcome(skipped="the folder of FDA's low-contrast phantom was not given")
    inserts, doses = read_inserts(trial.options.fda), read_doses(trial.options.fda)
    region, figures, before, after = region_of(inserts), [], [], []
    for dose, images in doses.items():
        restored = restored_images(trial, images, region)
        for insert in inserts:
            scores = [observed(kind, insert) for kind in (images, restored)]
            areas = [area_of(one) for one in scores]
            before.append(scores[0])
            after.append(scores[1])
            name = f"{insert.contrast:.0f} HU at {dose} % dose: area under the curve"
            figures += [Figure(f"{name}, before", areas[0]), Figure(f"{name}, after", areas[1])]
    figures.insert(0, _difference(before, after, trial.rng(5)))
    return Outcome(tuple(figures))


def read_inserts(folder: Path) -> list[Insert]:
    """Read where the inserts are.

    Raises:
        InputError: The folder does not have the truth of the phantom.
    """
    truth = _image(_only(folder, "ground_truth.raw"), "<u2").astype(np.float64) - OFFSET
    body = ndimage.binary_erosion(ndimage.binary_fill_holes(truth > -FAINT), iterations=5)
    labels, count = ndimage.label(body & (truth != 0) & (abs(truth) < FAINT))
    found = []
    for number in range(1, count + 1):
        inside: BoolArray = labels == number
        x, y = (round(at) for at in ndimage.center_of_mass(inside))
        reach = int(np.ceil(np.sqrt(inside.sum() / np.pi))) + 3
        box = (slice(x - reach, x + reach + 1), slice(y - reach, y + reach + 1))
        profile = truth[box] * inside[box]
        contrast = float(np.median(truth[inside & (truth > truth[inside].max() / 2)]))
        found.append(Insert(contrast, box, profile - profile.mean()))
    if not found:
        raise InputError(f"{folder}: no insert in ground_truth.raw; expected the low-contrast phantom")
    return sorted(found, key=lambda one: one.contrast)


def read_doses(folder: Path) -> dict[int, Images]:
    """Read (N, X, Y) images in HU by dose in per cent, without (False) and with (True) inserts.

    Raises:
        InputError: There are none, or not of both kinds.
    """
    found = {}
    for path in sorted(folder.rglob("dose_*")):
        if (match := re.fullmatch(r"dose_(\d+)", path.name)) is None:
            continue
        files = {kind: sorted(path.glob(f"signal_{kind}/*.raw")) for kind in ("absent", "present")}
        if not all(files.values()):
            raise InputError(f"{path}: no images; expected signal_absent/*.raw and signal_present/*.raw")
        found[int(match[1])] = {
            kind == "present": np.stack([_image(one, "<i2") for one in some]).astype(np.float32) - OFFSET
            for kind, some in files.items()
        }
        if len(files["absent"]) != len(files["present"]):
            raise InputError(f"{path}: not as many images with inserts as without; expected pairs")
    if not found:
        raise InputError(f"{folder}: no folder dose_NNN; expected those of the low-contrast phantom")
    return found


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if len(found) != 1:
        raise InputError(f"{folder}: {len(found)} files {name}; expected one, of the low-contrast phantom")
    return found[0]


def _image(path: Path, kind: str) -> FloatArray:
    pixels = np.fromfile(path, kind)
    if pixels.size != PIXELS**2:
        raise InputError(f"{path}: {pixels.size} pixels; expected {PIXELS} x {PIXELS} of 16 bits")
    return np.asarray(pixels.reshape(PIXELS, PIXELS))


def restored_images(trial: Trial, images: Images, region: tuple[slice, slice]) -> Images:
    """Restore images as slices of a scan without inserts but in one slice, or in two that are far apart.

    In a stack of images with inserts these would be cylinders, and a mean over slices the best of filters.
    """
    absent, present = images[False], images[True]
    apart = len(present) // 2
    found = {False: _of_stack(trial, absent, region), True: present.copy()}
    for first in range(apart + len(present) % 2):
        places = [place for place in (first, first + apart) if place < len(present)]
        stack = absent.copy()
        stack[places] = present[places]
        found[True][places] = _of_stack(trial, stack, region)[places]
    return found


def _of_stack(trial: Trial, images: FloatArray, region: tuple[slice, slice]) -> FloatArray:
    """Return (N, X, Y) images, restored in a part of them as the slices of one scan."""
    affine = np.diag([PIXEL_MM, PIXEL_MM, SLICE_MM, 1.0])
    part = np.ascontiguousarray(np.moveaxis(images[:, *region], 0, -1))
    restored = trial.restore([Volume.from_array(part, affine, Modality.CT)]).volume.array
    result = images.copy()
    result[:, *region] = np.moveaxis(restored, -1, 0)
    return result


def region_of(inserts: Sequence[Insert]) -> tuple[slice, slice]:
    """Return the part of an image that holds all inserts, and some water around them."""
    x, y = (
        slice(
            max(min(one.box[axis].start for one in inserts) - BESIDE, 0),
            max(one.box[axis].stop for one in inserts) + BESIDE,
        )
        for axis in range(2)
    )
    return x, y


def observed(images: Images, insert: Insert) -> Scores:
    """Return what a matched filter (no prewhitening) sees in images without and with an insert."""
    absent, present = (
        np.einsum("nxy,xy->n", images[kind][:, *insert.box], insert.template) for kind in (False, True)
    )
    return absent, present


def area_of(scores: Scores) -> float:
    """Return the area under the receiver operating characteristic: how often an insert scores higher."""
    absent, present = scores
    return area_under_curve(present, absent)


def area_change(
    before: Sequence[Scores], after: Sequence[Scores], rng: np.random.Generator, draws: int
) -> tuple[float, tuple[float, float]]:
    """Return the mean change of the area, and its interval from drawing images anew.

    Args:
        before: Scores of one or more inserts and doses, all of as many images.
        after: The same, of what was restored.
        rng: Draws the images.
        draws: How often.
    """
    counts = [len(score) for score in before[0]]

    def change(which: Sequence[RealArray]) -> float:
        areas = [
            np.mean([area_of((absent[which[0]], present[which[1]])) for absent, present in kind])
            for kind in (before, after)
        ]
        return float(areas[1] - areas[0])

    drawn = [change([rng.integers(n, size=n) for n in counts]) for _ in range(draws)]
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return change([np.arange(n) for n in counts]), (float(low), float(high))


def _difference(before: Sequence[Scores], after: Sequence[Scores], rng: np.random.Generator) -> Figure:
    measured, interval = area_change(before, after, rng, DRAWS // 4)
    name = "area under the curve, change over all inserts and doses"
    return Figure(name, measured, "", interval, -MARGIN)


LOW_CONTRAST: Sequence[Check] = (
    Check(
        "low-contrast",
        "Are faint inserts of FDA's phantom as easy to find afterwards as before?",
        "The 90 % interval of the change of the area under the curve, over all inserts and doses, lies above "
        "-0.05: non-inferiority.",
        _low_contrast,
    ),
)
