"""Layers over slabs: the values of the whole volume, in the memory of some planes."""

import gc

import pytest
import torch

from medrestore.networks import build
from medrestore.networks.rows import Convolution, Rows, convolve


def test_rows_come_out_as_they_went_in_whatever_the_slabs():
    whole = torch.arange(20.0).reshape(1, 1, 20, 1, 1)
    rows = Rows()
    for slab in whole.split([3, 1, 7, 9], dim=2):
        rows.put(slab)
    taken = [rows.take(count) for count in (2, 5, 4, 9)]
    assert [part.shape[2] for part in taken] == [2, 5, 4, 9]
    assert torch.equal(torch.cat(taken, dim=2), whole)
    assert rows.count == 0


@pytest.mark.parametrize("cuts", [[12], [1, 1, 10], [11, 1], [1] * 12])
def test_a_convolution_of_slabs_is_that_of_the_whole(cuts):
    conv, whole = Convolution(3, 5), torch.randn(1, 3, 12, 6, 7)
    with torch.inference_mode():
        streamed = torch.cat(list(convolve(conv, iter(whole.split(cuts, dim=2)), 12)), dim=2)
        assert torch.allclose(streamed, conv(whole), atol=1e-6)


@pytest.mark.parametrize("slab", [2, 6, 16, 48])
def test_a_stream_is_the_network_and_gives_back_the_slabs_it_got(slab):
    torch.manual_seed(0)
    network = build("voxelnet", {"widths": [8, 8, 8], "down": [1, 2, 1], "up": [1, 1]}).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    inputs, levels = torch.randn(2, 4, 48, 16, 8), torch.randn(2, 2)
    with torch.inference_mode():
        expected = network(inputs, levels)
        parts = list(network.stream(iter(inputs.split(slab, dim=2)), levels, 48))
    assert [part.shape[2] for part in parts] == [part.shape[2] for part in inputs.split(slab, dim=2)]
    assert expected.std() > 0.1
    assert torch.allclose(torch.cat(parts, dim=2), expected, atol=1e-5)


def test_a_stream_holds_no_more_of_a_long_volume_than_of_a_short_one():
    network = build("voxelnet", {"widths": [8, 8], "down": [1, 1], "up": [1]}).eval()

    gc.collect()
    gc.freeze()  # what is there already is not looked at again and again

    def held() -> int:
        tensors = [item for item in gc.get_objects() if type(item) is torch.Tensor and item.ndim == 5]
        return sum({item.data_ptr(): item.nbytes for item in tensors}.values())

    def most(length: int) -> int:
        slabs = (torch.zeros(1, 4, 8, 16, 16) for _ in range(length // 8))
        with torch.inference_mode():
            return max(held() for _ in network.stream(slabs, torch.zeros(1, 2), length))

    assert 0 < most(512) <= most(128)
