"""The demonstration behind ``make demo``: restore a noisy scan, as NIfTI and as DICOM, and show the result.

Prints PSNR and SSIM inside the head before and after, and those of DIPY's non-local means; writes the
restored scans and ``before_after.png`` to ``demo_output/``. The noise was added to a clean scan, so the truth
is known.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from dipy.denoise.nlmeans import nlmeans
from rich.console import Console
from rich.table import Table

import medrestore
from medrestore.metrics import evaluate, head_mask, reference_range

HERE = Path(__file__).resolve().parent
CLEAN = HERE / "colin27_crop.nii.gz"
NOISY = HERE / "colin27_crop_rician5.nii.gz"
SERIES = HERE / "dicom_rician5"
LEVEL = 0.05  # sigma of the noise, as a fraction of the 99th percentile of the clean scan

# plane, array axis cut through, letters at the left and right, and at the bottom and top, of the picture
VIEWS = [("sagittal", 0, "PA", "IS"), ("coronal", 1, "RL", "IS"), ("axial", 2, "RL", "PA")]


@dataclass(frozen=True)
class Row:
    """One line of the table: an image on the grid of the reference, and the seconds it took to make."""

    scan: str
    title: str
    image: np.ndarray
    seconds: float | None = None


def to_ras(volume: medrestore.Volume) -> np.ndarray:
    """The voxels with axes to the right, front and top: (X, Y, Z), the same for NIfTI and DICOM."""
    image = nib.Nifti1Image(np.asarray(volume.array, dtype=np.float32), volume.geometry.affine)
    return np.asanyarray(nib.as_closest_canonical(image).dataobj)


def restore(scan: str, path: Path, out: Path) -> tuple[Row, Row]:
    """Read, restore and write one scan with nothing but the public API; return before and after."""
    noisy = medrestore.read(path).as_modality("MR")  # the NIfTI file does not say it
    started = time.perf_counter()
    result = medrestore.restore(noisy)
    seconds = time.perf_counter() - started
    medrestore.write(result.volume, out / f"restored_{scan.lower()}.nii.gz", overwrite=True)
    return Row(scan, "before", to_ras(noisy)), Row(scan, "after: medrestore", to_ras(result.volume), seconds)


def non_local_means(noisy: np.ndarray, sigma: float) -> Row:
    """DIPY's filter with its best radii here, told the true noise level (medrestore estimates it)."""
    started = time.perf_counter()
    image = nlmeans(noisy, sigma, rician=True, patch_radius=2, block_radius=2)
    return Row("NIfTI", "DIPY NLM", image, time.perf_counter() - started)


def table(rows: list[Row], reference: np.ndarray) -> Table:
    """PSNR and SSIM of every row inside the head."""
    head, data_range = head_mask(reference), reference_range(reference)
    result = Table(title="Colin27, Rician noise of 5 %, inside the head")
    for name in ("scan", "image"):
        result.add_column(name)
    for name in ("PSNR (dB)", "SSIM", "time (s)"):
        result.add_column(name, justify="right")
    for row in rows:
        found = evaluate(row.image, reference, data_range=data_range, mask=head)
        psnr, ssim = found["psnr"].value, found["ssim"].value
        result.add_row(
            row.scan,
            row.title,
            "-" if psnr is None else f"{psnr:.2f}",
            "-" if ssim is None else f"{ssim:.4f}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
        )
    return result


def slice_of(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice of a RAS volume as a picture, its first row on top.

    Radiological: the patient's right is on the left; in a sagittal slice the back is on the left.
    """
    plane = np.take(volume, volume.shape[axis] // 2, axis=axis)
    return plane[:, ::-1].T if axis == 0 else plane[::-1, ::-1].T


def picture(before: np.ndarray, after: np.ndarray, reference: np.ndarray, path: Path) -> None:
    """Three planes by four columns: before, after, reference, and the error that is left."""
    top = float(np.percentile(reference, 99.5))
    error_top = 0.15 * top
    columns: list[tuple[str, Callable[[int], np.ndarray]]] = [
        ("before", lambda axis: slice_of(before, axis)),
        ("after", lambda axis: slice_of(after, axis)),
        ("reference", lambda axis: slice_of(reference, axis)),
        ("|after - reference|", lambda axis: slice_of(np.abs(after - reference), axis)),
    ]
    figure, grid = plt.subplots(3, 4, figsize=(13, 10), layout="constrained", facecolor="black")
    for axes_row, (plane, axis, across, upwards) in zip(grid, VIEWS, strict=True):
        for axes, (title, view) in zip(axes_row, columns, strict=True):
            residual = title.startswith("|")
            shown = axes.imshow(
                view(axis),
                cmap="inferno" if residual else "gray",
                vmin=0,
                vmax=error_top if residual else top,
                interpolation="nearest",
            )
            _letters(axes, across, upwards)
            if axis == VIEWS[0][1]:
                axes.set_title(title, color="white", fontsize=14)
            if residual:
                bar = figure.colorbar(shown, ax=axes, shrink=0.8)
                bar.ax.tick_params(colors="white")
        axes_row[0].set_ylabel(plane, color="white", fontsize=13)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _letters(axes: plt.Axes, across: str, upwards: str) -> None:
    axes.set(xticks=[], yticks=[])
    style = {"color": "#ffd75f", "fontsize": 11, "transform": axes.transAxes}
    axes.text(0.02, 0.5, across[0], ha="left", va="center", **style)
    axes.text(0.98, 0.5, across[1], ha="right", va="center", **style)
    axes.text(0.5, 0.02, upwards[0], ha="center", va="bottom", **style)
    axes.text(0.5, 0.98, upwards[1], ha="center", va="top", **style)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="default: demo_output")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    console = Console()

    clean = medrestore.read(CLEAN)
    reference = to_ras(clean)
    rows = [*restore("NIfTI", NOISY, out), *restore("DICOM", SERIES, out)]
    before, after = rows[0].image, rows[1].image
    rows.insert(2, non_local_means(before, LEVEL * float(np.percentile(reference, 99))))
    console.print(table(rows, reference))
    picture(before, after, reference, out / "before_after.png")
    console.print(f"Wrote {out}/before_after.png, restored_nifti.nii.gz and restored_dicom.nii.gz")


if __name__ == "__main__":
    main()
