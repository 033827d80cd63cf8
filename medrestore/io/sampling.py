"""What a header states of how its scan was sampled: one form for DICOM and for the JSON files of BIDS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from medrestore.provenance import JSON

Counts: TypeAlias = "tuple[int | None, int | None, int | None]"

NOWHERE: Counts = (None, None, None)

_MOST = 1e6
"""Numbers from here on are damage."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a header states of the sampling, along the array axes; None where it states nothing.

    Attributes:
        acquired: Samples of k-space.
        voxels: What they became when the image was made.
        partial_fourier: Whether a part of k-space was left out.
        filtered: Whether k-space or image went through a filter.
        distortion_corrected: Whether the image was resampled to undo the distortion of the gradients.
        ignored: Names of the elements that are there and make no sense.
    """

    acquired: Counts = NOWHERE
    voxels: Counts = NOWHERE
    partial_fourier: bool | None = None
    filtered: bool | None = None
    distortion_corrected: bool | None = None
    ignored: tuple[str, ...] = ()

    def as_json(self) -> dict[str, JSON]:
        """Return what the details of a source keep."""
        return asdict(self)


class Elements:
    """Looks elements of a header up, and notes the names of those that make no sense.

    Attributes:
        ignored: Those names, in the order in which they were met.
    """

    def __init__(self, get: Callable[[str], object], name: Callable[[str], str] = str) -> None:
        self._get = get
        self._name = name
        self.ignored: list[str] = []

    def numbers(self, key: str, size: int = 1) -> tuple[float, ...] | None:
        """Return as many numbers as are expected; None where there are none, or other things."""
        items = _items(self._get(key))
        if not items:
            return None
        found = tuple(
            float(item)
            for item in items
            if isinstance(item, (int, float)) and not isinstance(item, bool) and -_MOST < item < _MOST
        )
        if len(found) == size == len(items):
            return found
        self.ignore(key)
        return None

    def count(self, key: str) -> int | None:
        """Return a number of samples, 1 or more; None where there is none."""
        found = self.counts(key)
        if found == (0,):
            self.ignore(key)
        return found[0] or None if found else None

    def counts(self, key: str, size: int = 1) -> tuple[int, ...] | None:
        """Return as many whole numbers, 0 or more, as are expected; None where there are none."""
        found = self.numbers(key, size)
        if found is None or all(number >= 0 and number == int(number) for number in found):
            return None if found is None else tuple(int(number) for number in found)
        self.ignore(key)
        return None

    def words(self, key: str) -> frozenset[str]:
        r"""Return the words of a text or of several, in capitals; ``\`` and ``_`` part them too."""
        items = _items(self._get(key))
        if not all(isinstance(item, str) for item in items):
            self.ignore(key)
            return frozenset()
        text = " ".join(str(item) for item in items)
        return frozenset(text.upper().replace("\\", " ").replace("_", " ").split())

    def ignore(self, key: str) -> None:
        """Note that an element makes no sense."""
        name = self._name(key)
        if name not in self.ignored:
            self.ignored.append(name)


def _items(value: object) -> Sequence[object]:
    """Return the values of an element; none where it is absent or empty."""
    if value is None or value in ("", b""):
        return ()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value
    return (value,)
