"""torchvision, which deepinv imports, beside a torch that it was not built for."""

from __future__ import annotations

import torch

try:
    import torchvision  # noqa: F401
except ImportError:
    pass  # then the tests are skipped
except RuntimeError:
    # Its compiled part is that of one build of torch: a wheel for CUDA does not load beside a torch for CPUs.
    # deepinv needs its Python part alone, which asks that two operators be declared.
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
