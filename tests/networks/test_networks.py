"""The network: folding, starting point, and the same result with and without gradients."""

import pytest
import torch

from medrestore.errors import ModelError
from medrestore.networks import build
from medrestore.networks.fold import fold, unfold

OPTIONS = {"widths": [8, 16], "down": [1, 1], "up": [1]}
KEPT = ["stem", "down.0.0.conv_out", "head"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = build("voxelnet", OPTIONS)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def test_unfold_inverts_fold_and_a_block_becomes_the_channels_of_one_position():
    x = torch.arange(2 * 3 * 4 * 6 * 8.0).reshape(2, 3, 4, 6, 8)
    folded = fold(x)
    assert folded.shape == (2, 24, 2, 3, 4)
    assert torch.equal(unfold(folded), x)
    assert torch.equal(folded[1, 8:16, 1, 2, 3], x[1, 1, 2:4, 4:6, 6:8].flatten())


def test_an_untrained_network_predicts_no_noise():
    untrained = build("voxelnet", OPTIONS)
    out = untrained(torch.randn(1, 4, 8, 8, 8), torch.zeros(1, 2))
    assert out.shape == (1, 1, 8, 8, 8)
    assert not out.any()


def test_work_in_place_changes_no_bit(network):
    inputs, levels = torch.randn(2, 4, 16, 8, 8), torch.randn(2, 2)
    before = inputs.clone()
    with_gradient = network(inputs, levels).detach()
    with torch.inference_mode():
        without = network(inputs, levels)
    assert with_gradient.std() > 0.01
    assert torch.equal(with_gradient, without)
    assert torch.equal(inputs, before)


def test_a_coarser_level_comes_back_in_the_layout_that_its_normalisation_reads_on_one_thread_too(network):
    network.to(memory_format=torch.channels_last_3d)
    coarse = torch.randn(1, 16, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.inference_mode():
            grown = network._grow(0, coarse)
            convolved = network.grow[0](coarse)
    finally:
        torch.set_num_threads(threads)
    assert grown.shape == (1, 8, 8, 8, 8)
    assert grown.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(grown[..., ::2, ::2, ::2], convolved)


def test_what_is_marked_stays_in_float32_beside_bfloat16_and_the_rest_does_not():
    torch.manual_seed(0)
    plain, marked = (build("voxelnet", OPTIONS | {"float32": names}) for names in ([], KEPT))
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    marked.load_state_dict(plain.state_dict())
    types = {}
    for name in (*KEPT[1:], "up.0.0.conv_out"):
        part = marked.get_submodule(name)
        part.register_forward_hook(lambda _, __, out, name=name: types.__setitem__(name, out.dtype))
    inputs, levels = torch.randn(1, 4, 16, 16, 16), torch.randn(1, 2)
    with torch.inference_mode():
        exact = plain(inputs, levels)
        with torch.autocast("cpu", torch.bfloat16):
            rounded, kept = plain(inputs, levels), marked(inputs, levels)
            streamed = torch.cat(list(marked.stream(iter(inputs.split(8, dim=2)), levels, 16)), dim=2)
    assert types == {KEPT[1]: torch.float32, KEPT[2]: torch.float32, "up.0.0.conv_out": torch.bfloat16}
    assert 0 < (kept - exact).std() < 0.9 * (rounded - exact).std()
    assert (streamed - kept).std() < (kept - exact).std()


@pytest.mark.parametrize("names", [[], KEPT, KEPT[:1], KEPT[1:]])
def test_in_bfloat16_too_work_in_place_changes_no_bit(names):
    torch.manual_seed(0)
    network = build("voxelnet", OPTIONS | {"float32": names})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs, levels = torch.randn(1, 4, 16, 8, 8), torch.randn(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with_gradient = network(inputs, levels).detach()
        with torch.inference_mode():
            without = network(inputs, levels)
    assert torch.equal(with_gradient, without)


@pytest.mark.parametrize("names", [["shrink.0"], ["stem", "none"], "stem", [["stem"]], 3])
def test_what_is_no_part_that_could_stay_in_float32_is_refused(names):
    with pytest.raises(ModelError, match="float32 is"):
        build("voxelnet", OPTIONS | {"float32": names})


def test_every_parameter_gets_a_gradient(network):
    network(torch.randn(2, 4, 8, 8, 8), torch.randn(2, 2)).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias before a normalisation over channels may have none; a kernel must not
    assert [name for name in without if name.endswith("weight")] == []


def test_what_cannot_be_built_is_named():
    with pytest.raises(ModelError, match="unknown network 'unet'"):
        build("unet", {})
    with pytest.raises(ModelError, match="voxelnet"):
        build("voxelnet", {"widths": [8], "down": [1, 1], "up": []})
