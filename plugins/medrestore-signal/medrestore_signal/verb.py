"""`medrestore signal`: train on arrays, restore arrays, make some from noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from medrestore.errors import InputError, OutputError, reason_of
from medrestore_signal.fit import Recipe, fit
from medrestore_signal.model import load, sample
from medrestore_signal.model import restore as restored

app = typer.Typer(no_args_is_help=True, help="Take noise out of signals: arrays (B, C, ...) in .npy files.")

Output = Annotated[Path, typer.Option("-o", "--output", help="File to write, which must not be there yet.")]
Model = Annotated[Path, typer.Option("--model", help="What `medrestore signal train` wrote.")]


@app.command()
def train(
    signals: Annotated[Path, typer.Argument(help="Clean signals, (B, C, ...).")],
    output: Output,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimiser.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model.")] = 0,
) -> None:
    """Train a model on clean signals, in minutes."""
    _check_new(output)
    every = max(steps // 10, 1)
    fit(
        list(_read(signals)),
        Recipe(steps=steps, seed=seed),
        lambda step, loss: (
            typer.echo(f"step {step}: loss {loss:.3f}", err=True) if step % every == 0 else None
        ),
    ).save(output)


@app.command()
def restore(
    signals: Annotated[Path, typer.Argument(help="Noisy signals, (B, C, ...).")],
    output: Output,
    model: Model,
    sigma: Annotated[float, typer.Option(min=1e-12, help="Of the noise, in the units of the signals.")],
) -> None:
    """Write the posterior mean of noisy signals."""
    _check_new(output)
    _save(output, restored(load(model), _read(signals), sigma))


@app.command()
def generate(
    output: Output,
    model: Model,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    length: Annotated[int, typer.Option(min=1, help="Along each axis.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same signals.")] = 0,
) -> None:
    """Make signals from noise alone."""
    _check_new(output)
    made = load(model)
    shape = (count, made.shape.channels, *(length,) * made.shape.axes)
    _save(output, sample(made, shape, seed=seed))


def _check_new(path: Path) -> None:
    if path.exists():
        raise _there(path)


def _there(path: Path) -> OutputError:
    return OutputError(f"{path}: is there already; remove it, or name another file")


def _save(path: Path, array: NDArray[np.float32]) -> None:
    """Write an array to the very name: numpy, given a name, adds an ending, and replaces what is there."""
    try:
        with path.open("xb") as stream:
            np.save(stream, array)
    except FileExistsError as error:
        raise _there(path) from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no array of numpy: {reason_of(error)}; expected a .npy file") from error
    if not isinstance(array, np.ndarray) or array.ndim < 3 or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected one array of real numbers, (B, C, ...), such as (8, 1, 4000)")
    return array.astype(np.float32)
