"""The contract of an operator, checked on small grids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from medrestore.errors import PluginError
from medrestore.plugin.contract import what_is_wrong
from medrestore.plugin.declarations import OperatorSpec
from medrestore.testing.contract import watched
from medrestore.testing.small_scans import gaussian

ADJOINT = 1e-5
"""How far both sides of the adjoint's equation may differ, relative to the norms of A x and y."""


def check_operator(spec: OperatorSpec) -> None:
    """Build an operator for small grids, and hold it to what `OperatorSpec` and `Operator` say.

    Tried are the shape, type and finiteness of what `forward` and `adjoint` return, that they leave their
    arguments as they were, and that ``<A x, y> == <x, A^T y>``, which a map that is not linear fails too.

    Raises:
        PluginError: Lists everything that does not hold.
    """
    problems = [
        f"on {shape} voxels: {problem}"
        for shape, spacing in (((9, 8, 7), (1.0, 1.0, 1.0)), ((12, 16, 10), (0.7, 1.0, 2.5)))
        for problem in watched("the operator", partial(_operator_problems, spec, shape, spacing))
    ]
    if problems:
        raise PluginError("\n  - ".join([f"operator {spec.name!r} breaks its contract:", *problems]))


def _operator_problems(
    spec: OperatorSpec, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Iterator[str]:
    operator = spec.build(shape, spacing)
    given = [1 + gaussian((1, 1, *shape), seed) for seed in (1, 2)]
    kept = [one.clone() for one in given]
    results = [operator.forward(given[0]), operator.adjoint(given[1])]
    for name, result, before, after in zip(("forward", "adjoint"), results, kept, given, strict=True):
        if (problem := what_is_wrong(result, (1, 1, *shape))) is not None:
            yield f"{name} {problem}"
            return
        if not torch.equal(before, after):
            yield f"{name} changes its argument in place; expected it as it was"
    (image, measured), (seen, back) = kept, results
    left, right = (float((a.double() * b.double()).sum()) for a, b in ((seen, measured), (image, back)))
    scale = float(seen.double().norm() * measured.double().norm())
    if abs(left - right) > ADJOINT * scale:
        yield f"<A x, y> is {left:.6g} and <x, A^T y> {right:.6g}: the adjoint is another's"
