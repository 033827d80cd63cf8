"""The results of claims.py, ct_claims.py and superres_claims.py as Markdown."""

from __future__ import annotations

from typing import Any

Columns = dict[str, tuple[str, str]]
Rows = list[dict[str, Any]]

HARM = {
    "noise": ("noise", "{:.1f} %"),
    "found": ("noise found", "{:.2f} %"),
    "mean": ("mean change", "{:.3f} %"),
    "rms": ("root mean square", "{:.3f} %"),
    "p99": ("99th percentile", "{:.2f} %"),
    "max": ("largest", "{:.2f} %"),
}
CT_HARM = {
    "noise": ("noise (HU)", "{:g}"),
    "found": ("noise found (HU)", "{:.1f}"),
    "mean": ("mean change (HU)", "{:.2f}"),
    "rms": ("root mean square", "{:.2f}"),
    "p99": ("99th percentile", "{:.1f}"),
    "max": ("largest", "{:.1f}"),
}
NOTHING = {
    "case": ("scan", "{}"),
    "found": ("level found or given", "{:.2f}"),
    "std_in": ("deviation before", "{:.2f}"),
    "std_out": ("after", "{:.3f}"),
    "extreme": ("farthest from the median", "{:.2f}"),
    "blob_in": ("largest blob before (voxels)", "{}"),
    "blob_out": ("after", "{}"),
}
BLOB = "A blob is a connected set (faces, edges, corners) of voxels more than one"
KEPT = {
    "count": ("spheres", "{}"),
    "mean": ("kept", "{:.2f}"),
    "p10": ("10th percentile", "{:.2f}"),
    "bright": ("bright", "{:.2f}"),
    "dark": ("dark", "{:.2f}"),
}
SPHERES = {
    "level": ("noise", "{}"),
    "cnr": ("CNR", "{:g}"),
    "diameter": ("diameter (voxels)", "{}"),
    **KEPT,
}
KEEPING = (
    "Kept: the mean over the core of a sphere (voxels wholly inside) of the result minus the result of the "
    "same scan and noise without spheres, over the contrast. Mean over spheres, and the 10th percentile: a "
    "tenth kept less."
)
RESOLVED = {
    "case": ("slices", "{}"),
    "contrast": ("contrast", "{:g} %"),
    "diameter": ("diameter (voxels)", "{}"),
    **KEPT,
    "peer": ("kept by cubic spline", "{:.2f}"),
}
SPEED = {
    "scan": ("scan", "{}"),
    "voxels_per_second": ("voxels/s", "{:.3g}"),
    "load": ("model load (s)", "{:.1f}"),
    "whole": ("all (s)", "{:.1f}"),
    "nlm": ("NLM (s)", "{:.1f}"),
    "ratio": ("ratio", "{:.2f}"),
}


def mr_page(report: dict[str, Any], size: int) -> str:
    """The page of claims.py; `size` is the side of the crop in voxels."""
    volume = report["setup"]["volume"]
    return _page(
        report["setup"],
        f"Scan: the middle {size} voxels of each axis of `{volume}`.",
        "## Clean scans",
        "Rician noise of this level (per cent of the 99th percentile) added to the scan, the level "
        "estimated; change of the voxels inside the head, in per cent of its range (maximum - minimum).",
        table(HARM, report["harm"]),
        "## Nothing in the scan",
        f"{size} voxels cubed, noise of standard deviation sigma = 5, the constant is 100. All but voxels in "
        f"units of sigma. {BLOB} sigma off the median.",
        table(NOTHING, report["nothing"]),
        "## Small spheres",
        "Bright and dark spheres in tissue, before the noise; contrast = CNR x sigma. Level given. "
        + KEEPING,
        table(SPHERES, [row | {"level": f"{row['level']:g} %"} for row in report["spheres"]]),
        "## Speed",
        "Voxels a second in one evaluation, and everything from loading the model; NLM is DIPY's at radii 2 "
        "and 2. Other work may have run on the machine: the ratio says more than the times.",
        table(SPEED, report["speed"]),
    )


def ct_page(report: dict[str, Any], shape: tuple[int, ...]) -> str:
    """The page of ct_claims.py; `shape` is that of the crop in voxels."""
    size = " x ".join(map(str, shape))
    return _page(
        report["setup"],
        f"Scan: {size} voxels from the middle of a computed body without noise "
        "(`medrestore.training.anatomy`, a seed that no training run has; its kind is that of training). "
        "Noise: as in [ct](ct-quick.md).",
        "## Clean scans",
        "Noise of this level in soft tissue added, soft kernel, the level estimated; change of the voxels "
        "inside the body.",
        table(CT_HARM, report["harm"]),
        "## Nothing in the scan",
        f"{size} voxels of air or water. All but voxels in units of the noise in water, or of 1 HU where "
        f"there is none. {BLOB} unit off the median. Level estimated. Noise of air is cut off at -1024 HU.",
        table(NOTHING, report["nothing"]),
        "## Small spheres",
        "Bright and dark spheres in soft tissue, before the noise; contrast = CNR x level. Level given. "
        + KEEPING,
        table(SPHERES, report["spheres"]),
    )


def superres_page(report: dict[str, Any]) -> str:
    """The page of superres_claims.py."""
    setup = report["setup"]
    unit = "the 99th percentile" if setup["modality"] == "MR" else "the attenuation of water"
    flat, sigma = ("100", "5") if setup["modality"] == "MR" else ("water", "20 HU")
    size = " x ".join(map(str, setup["volume"]["shape"]))
    return _page(
        setup,
        f"Scan: `{setup['volume']['name']}`, {setup['volume']['crop']} ({size}); slices along axis "
        f"{setup['axis']}, boxcar, without a gap or noise but what the scan has.",
        "## Small spheres",
        f"Bright and dark spheres in tissue, before the slices are made; contrast in per cent of {unit}. A "
        "slice of four voxels holds a sphere of three. " + KEEPING,
        table(RESOLVED, report["spheres"]),
        "## Nothing in the slices",
        f"64 x 64 x 16 slices, to 64 voxels cubed; the constant is {flat}, the noise Gaussian, sigma = "
        f"{sigma}. All but voxels in units of sigma. {BLOB} sigma off the median.",
        table(NOTHING, report["nothing"]),
    )


def _page(setup: dict[str, Any], about: str, *parts: str) -> str:
    made = (
        f"Made by `{setup['command']}` on {setup['date']}, weights `{setup['sha256'][:16]}`; raw numbers are "
        f"in the JSON file beside it. {about} Machine: {setup['cpu']}, {setup['cores']} cores, threads: "
        f"{setup['threads']}."
    )
    return "\n\n".join([f"# What {setup['model']} does not do", made, *parts]) + "\n"


def table(columns: Columns, rows: Rows) -> str:
    """Rows of numbers as a table; what is None is left empty."""
    lines = ["| " + " | ".join(title for title, _ in columns.values()) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = ["" if row[key] is None else form.format(row[key]) for key, (_, form) in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
