"""Measure estimators of the noise level on noise of known level and colour.

    python -m benchmarks.noise.run                           # Colin27 of Debian's mricron-data and its middle
    python -m benchmarks.noise.run --crop 96                    # the middle alone, which has little air
    python -m benchmarks.noise.run --volume scan.nii.gz --colours white,hann --levels 5 --methods ours,piesno
    python -m benchmarks.noise.run --quick                      # 64 voxels cubed from the middle: minutes

White noise and noise of a colour, of the same level everywhere, are drawn again and again, to see how often a
map is found all the same. Writes noise.md and noise.json (noise-quick with --quick) to the folder given with
--out.
"""

# ruff: noqa: PLC0415  an estimator that is not installed must not keep the others from being measured

from __future__ import annotations

import argparse
import importlib
import importlib.util
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.denoise.methods import Method
from benchmarks.harness.common import (
    QUICK,
    Truth,
    add_common_arguments,
    check_volumes,
    describe_machine,
    load_truth,
    middle,
    middle_box,
    write_page,
)
from benchmarks.noise import tables as noise_tables
from medrestore.noise import NoiseModel, measure_noise
from medrestore.noise.map import estimate_noise_map
from medrestore.physics.kspace import crop_band, lag_correlations
from medrestore.physics.mr_colour import COLOURS, Draw, simulate

MAP_SIDE = 96  # voxels of each axis in which maps are looked for
MAP_COLOURS = ("white", "hann")
MAP_LEVELS = 10  # noise of 1, 2, ... %, one seed after another

Spacing = tuple[float, ...]
Estimate = Callable[[np.ndarray, Spacing], float | NoiseModel]


def _ours() -> Estimate:
    return measure_noise


def _skimage() -> Estimate:
    from skimage.restoration import estimate_sigma

    return lambda voxels, _: float(estimate_sigma(voxels))


def _dipy() -> Estimate:
    from dipy.denoise.noise_estimate import estimate_sigma

    return lambda voxels, _: float(np.mean(estimate_sigma(voxels, N=1)))


def _piesno() -> Estimate:
    from dipy.denoise.noise_estimate import piesno

    return lambda voxels, _: float(piesno(voxels, N=1, return_mask=False))


def _deepinv(name: str) -> Estimate:
    """Estimate plane by plane: the estimators are for images in two dimensions."""
    import torch

    estimator = getattr(_deepinv_estimators(), name)()

    def run(voxels: np.ndarray, _: Spacing) -> float:
        planes = torch.from_numpy(np.ascontiguousarray(voxels.transpose(2, 0, 1)))[:, None]
        return float(np.nanmedian(estimator(planes).numpy()))  # of some planes it is the root of less than 0

    return run


@cache
def _deepinv_estimators() -> ModuleType:
    """Import that module alone: all of deepinv needs a torchvision made for the very build of torch."""
    spec = importlib.util.find_spec("deepinv")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'deepinv'")
    home = Path(spec.origin).parent
    for part in ("", "models", "utils"):
        package = ModuleType(f"deepinv.{part}".rstrip("."))
        package.__path__ = [str(home / part)]
        sys.modules.setdefault(package.__name__, package)
    return importlib.import_module("deepinv.models.noise_level_estimation")


_PLANES = "of each plane across the third axis, median of those that have one"
ESTIMATORS: dict[str, Method] = {
    "ours": Method("medrestore", "medrestore", "`medrestore.noise.measure_noise`", _ours),
    "skimage": Method(
        "scikit-image", "scikit-image", "`estimate_sigma`: median of the finest wavelets", _skimage
    ),
    "dipy": Method("DIPY", "dipy", "`estimate_sigma`, N = 1: deviation from the neighbours", _dipy),
    "piesno": Method(
        "DIPY PIESNO",
        "dipy",
        "`piesno`, N = 1: made for the air of series; planes across the third axis stand for their volumes",
        _piesno,
    ),
    "deepinv-wavelet": Method(
        "deepinv wavelet",
        "deepinv",
        f"`WaveletNoiseEstimator` {_PLANES}",
        lambda: _deepinv("WaveletNoiseEstimator"),
    ),
    "deepinv-patch": Method(
        "deepinv patches",
        "deepinv",
        f"`PatchCovarianceNoiseEstimator` {_PLANES}",
        lambda: _deepinv("PatchCovarianceNoiseEstimator"),
    ),
}


def load_all(names: list[str]) -> dict[str, Estimate | str]:
    """Return each estimator, or why there is none."""
    loaded: dict[str, Estimate | str] = {}
    for name in names:
        try:
            loaded[name] = ESTIMATORS[name].load()
        except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
            loaded[name] = str(error)
    return loaded


def against_truth(model: NoiseModel, draw: Draw) -> dict[str, Any]:
    """What medrestore says of band and colour, and what they are on the grid that it found."""
    return {
        "certainty": str(model.certainty),
        "source": model.source,
        "band": [axis.band for axis in model.axes],
        "correlations": list(model.correlations),
        "true_correlations": list(lag_correlations(crop_band(draw.noise, model.grid))),
    }


