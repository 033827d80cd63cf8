"""Operators of plugins: what scans went through before they were restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from medrestore.plugin.contract import what_is_wrong
from medrestore.plugin.declarations import OperatorSpec
from medrestore.plugin.extensions.lookup import Extension
from medrestore.types import FloatArray


@dataclass(frozen=True)
class DeclaredOperator:
    """An operator of a plugin, held to what `OperatorSpec` and `Operator` say."""

    declared: Extension[OperatorSpec]

    def forward(self, array: FloatArray, spacing: tuple[float, ...]) -> FloatArray:
        """Return what would have been measured of a volume.

        Args:
            array: (X, Y, Z) float32 in units in which nothing is 0; the plugin is given a copy.
            spacing: Sizes of its voxels in mm.

        Raises:
            PluginError: It raises, or returns what is no volume of the same shape.
        """
        shape = (1, 1, *array.shape)
        image = torch.from_numpy(array.copy())[None, None]
        with self.declared.running("forward", f"a tensor of shape {shape}"), torch.no_grad():
            operator = self.declared.spec.build(
                cast("tuple[int, int, int]", array.shape), cast("tuple[float, float, float]", spacing)
            )
            result: object = operator.forward(image)
            problem = what_is_wrong(result, shape)
        if problem is not None or not isinstance(result, Tensor):
            raise self.declared.broken(f"forward {problem}")
        measured: FloatArray = result.detach()[0, 0].numpy()
        return measured
