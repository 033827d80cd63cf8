"""deepinv where it can be imported; where it cannot, its tests are skipped."""

from __future__ import annotations

import importlib.util

import torch

MISSING = [name for name in ("deepinv", "torchvision") if importlib.util.find_spec(name) is None]

collect_ignore = ["test_deepinv.py"] if MISSING else []


def pytest_report_header() -> str:
    """Say why tests are left out."""
    return f"medrestore-deepinv: not tested, {' and '.join(MISSING)} missing" if MISSING else ""


if not MISSING:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        # Its compiled part is that of one build of torch: a wheel for CUDA does not load beside a torch for
        # CPUs. deepinv needs its Python part alone, which asks that two operators be declared.
        LIBRARY = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