def estimate(run: Estimate | str, draw: Draw, spacing: Spacing) -> dict[str, Any]:
    """Run one estimator on one draw; it may fail, for a reason that the page names."""
    if isinstance(run, str):
        return {"error": run}
    start = time.perf_counter()
    try:
        found = run(draw.noisy, spacing)
    except Exception as error:  # noqa: BLE001  a peer may fail in any way; the others go on
        return {"error": str(error) or type(error).__name__}
    measured = {"seconds": time.perf_counter() - start}
    if isinstance(found, NoiseModel):
        measured |= against_truth(found, draw)
        found = found.sigma
    if not np.isfinite(found):
        return {"error": f"found {found}"}
    return measured | {"found": found, "ratio": found / draw.sigma}


def measure(truth: Truth, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every estimator on every colour and level, on the whole volume and on its middle."""
    estimators = load_all(args.methods)
    runs = []
    for colour in args.colours:
        for level in args.levels:
            rng = np.random.default_rng([args.seed, round(1000 * level)])
            whole = simulate(truth.voxels, COLOURS[colour], level / 100 * truth.p99, rng)
            for size in args.crop:
                draw = whole.cut(middle_box(truth.voxels.shape, (size,) * 3)) if size else whole
                about = {"volume": titled(truth.name, size), "colour": COLOURS[colour].title}
                about |= {"level": level, "sigma": draw.sigma, "true_band": COLOURS[colour].band}
                for name, run in estimators.items():
                    found = estimate(run, draw, truth.spacing)
                    runs.append(about | {"method": name, "title": ESTIMATORS[name].title} | found)
                    told = found.get("error") or f"{found['ratio']:.3f} of the level"
                    print(f"{about['volume']}, {about['colour']} {level:g} %, {name}: {told}", flush=True)
    return runs


def false_maps(truth: Truth, count: int) -> list[dict[str, Any]]:
    """Noise of the same level everywhere: a map that is found in it is a false one."""
    rows = []
    for colour, seed in product(MAP_COLOURS, range(count)):
        level = 1 + seed % MAP_LEVELS
        rng = np.random.default_rng(seed)
        noisy = simulate(truth.voxels, COLOURS[colour], level / 100 * truth.p99, rng).noisy
        measured = measure_noise(noisy, truth.spacing)
        found = estimate_noise_map(crop_band(noisy, measured.grid), measured.axes)
        row = {"volume": truth.name, "colour": COLOURS[colour].title, "seed": seed, "level": level}
        row["map"] = found is not None
        rows.append(row | ({} if found is None else {"p5": found.range.p5, "p95": found.range.p95}))
    print(f"{truth.name}: {sum(row['map'] for row in rows)} false maps of {len(rows)}", flush=True)
    return rows


def titled(name: str, size: int) -> str:
    """Name of a volume, or of its middle, in the tables."""
    return f"{name}, middle {size}" if size else name


def describe_setup(args: argparse.Namespace, truths: list[Truth], side: int) -> dict[str, Any]:
    volumes = [part for path in args.volume for part in ("--volume", path.name)]
    options = {
        "--crop": ",".join(map(str, args.crop)),
        "--colours": ",".join(args.colours),
        "--levels": ",".join(f"{n:g}" for n in args.levels),
        "--methods": ",".join(args.methods),
        "--false-maps": str(args.false_maps),
        "--seed": str(args.seed),
    }
    told = [part for pair in options.items() for part in pair]
    command = ["python", "-m", "benchmarks.noise.run", *volumes, *told]
    chosen = {name: ESTIMATORS[name] for name in args.methods}
    parts = [(middle(truth, size) if size else truth, size) for truth in truths for size in args.crop]
    return {
        "command": shlex.join(command + (["--quick"] if args.quick else [])),
        "seed": args.seed,
        "map_side": side,
        "volumes": [{**part.describe(), "name": titled(part.name, size)} for part, size in parts],
        "methods": {name: {k: v for k, v in asdict(m).items() if k != "load"} for name, m in chosen.items()},
        **describe_machine({method.package for method in chosen.values()}),
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_arguments(parser, model=False)
    parser.add_argument(
        "--crop", default="0,96", help="sides of the middle that are measured, 0 for all (default: 0,96)"
    )
    parser.add_argument(
        "--colours", default=",".join(COLOURS), help=f"of {', '.join(COLOURS)} (default: all)"
    )
    parser.add_argument(
        "--levels", default="1,3,5,15", help="sigma in %% of the 99th percentile (default: 1,3,5,15)"
    )
    parser.add_argument("--methods", default=",".join(ESTIMATORS), help="estimators (default: all)")
    parser.add_argument("--false-maps", type=int, default=100, help="draws of each colour (default: 100)")
    args = parser.parse_args(argv)
    args.crop = [QUICK] if args.quick else [int(size) for size in args.crop.split(",")]
    args.levels = [float(level) for level in args.levels.split(",")]
    for key, known in (("colours", COLOURS), ("methods", ESTIMATORS)):
        chosen = getattr(args, key).split(",")
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"unknown {key} {', '.join(unknown)}; there are {', '.join(known)}")
        setattr(args, key, chosen)
    check_volumes(parser, args)
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    truths = [load_truth(path, quick=False) for path in args.volume]
    side = QUICK if args.quick else MAP_SIDE
    report = {
        "runs": [run for truth in truths for run in measure(truth, args)],
        "false_maps": [row for truth in truths for row in false_maps(middle(truth, side), args.false_maps)],
        "setup": describe_setup(args, truths, side),
    }
    stem = "noise-quick" if args.quick else "noise"
    write_page(args.out, stem, report, noise_tables.markdown(report))


if __name__ == "__main__":
    main()
