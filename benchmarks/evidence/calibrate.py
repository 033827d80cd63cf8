"""Calibrate the intervals of the shipped models, and write the `calibration.toml` of each.

    python -m benchmarks.evidence.calibrate --nilearn FOLDER
    python -m benchmarks.evidence.calibrate --models mr-denoise --keep runs/calibrate

The truths are those of `interval_scans`; nilearn, whose template is one of them, is unpacked into FOLDER.
What was restored is kept in the folder given with --keep, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import pickle
import zlib
from pathlib import Path

import numpy as np

from benchmarks.evidence.interval_scans import TRUTHS, truths
from benchmarks.harness.common import ROOT
from medrestore.engine import LoadedModel, RestoreOptions, load_model
from medrestore.engine.intervals.calibration import FILE
from medrestore.engine.intervals.fit import RestoredScan, fit_calibration
from medrestore.errors import InputError
from medrestore.options import CalibrateOptions
from medrestore.training.calibrate import calibrated_model, restored_scan, restored_scans, write_calibration
from medrestore.training.simulate import simulate

MODELS = ROOT / "medrestore" / "builtin" / "models"
DRAWS = {
    "mr-denoise": {"held-out": 6, "tune": 2},
    "mr-superres": {"held-out": 6, "tune": 3},
    "ct-superres": {"held-out": 4, "tune": 4},
}
FEW = {"held-out": 3, "tune": 2}
"""Scans made of each truth; of a subject with several, others of each."""
DOUBTED = {
    "mr-denoise": {
        "ds002748/sub-22": (10, 25, 26),
        "ds000011/sub-01": (7, 38),
        "ds000011/sub-02": (39, 45),
        "ds000011/sub-03": (21, 28, 42, 46, 57),
        "open_ms/patient12": (10, 41, 49),
        "niivue T2 2 mm": (6, 16),
    }
}
"""Further draws of what is held out, the level of whose noise is in doubt: such are few, and were found by
reading the noise of up to sixty of each."""
NOTES = {
    "mr-denoise": "Heads: five subjects T1, one T2, one T2 and FLAIR; crops of 64 x 72 x 56 voxels.",
    "mr-superres": "Heads; crops of 64 x 72 x 56 voxels, three subjects with their noise taken out first.",
    "ct-denoise": "One head that was scanned and five computed bodies; crops of 96 x 96 x 32 voxels.",
    "ct-superres": "One head that was scanned, its noise taken out first, two computed bodies and two heads, "
    "three crops of 80 x 80 x 48 voxels of each.",
}


def part(model: LoadedModel, name: str, which: str, args: argparse.Namespace) -> list[RestoredScan]:
    """Return the restored scans of a set, from the folder of kept ones or made anew."""
    kept = args.keep / f"{name}_{which}.pkl"
    if kept.exists():
        found: list[RestoredScan] = pickle.loads(kept.read_bytes())
        return found
    found = []
    for subject, number, truth in truths(name, which, args.nilearn):
        options = CalibrateOptions(draws=DRAWS.get(name, FEW)[which], seed=args.seed + number)
        try:
            made = restored_scans(model, truth, subject, options)
        except InputError as error:
            print(f"{name}, {subject}: left out, {error}", flush=True)
            continue
        found += made
        print(name, which, subject, [f"{one.psnr:.1f} dB" for one in made], flush=True)
    args.keep.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(found))
    return found


def doubted(model: LoadedModel, name: str, args: argparse.Namespace) -> list[RestoredScan]:
    """Return further scans the level of whose noise is in doubt, kept as those of a set are."""
    kept, draws = args.keep / f"{name}_doubted.pkl", DOUBTED.get(name, {})
    if kept.exists():
        known: list[RestoredScan] = pickle.loads(kept.read_bytes())
        return known
    found = []
    for subject, _, truth in truths(name, "held-out", args.nilearn) if draws else ():
        for draw in draws.get(subject, ()):
            rng = np.random.default_rng([args.seed, draw, zlib.crc32(subject.encode())])
            try:
                found.append(restored_scan(model, simulate(truth, model.spec, rng), subject, rng))
            except InputError as error:
                print(f"{name}, {subject}, draw {draw}: left out, {error}", flush=True)
                continue
            print(name, subject, f"draw {draw}, in doubt: {found[-1].in_doubt}", flush=True)
    found = [one for one in found if one.in_doubt]  # draws of the other truth of a subject may not be
    kept.write_bytes(pickle.dumps(found))
    return found


def main(argv: list[str] | None = None) -> None:
    """Calibrate the models that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(TRUTHS))
    parser.add_argument("--nilearn", type=Path, default=Path())
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "calibrate")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for name in args.models.split(","):
        model = load_model(RestoreOptions(model=name))
        tuning, held_out = (part(model, name, which, args) for which in ("tune", "held-out"))
        held_out += doubted(model, name, args)
        made = fit_calibration(tuning, held_out, calibrated_model(model, NOTES[name]))
        write_calibration(made, MODELS / name / FILE, overwrite=True)
        print(f"{name}: {made.population.scans} scans of {made.population.subjects} subjects")


if __name__ == "__main__":
    main()
