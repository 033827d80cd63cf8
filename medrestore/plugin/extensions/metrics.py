"""Metrics of plugins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from medrestore.metrics.evaluation import Metric
from medrestore.plugin.declarations import MetricSpec
from medrestore.plugin.extensions.arrays import handed_out
from medrestore.plugin.extensions.lookup import Extension, extensions
from medrestore.plugin.loading import stdout_on_stderr
from medrestore.types import BoolArray, RealArray


def declared_metrics() -> dict[str, Metric]:
    """Return the metrics of the working plugins by ``plugin/name``, each held to its contract."""
    return {one.name: Metric(_definition(one.spec), _Compute(one)) for one in extensions(MetricSpec)}


def _definition(spec: MetricSpec) -> str:
    direction = "higher" if spec.higher_is_better else "lower"
    return f"{spec.definition.rstrip('.')}; {direction} is better"


@dataclass(frozen=True)
class _Compute:
    """The function of a metric: a finite number, or a `PluginError`. What it prints goes to stderr."""

    metric: Extension[MetricSpec]

    def __call__(
        self, image: RealArray, reference: RealArray, data_range: float, mask: BoolArray | None
    ) -> float:
        try:
            with (
                handed_out(self.metric, "compute", image=image, reference=reference, mask=mask) as given,
                self.metric.running("compute", "a finite number"),
                stdout_on_stderr(),
            ):
                value = self.metric.spec.compute(given[0], given[1], data_range, given[2])
                number = float(value) if isinstance(value, Real) else math.nan
        except (
            MemoryError,
            RuntimeError,
        ) as error:  # want of memory, as torch says it too: of a metric alone
            raise self.metric.broken("memory did not suffice for compute; expected less use of it") from error
        if not math.isfinite(number):
            raise self.metric.broken(f"compute returned {value!r:.80}; expected a finite number")
        return number
