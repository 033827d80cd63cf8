"""`medrestore train`: from a configuration to a model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrestore.cli.options import limits_threads
from medrestore.cli.output import if_anybody_hears
from medrestore.errors import ConfigError, MedrestoreError

if TYPE_CHECKING:
    from medrestore.cli.progress import Meter
    from medrestore.training import Progress

_EXTRA = ("pydantic", "tomli_w", "matplotlib")


@limits_threads
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, and on what.")],
    work: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="WORK", help="Folder to work in, and go on in; runs/NAME by default."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Model to start from: its name, or its folder.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where to compute.")] = "auto",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates, instead of those in the configuration.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Train a model, or go on training it, and export a folder for `medrestore restore --model`.

    Stop it with Ctrl-C and run the same command again: it goes on from the last checkpoint, as if there had
    been no break.
    """
    _require_extra()
    from medrestore.cli.progress import Meter
    from medrestore.engine.machine.device import choose_device
    from medrestore.training import load_config
    from medrestore.training import train as run

    settings = load_config(config)
    if steps is not None:
        settings = replace(settings, loop=replace(settings.loop, steps=steps))
    name = settings.model.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{config}: [model] has no name; it names the model, and the folder to work in")
    folder = Path("runs") / name if work is None else work
    where = choose_device(device)
    with Meter(f"Training {name}", quiet=quiet) as meter:
        watch = follow(meter, settings.loop.batch)
        spec = run(settings, config.resolve().parent, folder, init=init, device=where, progress=watch)
    if not quiet:
        with if_anybody_hears():
            typer.echo(f"{spec.name}: {folder / 'model'}")
            typer.echo(f"medrestore restore IN -o OUT --model {folder / 'model'}")


def follow(meter: Meter, batch: int) -> Callable[[Progress], None]:
    """Return a callback that shows the running loss, patches a second, time left and the last score."""
    from medrestore.cli.progress import duration

    loss = seconds = score = None

    def show(at: Progress) -> None:
        nonlocal loss, seconds, score
        loss = at.loss if loss is None else 0.98 * loss + 0.02 * at.loss
        # Over the last fifty steps or so: a run that goes on starts its clock anew.
        seconds = at.seconds if seconds is None else 0.95 * seconds + 0.05 * at.seconds
        left = duration(seconds * (at.steps - at.step))
        text = f"step {at.step} of {at.steps}, loss {loss:.4f}, {batch / seconds:.3g} patches/s, {left} left"
        if at.validation_psnr is not None:
            score = at.validation_psnr
            meter.line(f"step {at.step}, validation PSNR {score:.2f} dB, loss {loss:.4f}")
        meter.update(at.step, at.steps, text if score is None else f"{text}, PSNR {score:.2f} dB")

    return show


def _require_extra() -> None:
    """Report missing packages before hours are spent, not after.

    Raises:
        MedrestoreError: A package of the extra `train` is missing.
    """
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise MedrestoreError(
            f"training needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed; run: pip install 'medrestore[train]'"
        )
