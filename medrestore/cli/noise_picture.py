"""The picture of `medrestore noise`: the spectrum along each axis, where it ends, and what fits it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrestore.errors import ConfigError, OutputError
from medrestore.paths import resolved

if TYPE_CHECKING:
    from medrestore.noise import AxisNoise, NoiseModel
    from medrestore.types import Float64Array, RealArray

_RANGE = 1e-9
"""Powers below this share of the largest are not drawn."""

_SEEN = 0.05
"""Where the squared window is lower than this, the height of the noise is not read."""


def check_picture(path: Path, scan: Path, overwrite: bool) -> None:
    """Refuse a picture that could not be written, before the scan is read.

    Args:
        path: Of the picture.
        scan: What is read, which no picture may replace.
        overwrite: Whether a picture that is there may be replaced.

    Raises:
        ConfigError: matplotlib is not installed, or the name does not end in .png.
        OutputError: A file is there and may not be replaced, it is the scan, or the folder is missing.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: the name of the picture ends in .png")
    if resolved(path) == resolved(scan):
        raise OutputError(f"{path}: is the scan, which no picture replaces; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already and is left as it is; choose another name or --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "--picture needs matplotlib, which is not installed; run: pip install 'medrestore[demo]'"
        )


def save_picture(array: RealArray, model: NoiseModel, path: Path, overwrite: bool) -> None:
    """Draw the power of detail in tissue over the frequency, for each axis of more than one voxel.

    Args:
        array: (X, Y, Z) voxels.
        model: What was measured in them.
        path: Of the picture, a PNG; it appears whole or not at all.
        overwrite: Replace a file that is there.

    Raises:
        OutputError: The file exists and may not be replaced, or cannot be written.
    """
    from matplotlib.figure import Figure

    from medrestore.io import atomic_write
    from medrestore.noise.band import axis_spectra

    figure = Figure(figsize=(12, 4), layout="constrained")
    parts = figure.subplots(1, 3, sharex=True, sharey=True)
    spectra = axis_spectra(array)
    largest = max(float(power.max()) for power in spectra) or 1.0
    least = min(float(power[power > _RANGE * largest].min(initial=largest)) for power in spectra) / largest
    parts[0].set(xlim=(0, 1.02), xticks=(0, 0.25, 0.5, 0.75, 1), ylabel="power / largest")
    parts[0].set(yscale="log", ylim=(least / 3, 2))
    for name, part, axis, power, size in zip("ijk", parts, model.axes, spectra, array.shape, strict=True):
        part.set(title=f"{name}: {axis.size} of {size} voxels measured", xlabel="frequency / Nyquist")
        _draw(part, axis, power / largest)
    figure.legend(*parts[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    with atomic_write(path, overwrite) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _draw(part: Any, axis: AxisNoise, power: Float64Array) -> None:
    import numpy as np

    f = np.linspace(0, 1, len(power))
    drawn = np.where(power > _RANGE, power, np.nan)
    part.plot(f, drawn, color="tab:blue", linewidth=1, label="detail in tissue")
    part.axvline(axis.band, color="tab:red", linewidth=1, label="end of the band")
    part.plot(
        *_fitted(axis, f, power), "--", color="black", linewidth=1, label="window of the noise, squared"
    )


def _fitted(axis: AxisNoise, f: Float64Array, power: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return frequencies up to the end of the band, and the squared window at the height of the noise there.

    The height is that of the power in the upper half of the band, where there is least anatomy.
    """
    import numpy as np

    from medrestore.noise.tissue import FermiWindow

    inside = f <= axis.band
    window = FermiWindow(axis.edge, axis.width).power(f[inside] / axis.band)
    upper = (f[inside] >= axis.band / 2) & (window > _SEEN)
    height = float(np.median(power[inside][upper] / window[upper])) if upper.any() else 1.0
    return f[inside], height * window
