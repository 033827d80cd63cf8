"""Run one filter on one scan in a process of its own, and write what came out with its time and memory.

Called by denoise.py: ``python worker.py METHOD IN.npz OUT.npz``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from methods import METHODS, Scan


def peak_mb() -> float:
    """Highest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # VmHWM starts anew at exec; ru_maxrss would start from the parent's peak
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


def main() -> None:
    name, source, target = sys.argv[1:]
    with np.load(source) as data:
        scan = Scan(
            data["voxels"], data["affine"], float(data["sigma"]), bool(data["rician"]), str(data["model"])
        )
    started = time.perf_counter()
    run = METHODS[name].load()
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
