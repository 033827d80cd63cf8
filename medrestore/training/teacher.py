"""Trained weights as a teacher: what they make of a patch seen otherwise becomes part of the target.

A clean patch is the posterior mean plus what no model can know: most of the loss, and nearly all of the noise
of its gradient. The estimate of the weights that a run begins with, from the patch turned around and moved by
a voxel, lacks it; in the mean over all views it is their self-ensemble, which the network so learns to be in
one evaluation. The clean patch keeps a share, and is what can make the network better than its teacher.

Source: Hinton, Vinyals and Dean, Distilling the knowledge in a neural network (2015).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medrestore.diffusion.precondition import network_inputs
from medrestore.engine.sampling.ensemble import View

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
"""The arguments of `network_inputs`, where each map is (B, 1, X, Y, Z)."""


def draw_view(rng: np.random.Generator, axes: int = 3) -> View:
    """Draw along which axes a patch is turned around, and along which of the first `axes` it is moved."""
    turned, moved = rng.random((2, 3)) < 0.5
    return View(
        tuple(axis for axis in range(3) if turned[axis]),
        tuple(axis for axis in range(axes) if moved[axis]),
    )


@torch.no_grad()
def taught_target(clean: Tensor, state: State, teacher: nn.Module, views: list[View], share: float) -> Tensor:
    """Return clean patches drawn towards what a teacher makes of what is told of them.

    Args:
        clean: (B, 1, X, Y, Z).
        state: State, its level, the scan, its level, gain and details: what the network is told.
        teacher: The network whose estimate it is.
        views: How it sees each patch.
        share: Weight of its estimate; a plane out of its sight stays clean.
    """
    noisy, sigma, image, sigma_image, gain, details = state
    noisy, image, gain = (
        torch.stack([_seen(patch, view) for patch, view in zip(part, views, strict=True)])
        for part in (noisy, image, gain)
    )
    mean, k, inputs, levels = network_inputs(noisy, sigma, image, sigma_image, gain, details)
    estimate = mean + k * teacher(inputs, levels).float()
    target = clean.clone()
    whole = tuple(slice(0, extent) for extent in clean.shape[2:])
    for index, view in enumerate(views):
        one = slice(index, index + 1)
        view.average(target[one], whole, estimate[one], share)  # type: ignore[arg-type]
    return target


def _seen(patch: Tensor, view: View) -> Tensor:
    for axis in range(3):
        patch = patch.index_select(axis + 1, view.seen(axis, patch.shape[axis + 1]).to(patch.device))
    return patch
