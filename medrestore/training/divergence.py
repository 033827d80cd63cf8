"""When a training has diverged: it ends there, and what it has learnt is not exported."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from medrestore.errors import TrainingError
from medrestore.networks.weights import not_finite

# In units of k^2: what makes a loss so large makes weights that are not finite a few steps later.
_WORST_LOSS = 1e6


def check_step(step: int, loss: float, gradient: float) -> None:
    """Look at the loss and at the norm of the gradient of a step.

    Raises:
        TrainingError: The training diverged.
    """
    for name, value in (("loss", loss), ("gradient", gradient)):
        if not math.isfinite(value):
            raise _diverged(step, f"the {name} is {value}")
    if loss > _WORST_LOSS:
        raise _diverged(step, f"the loss is {loss:.3g}, where no denoising at all has about 1")


def check_weights(step: int, weights: Mapping[str, Tensor]) -> None:
    """Look at the weights after a step.

    Raises:
        TrainingError: The training diverged.
    """
    if fault := not_finite(weights):
        raise _diverged(step, fault)


def check_score(step: int, score: float | None) -> None:
    """Look at the validation score after a step, in dB; None where none was taken.

    Raises:
        TrainingError: The training diverged.
    """
    if score is not None and not math.isfinite(score):
        raise _diverged(step, f"the validation score is {score}")


def _diverged(step: int, how: str) -> TrainingError:
    return TrainingError(
        f"the training diverged at step {step}: {how}; nothing is exported. Lower loop.rate, or raise "
        "loop.warmup, and go on from the last checkpoint or, if there is none or it diverged as well, start "
        "in another folder"
    )
