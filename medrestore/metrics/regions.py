"""Where an image is judged without a reference: head, air, and two classes of intensity in the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medrestore.errors import InputError
from medrestore.metrics.checks import check_image, check_mask
from medrestore.metrics.mask import otsu_threshold
from medrestore.types import BoolArray

MARGIN = 3  # voxels between head and air; blur and interpolation carry signal as far
SMOOTHING = 1.0  # voxels; a threshold in the voxels themselves would part the noise, not the tissues


@dataclass(frozen=True, eq=False, kw_only=True)
class Regions:
    """The masks of an evaluation without a reference, each (X, Y, Z).

    Attributes:
        head: Foreground, and where edges are looked for.
        air: Voxels outside the body that are no padding; None where there are none.
        first: One of the two tissues between which contrast is measured; None where they are not known.
        second: The other.
        tissues: What the two are and where they come from, for the definitions.
    """

    head: BoolArray
    air: BoolArray | None
    first: BoolArray | None
    second: BoolArray | None
    tissues: str


CLASSES = "the darker and the brighter class inside the head by Otsu's threshold, no segmentation of tissues"


def air_mask(image: npt.ArrayLike, *, head: npt.ArrayLike) -> BoolArray:
    """The voxels outside a head, three voxels away from it, that were measured.

    Padding, as of defacing, is where all 3 x 3 x 3 voxels have one value, and is left out. Air whose noise
    was cut off at one value is left out with it.

    Args:
        image: (X, Y, Z), any unit; to compare two images, the one as it was acquired.
        head: Voxels of the head (the body), same shape.

    Returns:
        Boolean array of the same shape; it may be empty.
    """
    array = check_image(image)
    inside = _mask(head, array.shape)
    near = ndimage.binary_dilation(inside, iterations=MARGIN)
    constant = ndimage.maximum_filter(array, 3) == ndimage.minimum_filter(array, 3)
    air: BoolArray = ~near & ~constant
    return air


def two_classes(image: npt.ArrayLike, *, head: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    """The darker and the brighter voxels of a head: classes of intensity, not a segmentation of tissues.

    Smooths with a Gaussian of one voxel, splits the voxels in the head by Otsu's threshold, and takes one
    voxel off each class, where it touches the other or the head ends.

    Args:
        image: (X, Y, Z), any unit; to compare two images, the one with the least noise.
        head: Voxels of the head, same shape.

    Returns:
        Boolean arrays of the same shape.

    Raises:
        InputError: The head is one class: constant, or too small for two.
    """
    array = check_image(image)
    inside = _mask(head, array.shape)
    smooth = ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), SMOOTHING)
    if np.ptp(smooth[inside]) == 0:
        raise InputError("the head has one value everywhere; it has no two classes")
    bright = smooth > otsu_threshold(smooth[inside])
    darker, brighter = (ndimage.binary_erosion(inside & one, border_value=1) for one in (~bright, bright))
    if not (darker.any() and brighter.any()):
        raise InputError("the head has no two classes of intensity that are wider than two voxels")
    return darker, brighter


def find_regions(
    image: npt.ArrayLike,
    *,
    acquired: npt.ArrayLike,
    head: npt.ArrayLike,
    body: npt.ArrayLike | None = None,
) -> Regions:
    """Return the regions of a head where no masks of air and tissues are given.

    Args:
        image: (X, Y, Z), any unit; the classes are found in it.
        acquired: The image as it was acquired, same shape, which tells air from padding; may be the same.
        head: Voxels to judge, same shape.
        body: Voxels that are no air, same shape, where `head` is a part of the head, such as the brain; None
            for those of `head`.
    """
    inside = _mask(head, check_image(image).shape)
    air = air_mask(acquired, head=inside if body is None else inside | _mask(body, inside.shape))
    try:
        first, second = two_classes(image, head=inside)
    except InputError as error:
        return Regions(
            head=inside, air=air if air.any() else None, first=None, second=None, tissues=str(error)
        )
    return Regions(head=inside, air=air if air.any() else None, first=first, second=second, tissues=CLASSES)


def _mask(mask: npt.ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    selected = check_mask(mask, shape)
    if selected is None:
        raise InputError("a mask of the head is needed; give one of True for all voxels")
    return selected
