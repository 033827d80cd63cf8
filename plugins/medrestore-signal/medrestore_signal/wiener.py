"""What models of signals are compared with: Wiener filters that are told the noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.signal import wiener

Array = NDArray[np.floating]

WINDOWS = (3, 5, 7, 9, 11, 15)


def local(noisy: Array, sigma: float, window: int) -> Array:
    """Filter each channel of (C, N) by `scipy.signal.wiener`, told the noise."""
    # A stretch without any spread is divided by zero there; it is then left at its mean.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([np.nan_to_num(wiener(one, window, noise=sigma**2)) for one in noisy])


class Spectral:
    """The Wiener filter of a stationary process: the best linear estimate, from spectra of clean signals.

    In place of spectra it has their transforms, correlations at each lag, so that signals of any length are
    filtered up to their ends.

    Args:
        clean: Signals (C, N) that correlations are measured on.
        together: Whether a channel may learn from the others.
    """

    def __init__(self, clean: Sequence[Array], *, together: bool) -> None:
        self.mean = np.concatenate(list(clean), axis=1).mean(axis=1, keepdims=True)
        channels, longest = len(clean[0]), max(one.shape[1] for one in clean)
        lags = np.zeros((longest, channels, channels))
        for one in clean:
            centred, length = one - self.mean, one.shape[1]
            for lag in range(length):
                lags[lag] += centred[:, : length - lag] @ centred[:, lag:].T
        # Divided by all places, not by those of a lag: so these are correlations that a process can have.
        self.lags = lags / sum(one.shape[1] for one in clean)
        self.together = together
        self._gain = cache(self._gain_of)

    def __call__(self, noisy: Array, sigma: float) -> Array:
        """Filter (C, N), whose white noise has that deviation."""
        channels, length = noisy.shape
        groups = [tuple(range(channels))] if self.together else [(c,) for c in range(channels)]
        estimate = [
            (self._gain(group, length, sigma) @ (noisy - self.mean)[list(group)].ravel()).reshape(-1, length)
            for group in groups
        ]
        return self.mean + np.concatenate(estimate)

    def _gain_of(self, channels: tuple[int, ...], length: int, sigma: float) -> Array:
        """Return the matrix C (C + sigma^2 I)^-1 of some channels, with C their covariance."""
        missing = max(length - len(self.lags), 0)
        lags = np.pad(self.lags, ((0, missing), (0, 0), (0, 0)))[:, channels][..., channels]
        lag = np.arange(length)[None, :] - np.arange(length)[:, None]
        each = np.where((lag >= 0)[..., None, None], lags[np.abs(lag)], lags[np.abs(lag)].swapaxes(-1, -2))
        covariance = each.transpose(2, 0, 3, 1).reshape(2 * (len(channels) * length,))
        noise = sigma**2 * np.eye(len(covariance))
        gain: Array = solve(covariance + noise, covariance, assume_a="pos").T
        return gain
