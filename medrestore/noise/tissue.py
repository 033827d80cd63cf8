"""Noise read in smooth tissue: the spectrum of small blocks, noise told from anatomy by its shape.

In the discrete cosine transform of a block, stationary noise has the power of its spectrum, the product of
one window for each axis. Anatomy passed through the same windows and falls with the frequency. So

    power(i, j, k) = sigma0^2 wx(i) wy(j) wz(k) (1 + (r0 / r)^p) + floor

is fitted to the median power over the smoothest blocks, r the spatial frequency. The windows are Fermi's,
close to those of Hann and Gauss too. The floor is noise that taking the magnitude spreads beyond the band.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft, ndimage
from scipy.optimize import least_squares

from medrestore.noise.intensity import FOREGROUND, bright_level
from medrestore.types import BoolArray, Float64Array, RealArray

SIDE = 8
"""Side of a block in voxels."""

STEP = 4
"""Voxels between the starts of blocks."""

MOST = 20_000
"""Number of blocks that are transformed, evenly drawn from all of tissue."""

FEWEST = 60
"""Fewest smooth blocks in which noise is read."""

SMOOTH = 0.2
"""Share of the blocks in which noise is read: the blocks with the least power at low frequencies."""

MIDDLING = (0.4, 0.6)
"""Quantiles of that power between which a block is of middling roughness."""

GROWTH = 3.0
"""Growth of the power at high frequencies up to which it is noise: in unprocessed scans it is 1 to 2.7, in
slices of 6.5 mm that hold only fine anatomy 12."""

MANY = 300
"""Fewest smooth blocks for which growth is judged: with less tissue, the other blocks contain its edge."""

MOSTLY = 0.9
"""Share of tissue in a block of a difference: beyond a mask no voxels differ, which would pass for smooth."""

LOW = 3
"""Sum of indices up to which a coefficient serves to choose blocks; noise is read in the others."""

MEDIAN = 0.4549364
"""Median of a squared standard normal variable."""

COLOURED = 9.0
"""How much worse a white spectrum must fit for a coloured one to be believed: anatomy makes up to 8, the
mildest window that was tried makes 22 and more."""

LEAST_SHARE = 0.6
"""Least part of the deviation at the highest frequencies that is noise: a fit that takes all of the deviation
for anatomy has failed."""

_F = np.linspace(0, 1, 129)
_BASIS = fft.idct(np.eye(SIDE), axis=0, norm="ortho")
_SEEN = np.square(np.abs(np.exp(-1j * np.pi * np.outer(_F, np.arange(SIDE))) @ _BASIS)).T
"""(SIDE, frequencies): how much of each frequency a coefficient of a block sees."""
_SEEN /= _SEEN.sum(axis=1, keepdims=True)

_ORDER = np.add.outer(np.add.outer(np.arange(SIDE), np.arange(SIDE)), np.arange(SIDE))
_USED = np.nonzero(_ORDER > LOW)
_FINE = _ORDER >= 2 * LOW

# Parameters of a fit: log sigma0^2, log r0^p, p, then edge and log width for each axis, log floor / sigma0^2.
_LOWEST = np.array([-60.0, -60, 3, *(0.35, np.log(0.02)) * 3, -12])
_HIGHEST = np.array([60.0, 60, 7, *(1.6, np.log(0.2)) * 3, -3.5])


@dataclass(frozen=True, eq=False)
class FermiWindow:
    """A window along one axis; see `medrestore.physics.kspace.fermi`."""

    edge: float
    width: float

    def power(self, f: RealArray = _F) -> Float64Array:
        """Return the squared factor at frequencies in fractions of Nyquist."""
        return np.asarray(1 / np.square(1 + np.exp(np.clip((f - self.edge) / self.width, -50, 50))))

    def correlation(self, lag: float = 1.0, band: float = 1.0) -> float:
        """Return the correlation of noise in this window over `lag` voxels of a grid that ends at `band`."""
        f = _F * band
        power = self.power(f)
        return float(np.sum(power * np.cos(np.pi * f * lag / band)) / np.sum(power))


def correlations(windows: Sequence[FermiWindow], lags: RealArray) -> Float64Array:
    """Return the correlations of noise in each window over each of the lags, (windows, lags)."""
    return np.array([[window.correlation(lag) for lag in lags] for window in windows])


Windows = tuple[FermiWindow, FermiWindow, FermiWindow]

NO_WINDOW = FermiWindow(1.6, 0.02)


@dataclass(frozen=True, eq=False)
class Tissue:
    """The noise as read in smooth tissue.

    Attributes:
        sigma: Deviation of the noise, in the units of the voxels.
        windows: The window of each axis.
        share: Part of the power at the highest frequencies that is noise rather than anatomy.
        highest: Deviation if all signal at the highest frequencies is noise: an upper bound of sigma.
        coloured: Whether a white spectrum fits clearly worse.
        growth: See `BlockPower`; where growth is large, sigma is lowered.
        blocks: Number of blocks that were read.
    """

    sigma: float
    windows: Windows
    share: float
    highest: float
    coloured: bool
    growth: float
    blocks: int


@dataclass(frozen=True, eq=False)
class BlockPower:
    """The power of blocks of tissue by frequency.

    Attributes:
        smooth: (SIDE, SIDE, SIDE) median over the smooth blocks.
        growth: Power at high frequencies in blocks of middling roughness over that in smooth blocks: 1 for
            noise, which is the same everywhere, more for anatomy.
        blocks: Number of smooth blocks.
    """

    smooth: Float64Array
    growth: float
    blocks: int


def block_power(array: RealArray, bright: RealArray | None = None) -> BlockPower | None:
    """Return the power of blocks of tissue by frequency.

    Args:
        array: (X, Y, Z) voxels.
        bright: Voxels that say where tissue is, where `array` is the difference of two scans; then a block
            is of tissue by at least `MOSTLY`.

    Returns:
        The power; None with too few blocks, none at some frequency, or an axis shorter than a block.
    """
    if min(array.shape) < SIDE:
        return None
    view = sliding_window_view(np.asarray(array, dtype=np.float32), (SIDE,) * 3)[::STEP, ::STEP, ::STEP]
    index = np.argwhere(_is_tissue(view, array, bright))
    # Blocks of a difference hold no anatomy, so more of them may count where there are few.
    part = SMOOTH if bright is None else min(max(SMOOTH, FEWEST / max(len(index), 1)), 1)
    if part * len(index) < FEWEST:
        return None
    if len(index) > MOST:
        index = index[np.random.default_rng(0).choice(len(index), MOST, replace=False)]
    power = fft.dctn(view[tuple(index.T)], axes=(1, 2, 3), norm="ortho", overwrite_x=True)
    np.square(power, out=power)
    rough = power[:, (_ORDER > 0) & (_ORDER <= LOW)].sum(axis=1)
    is_smooth = rough <= np.quantile(rough, part)
    smooth = np.asarray(np.median(power[is_smooth], axis=0) / MEDIAN, dtype=np.float64)
    if not np.all(smooth > 0):
        return None
    low, high = np.quantile(rough, MIDDLING)
    weights = np.where(_FINE, 1 / smooth, 0) / np.count_nonzero(_FINE)
    fine = np.einsum("nijk,ijk->n", power, weights)
    growth = float(np.median(fine[(rough > low) & (rough <= high)]) / max(np.median(fine[is_smooth]), 1e-30))
    blocks = int(np.count_nonzero(is_smooth))
    return BlockPower(smooth, growth if blocks >= MANY else 1.0, blocks)


def _is_tissue(view: RealArray, array: RealArray, bright: RealArray | None) -> BoolArray:
    """Tell which blocks in `view` are tissue; see `block_power`."""
    if bright is None:
        return np.asarray(view.mean(axis=(3, 4, 5)) > FOREGROUND * bright_level(array))
    smooth = ndimage.uniform_filter(np.asarray(bright, dtype=np.float32), 3)
    lit = (smooth > FOREGROUND * bright_level(smooth)).astype(np.float32)
    share = sliding_window_view(lit, (SIDE,) * 3)[::STEP, ::STEP, ::STEP].mean(axis=(3, 4, 5))
    return np.asarray(share > MOSTLY)


def read_tissue(
    found: BlockPower | None, spacing: tuple[float, ...], windows: Windows | None = None
) -> Tissue | None:
    """Read the noise in smooth tissue.

    Args:
        found: The power of blocks of tissue.
        spacing: Voxel sizes, in mm.
        windows: Windows of the noise, where they are known; None to find them.

    Returns:
        The noise; None where there is too little smooth tissue.
    """
    if found is None:
        return None
    fit = _Fit(found.smooth, spacing)
    if windows is not None:
        return fit.as_tissue(fit.best(windows).x, True, found)
    white = fit.best((NO_WINDOW,) * 3)
    # A cost is never below zero, so that beside a good white fit no other can be clearly better.
    free = fit.free() if white.cost > COLOURED else white
    coloured = white.cost - free.cost > COLOURED
    return fit.as_tissue((free if coloured else white).x, coloured, found)


@lru_cache(maxsize=64)
def _seen_through(edge: float, log_width: float) -> Float64Array:
    """Return the log power that coefficients along an axis see; kept, as few windows change in a step."""
    return np.asarray(np.log(_SEEN @ FermiWindow(edge, np.exp(log_width)).power()))


class _Fit:
    """The fit of the model to the power of blocks."""

    def __init__(self, power: Float64Array, spacing: tuple[float, ...]) -> None:
        relative = np.asarray(spacing) / min(spacing)
        axes = np.meshgrid(*(np.arange(SIDE) / SIDE / step for step in relative), indexing="ij")
        self.distance = np.log(np.sqrt(sum(np.square(axis) for axis in axes))[_USED])
        self.furthest = float(np.log(np.sqrt(np.sum((1 - 1 / SIDE) ** 2 / relative**2))))
        self.power = power
        self.log_power = np.log(power[_USED])
        self.base = float(np.log(np.median(power[-3:, -3:, -3:])))

    def model(self, p: Float64Array) -> Float64Array:
        windows = sum(_seen_through(p[3 + 2 * axis], p[4 + 2 * axis])[_USED[axis]] for axis in range(3))
        spectrum = np.logaddexp(p[0], p[1] - p[2] * self.distance)
        return np.asarray(np.logaddexp(windows + spectrum, p[9] + p[0]))

    def best(self, windows: Windows) -> _Found:
        """Fit level and anatomy with windows that are known."""
        known = [part for window in windows for part in (window.edge, np.log(window.width))]
        middle = int(np.argmin(np.abs(_F - 0.6)))
        gain = sum(np.log(window.power()[middle]) for window in windows)

        def whole(free: Float64Array) -> Float64Array:
            return np.concatenate([free[:3], known, free[3:]])

        start = np.array([self.base - gain, self.base - gain - 3, 3.5, -6])
        return self._solve(start, whole, [0, 1, 2, 9])

    def free(self) -> _Found:
        """Fit level, anatomy and windows, from several guesses of the windows."""
        tries = []
        for edge in (1.3, 0.8, 0.55):
            above = 2.0 if edge < 1 else 0.0
            start = [self.base + above, self.base - 2, 3.5, *(edge, np.log(0.1)) * 3, -6]
            tries.append(self._solve(np.array(start), lambda p: p, list(range(10))))
        return min(tries, key=lambda found: found.cost)

    def _solve(
        self, start: Float64Array, whole: Callable[[Float64Array], Float64Array], which: list[int]
    ) -> _Found:
        low, high = _LOWEST[which], _HIGHEST[which]

        def residual(p: Float64Array) -> Float64Array:
            p = whole(p)
            # A slight preference for no window settles what the power leaves open.
            return np.concatenate([self.model(p) - self.log_power, 0.3 * (p[3:9:2] - 1.4)])

        found = least_squares(
            residual,
            np.clip(start, low + 1e-3, high - 1e-3),
            bounds=(low, high),
            loss="soft_l1",
            f_scale=0.1,
            max_nfev=50,
        )
        return _Found(whole(found.x), float(found.cost))

    def as_tissue(self, p: Float64Array, coloured: bool, found: BlockPower) -> Tissue:
        x, y, z = (FermiWindow(float(p[3 + 2 * axis]), float(np.exp(p[4 + 2 * axis]))) for axis in range(3))
        passed = float(np.prod([np.mean(window.power()) for window in (x, y, z)]))
        anatomy = p[1] - p[2] * self.furthest
        share = float(1 / (1 + np.exp(np.clip(anatomy - p[0], -50, 50))))
        corner = [float(np.log((_SEEN @ window.power())[-3:]).mean()) for window in (x, y, z)]
        highest = np.exp(np.log(self.power[-3:, -3:, -3:]).mean() - sum(corner)) * passed
        sigma = max(float(np.exp(p[0] / 2) * passed**0.5), LEAST_SHARE * highest**0.5)
        sigma *= GROWTH / max(found.growth, GROWTH)
        return Tissue(sigma, (x, y, z), share, float(highest**0.5), coloured, found.growth, found.blocks)


@dataclass(frozen=True, eq=False)
class _Found:
    x: Float64Array
    cost: float
