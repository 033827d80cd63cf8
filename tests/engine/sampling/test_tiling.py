"""Tiles cover a volume once, and do not change the result."""

import numpy as np
import pytest
import torch

from medrestore.diffusion import Condition, TwoMeasurementDenoiser, volume_noise
from medrestore.engine.sampling.tiled_denoiser import (
    SLAB,
    StreamedDenoiser,
    TiledDenoiser,
    cut_mirrored,
    plan_tiles,
)
from medrestore.networks import build


@pytest.mark.parametrize(
    ("shape", "tile", "halo", "multiple"),
    [((64, 40, 48), 24, 8, 8), ((16, 16, 16), 64, 8, 8), ((96, 8, 8), 40, 10, 4), ((33, 20, 7), 16, 3, 1)],
)
def test_inner_boxes_cover_every_voxel_once(shape, tile, halo, multiple):
    count = np.zeros(shape, int)
    for part in plan_tiles(shape, tile, halo, multiple):
        count[part.inner] += 1
        for extent, inner, outer in zip(shape, part.inner, part.outer, strict=True):
            assert outer.stop - outer.start <= tile
            assert inner.start - outer.start >= min(halo, inner.start)
            assert outer.stop - inner.stop >= min(halo, extent - inner.stop)
            assert outer.start % multiple == 0
    assert (count == 1).all()


def test_a_tile_without_a_core_is_refused():
    with pytest.raises(ValueError, match="nothing between"):
        plan_tiles((64, 64, 64), 16, 8, 8)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 3, 8, 13])
def test_mirrored_padding_is_numpys(axis, size):
    shape = [4, 4, 4]
    shape[axis] = size
    volume = torch.rand(1, 1, *shape)
    missing = [0, 0, 0]
    missing[axis] = 11
    want = np.pad(volume[0, 0].numpy(), [(0, m) for m in missing], mode="symmetric")
    box = tuple(slice(1, n + m) for n, m in zip(shape, missing, strict=True)) if size > 1 else ()
    box = box or tuple(slice(0, n + m) for n, m in zip(shape, missing, strict=True))
    assert np.array_equal(cut_mirrored(volume, box)[0, 0].numpy(), want[box])


def tiny_denoiser():
    torch.manual_seed(0)
    network = build("voxelnet", {"widths": [8, 8], "down": [1, 1], "up": [1]}).eval()
    for parameter in network.parameters():  # zero-initialised branches would hide the context
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return network, TwoMeasurementDenoiser(network)


@pytest.mark.parametrize("sigma", [float("inf"), 0.2])
def test_tiled_is_whole(sigma):
    network, denoiser = tiny_denoiser()
    shape = (1, 1, 70, 36, 41)
    x, scan = volume_noise(shape, (0,)), volume_noise(shape, (1,))
    gain = torch.rand(shape) + 0.5
    whole, tiled = (
        TiledDenoiser(denoiser, tile, network.halo, network.multiple)(x, sigma, Condition(scan, 0.1, gain))
        for tile in (128, 2 * network.halo + 8)
    )
    assert len(plan_tiles((72, 36, 44), 2 * network.halo + 8, network.halo, network.multiple)) > 2
    assert whole.shape == x.shape
    assert (whole - x).std() > 0.01
    assert torch.allclose(whole, tiled, atol=1e-5)


@pytest.mark.parametrize("tile", [128, "least"])
@pytest.mark.parametrize("length", [8, SLAB, 70, 5 * SLAB])
def test_streamed_is_whole(length, tile):
    network, denoiser = tiny_denoiser()
    shape = (1, 1, length, 70, 21)
    x, scan = volume_noise(shape, (0,)), volume_noise(shape, (1,))
    gain = torch.rand(shape) + 0.5
    condition = Condition(scan, 0.1, gain)
    side = 2 * network.halo + 8 if tile == "least" else tile
    assert len(plan_tiles((8, 72, 24), side, network.halo, network.multiple)) > 1 or tile == 128
    seen = []
    args = (network.halo, network.multiple)
    whole = TiledDenoiser(denoiser, 128, *args)(x, 0.2, condition)
    streamed = StreamedDenoiser(denoiser, side, *args, on_tile=lambda *p: seen.append(p))(x, 0.2, condition)
    assert torch.allclose(whole, streamed, atol=1e-5)
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) >= length // SLAB


def test_the_halo_is_needed():
    """The test above can fail: half the halo is visibly not enough."""
    network, denoiser = tiny_denoiser()
    x = volume_noise((1, 1, 96, 16, 16), (0,))
    tile = 2 * network.halo + 8
    run = [TiledDenoiser(denoiser, tile, halo, network.multiple) for halo in (4, network.halo)]
    short, exact = (tiled(x, float("inf"), Condition(x, 0.1)) for tiled in run)
    assert (short - exact).abs().max() > 1e-4


def test_halo_is_the_receptive_field():
    """A change of one voxel is felt within the halo and nowhere else."""
    network, denoiser = tiny_denoiser()
    x = volume_noise((1, 1, 96, 8, 8), (0,))
    changed = x.clone()
    changed[0, 0, 48, 4, 4] += 1
    a, b = (denoiser(v, float("inf"), Condition(v, 0.1)) for v in (x, changed))
    felt = torch.nonzero((a != b).any(dim=(3, 4))[0, 0]).flatten()
    assert felt.min() < 48 < felt.max()
    assert 48 - felt.min() <= network.halo
    assert felt.max() - 48 <= network.halo


def test_progress_counts_all_voxels():
    network, denoiser = tiny_denoiser()
    x = volume_noise((1, 1, 64, 16, 16), (0,))
    seen = []
    TiledDenoiser(denoiser, 40, 16, network.multiple, on_tile=lambda *p: seen.append(p))(
        x, float("inf"), Condition(x, 0.1)
    )
    assert seen[-1] == (x.numel(), x.numel())
    assert len(seen) == len(plan_tiles((64, 16, 16), 40, 16, 4))
