"""The scan that a result would have given without noise: what the residual is taken of."""

from __future__ import annotations

from medrestore.engine.models.find import declared_operator
from medrestore.engine.tasks.measurement import Measurement
from medrestore.plugin import ModelSpec
from medrestore.plugin.extensions.operators import DeclaredOperator
from medrestore.types import RealArray
from medrestore.volume import Volume


def remeasured(measurement: Measurement, result: Volume, spec: ModelSpec) -> RealArray:
    """Return what would have been measured of a result, (X, Y, Z) on the grid of the scan.

    A model that undoes more than noise names the operator that its scans went through: without that, what it
    undid would stand in the residual as if anatomy had gone with the noise.

    Raises:
        ModelError: No plugin has the operator.
        PluginError: It breaks its contract.
    """
    if spec.operator is None:
        return measurement.remeasure(result)
    units = measurement.units
    operator = DeclaredOperator(declared_operator(spec.operator))
    seen = operator.forward(units.to_model(result.array), result.spacing)
    return units.from_model(seen)
