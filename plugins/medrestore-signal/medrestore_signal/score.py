"""The table of README.md: `python -m medrestore_signal.score`, some minutes on a core.

The signals are those that the package aeon ships: speech of nine men (UCI Japanese Vowels, CC BY 4.0; 12
coefficients of linear prediction over time) and outlines of leaves (OSU Leaf; distances from the centre).
Speakers 1 to 6 train and 7 to 9 test; the training leaves train and the test leaves test.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from medrestore_signal import wiener
from medrestore_signal.fit import Recipe, fit
from medrestore_signal.model import SignalModel, restore
from medrestore_signal.network import count_weights

Array = NDArray[np.float32]
NOISE = (0.1, 0.3, 1.0)
"""In standard deviations of the signals."""

TEST_SPEAKERS = ("7", "8", "9")
SEED = 7


@dataclass(frozen=True)
class Case:
    """Signals in units of their channels' deviation.

    Attributes:
        name: For people.
        train: (C, N) each.
        test: Of other subjects.
        window: Places that training cuts out.
    """

    name: str
    train: Sequence[Array]
    test: Sequence[Array]
    window: int


def read(path: Path) -> list[tuple[Array, str]]:
    """Read signals and their classes from a file of aeon: channels between colons, the class at the end."""
    lines = path.read_text(encoding="utf-8").partition("@data")[2].split()
    rows = (line.rsplit(":", 1) for line in lines)
    return [
        (np.array([channel.split(",") for channel in row.split(":")], dtype=np.float32), kind)
        for row, kind in rows
    ]


def cases(limit: int) -> list[Case]:
    """Return the signals that aeon ships, of other subjects for the test, at most `limit` of these."""
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise SystemExit("needs the signals of aeon: pip install --no-deps aeon")
    data = Path(spec.origin).parent / "datasets" / "data"
    spoken = [
        row for part in ("TRAIN", "TEST") for row in read(data / f"JapaneseVowels/JapaneseVowels_{part}.ts")
    ]
    heard = [one for one, speaker in spoken if speaker not in TEST_SPEAKERS]
    unheard = [one for one, speaker in spoken if speaker in TEST_SPEAKERS]
    leaves = {
        part: [one for one, _ in read(data / f"OSULeaf/OSULeaf_{part}.ts")] for part in ("TRAIN", "TEST")
    }
    return [
        case("speech, 12 channels", heard, unheard[:: max(len(unheard) // limit, 1)], 256),
        case(
            "outlines of leaves",
            leaves["TRAIN"],
            leaves["TEST"][:: max(len(leaves["TEST"]) // limit, 1)],
            256,
        ),
    ]


def case(name: str, train: Sequence[Array], test: Sequence[Array], window: int) -> Case:
    """Bring every channel to mean 0 and deviation 1 of the training signals."""
    seen = np.concatenate(list(train), axis=1)
    centre, scale = seen.mean(axis=1, keepdims=True), seen.std(axis=1, keepdims=True)
    train, test = ([(one - centre) / scale for one in part] for part in (train, test))
    return Case(name, train, test, window)


def methods(one: Case, model: SignalModel) -> dict[str, Callable[[Array, float], Array]]:
    """Return what is compared, by name; each is told the noise, and fitted on training signals alone."""
    alone, joined = (wiener.Spectral(one.train, together=together) for together in (False, True))
    windows = {sigma: best_window(one.train[:40], sigma) for sigma in NOISE}
    found = {
        "none": lambda noisy, sigma: noisy,
        "`scipy.signal.wiener`": lambda noisy, sigma: wiener.local(noisy, sigma, windows[sigma]),
        "Wiener, true spectra": alone,
        "Wiener, channels together": joined,
        "medrestore-signal": lambda noisy, sigma: restore(model, noisy[None], sigma)[0],
    }
    if len(one.train[0]) == 1:
        del found["Wiener, channels together"]
    return found


def best_window(signals: Sequence[Array], sigma: float) -> int:
    """Return the window of the local filter that leaves least on training signals."""
    left = {
        window: score(signals, sigma, lambda noisy, level, window=window: wiener.local(noisy, level, window))
        for window in wiener.WINDOWS
    }
    return max(left, key=lambda window: left[window])


def score(signals: Sequence[Array], sigma: float, method: Callable[[Array, float], Array]) -> float:
    """Return the signal-to-noise ratio in dB of what a method makes of signals with noise."""
    rng = np.random.default_rng(SEED)
    error = power = 0.0
    for clean in signals:
        noisy = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
        error += float(np.square(method(noisy, sigma) - clean).sum())
        power += float(np.square(clean).sum())
    return 10 * float(np.log10(power / error))


def main(steps: int = 1500, limit: int = 120, seed: int = 0) -> None:
    """Train on each kind of signal, and print the table."""
    torch.set_num_threads(1)
    for one in cases(limit):
        model = fit(one.train, Recipe(steps=steps, window=one.window, seed=seed))
        heading = f"{one.name}: {len(one.train)} to train, {len(one.test)} to test"
        typer.echo(f"\n{heading}, {count_weights(model.network)} weights, {steps} steps, seed {seed}\n")
        typer.echo("| method | " + " | ".join(f"noise {sigma:g}" for sigma in NOISE) + " |")
        typer.echo("|---|" + "---|" * len(NOISE))
        for name, method in methods(one, model).items():
            typer.echo(
                f"| {name} | " + " | ".join(f"{score(one.test, sigma, method):.2f}" for sigma in NOISE) + " |"
            )


if __name__ == "__main__":
    typer.run(main)
