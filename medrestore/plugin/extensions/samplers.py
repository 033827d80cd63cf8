"""Samplers of plugins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from medrestore.diffusion.samplers import Denoise, DrawNoise, OnStep, SamplerStep
from medrestore.plugin.contract import what_is_wrong
from medrestore.plugin.declarations import SamplerSpec
from medrestore.plugin.extensions.lookup import Extension

R = TypeVar("R")


@dataclass(frozen=True)
class DeclaredSampler:
    """A sampler of a plugin, held to what `Sample` and `SamplerSpec` say."""

    declared: Extension[SamplerSpec]

    @property
    def volumes(self) -> float:
        """See `SamplerSpec.volumes`."""
        return self.declared.spec.volumes

    def evaluations(self, steps: int) -> int:
        """See `SamplerSpec.evaluations`.

        Raises:
            PluginError: It raises, or returns what is no number of evaluations.
        """
        with self.declared.running("evaluations", "a whole number"):
            count = self.declared.spec.evaluations(steps)
        if not isinstance(count, int) or count < 1:
            raise self.declared.broken(f"evaluations returned {count!r:.80}; expected a whole number from 1")
        return count

    def __call__(
        self,
        denoise: Denoise,
        x: Tensor,
        levels: Sequence[float],
        draw: DrawNoise,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """See `Sample`; what fails in what the sampler is given stays what it is.

        Raises:
            PluginError: It raises, or returns no volume of the shape of the state.
        """
        shape, failures = tuple(x.shape), list[BaseException]()
        seen = None if on_step is None else _passing(_of_steps(on_step), failures)
        try:
            with self.declared.running("sample", f"a sample of shape {shape}"):
                result: object = self.declared.spec.sample(
                    _passing(denoise, failures), x, levels, _passing(draw, failures), seen
                )
        finally:
            if failures:
                raise failures[0]
        with self.declared.running("the check of the sample", "a tensor"):
            problem = what_is_wrong(result, shape, x.device)
        if problem is not None or not isinstance(result, Tensor):
            raise self.declared.broken(f"sample {problem}")
        # A copy: the next sample may be drawn into the same memory.
        return result.detach().as_subclass(Tensor).clone()


def _passing(function: Callable[..., R], failures: list[BaseException]) -> Callable[..., R]:
    """Return a function of the host whose failures are told from those of the sampler."""

    def run(*given: object) -> R:
        try:
            return function(*given)
        except BaseException as error:
            failures.append(error)
            raise

    return run


def _of_steps(on_step: OnStep) -> OnStep:
    def run(at: object) -> None:
        if isinstance(at, SamplerStep):
            on_step(at)

    return run
