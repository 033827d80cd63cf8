"""Run one method on one scan in a process of its own, and write what came out with its time and memory.

Called by the benchmarks: ``python -m benchmarks.harness.worker TASK METHOD IN.npz OUT.npz``; TASK is denoise
or superres.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

MODULES = {"denoise": "benchmarks.denoise.methods", "superres": "benchmarks.superres.methods"}


def peak_mb() -> float:
    """Highest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # VmHWM starts anew at exec; ru_maxrss would start from the parent's peak
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    task, name, source, target = sys.argv[1:]
    module = importlib.import_module(MODULES[task])
    with np.load(source) as data:
        scan = module.Scan(**{key: value if value.ndim else value.item() for key, value in data.items()})
    started = time.perf_counter()
    run = {**module.METHODS, **getattr(module, "COLOURED_METHODS", {})}[name].load()
    imported = time.perf_counter()
    before = peak_mb()
    result = np.asarray(run(scan), dtype=np.float32)
    measured = {
        "import_s": imported - started,
        "filter_s": time.perf_counter() - imported,
        "peak_mb": peak_mb(),
        "peak_before_filter_mb": before,
        "notes": scan.notes,
    }
    np.savez(target, voxels=result, measured=json.dumps(measured, default=str))


if __name__ == "__main__":
    main()
