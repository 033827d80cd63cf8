from __future__ import annotations

import math

import medrestore_median
import torch

from medrestore import LoadContext
from medrestore.diffusion import Condition
from medrestore.testing import check_model


def test_the_model_keeps_the_contract():
    (spec,) = medrestore_median.medrestore_models()
    check_model(spec)


def test_a_single_bright_voxel_is_removed_and_a_flat_edge_stays():
    (spec,) = medrestore_median.medrestore_models()
    scan = torch.zeros(1, 1, 8, 8, 8)
    scan[..., 4:] = 1.0
    spiked = scan.clone()
    spiked[0, 0, 2, 2, 2] = 9.0
    denoise = spec.load(LoadContext())
    torch.testing.assert_close(denoise(torch.zeros_like(scan), math.inf, Condition(spiked, 0.1)), scan)
