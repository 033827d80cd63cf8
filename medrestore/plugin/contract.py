"""A loaded model, held to its contract while it runs: the one way from a declaration to a denoiser."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from medrestore.diffusion.denoiser import Condition, Denoiser, StreamingDenoiser
from medrestore.errors import PluginError
from medrestore.plugin.containment import ADVICE, contained
from medrestore.plugin.spec import LoadContext, ModelSpec


def load_denoiser(spec: ModelSpec, context: LoadContext, origin: str) -> ContractDenoiser:
    """Load a model and hold it to its contract.

    Args:
        spec: Its declaration.
        context: Where and how it is to run.
        origin: What to call the model, and the plugin that it is from, in a message.

    Raises:
        ModelError: It says that something is wrong with it, its weights for example.
        PluginError: Loading it raised anything else, or did not return a function.
    """
    with contained(origin, "load", "a denoiser"):
        denoiser = spec.load(context)
    if not callable(denoiser):
        raise PluginError(
            f"{origin}: load returned {_kind(denoiser)}; expected a function of x, sigma and a condition; "
            f"{ADVICE}"
        )
    return ContractDenoiser(denoiser, origin)


class ContractDenoiser:
    """A denoiser that does what `Denoiser` says, or raises an error that names it.

    It is a `StreamingDenoiser` itself. The model is given copies, so that nothing of the caller's is in its
    reach, and they are compared with the originals afterwards: that sees every change, through a numpy view
    too. The result is checked, and has no gradient graph. What the model changes of the process is put back,
    see `process_state_kept`. All of it takes a few milliseconds for a million voxels, and the memory of the
    copies.

    Args:
        denoiser: The model's own, on trial.
        origin: What to call it in a message.
    """

    def __init__(self, denoiser: Denoiser, origin: str) -> None:
        self.denoiser = denoiser
        self.origin = origin

    @property
    def streams(self) -> bool:
        """See `StreamingDenoiser`."""
        with self._running("streams", "true or false"):
            return bool(getattr(self.denoiser, "streams", False))

    def __call__(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """See `Denoiser`.

        Raises:
            PluginError: The model raised, returned what is no estimate, or changed what it was given.
        """
        shape = tuple(x.shape)
        copies = _Copies(x, condition)
        with self._running("the denoiser", f"an estimate of shape {shape}"):
            result = self.denoiser(copies.x, sigma, copies.condition)
        self._check_unchanged(copies)
        return self._checked(result, shape, x.device)

    def stream(self, parts: Iterable[tuple[Tensor, Condition]], sigma: float, total: int) -> Iterator[Tensor]:
        """See `StreamingDenoiser`.

        Raises:
            PluginError: See `__call__`.
        """
        given = _Parts(parts, self._check_unchanged)
        with self._running("stream", "an iterator over estimates"):
            estimates = iter(cast(StreamingDenoiser, self.denoiser).stream(given, sigma, total))
        rows = 0
        while (result := self._next(estimates, given)) is not None:
            if not given.shapes:
                raise self._broken(f"returns more than the {rows} planes that it was given by then")
            estimate = self._checked(result, given.shapes.popleft(), given.device)
            rows += estimate.shape[2]
            yield estimate
        if rows < total:
            raise self._broken(f"returns {rows} planes; expected {total}")
        given.check()

    def _next(self, estimates: Iterator[object], given: _Parts) -> object:
        """Return the next estimate, None at the end; what fails on the caller's side stays what it is."""
        try:
            with self._running("stream", "an estimate of every part"):
                return next(estimates, None)
        finally:
            if given.failure is not None:
                raise given.failure

    @contextmanager
    def _running(self, action: str, expected: str) -> Iterator[None]:
        with contained(self.origin, action, expected), torch.no_grad():
            yield

    def _checked(self, result: object, shape: tuple[int, ...], device: torch.device | None) -> Tensor:
        with self._running("the check of the result", "a tensor"):  # a tensor may be of a kind of its own
            problem = what_is_wrong(result, shape, device)
        if problem is not None or not isinstance(result, Tensor):
            raise self._broken(str(problem))
        return result.detach().as_subclass(Tensor)

    def _check_unchanged(self, copies: _Copies) -> None:
        if changed := copies.changed():
            what = " and ".join(changed)
            raise self._broken(f"changes {what} in place; expected what it is given as it was")

    def _broken(self, problem: str) -> PluginError:
        return PluginError(f"{self.origin}: the denoiser {problem}; {ADVICE}")


def what_is_wrong(result: object, shape: tuple[int, ...], device: torch.device | None = None) -> str | None:
    """Return what keeps a result from being an estimate, beginning with a verb; None where nothing does.

    Args:
        result: What a denoiser returned.
        shape: Of the scan that it was given, (B, 1, X, Y, Z).
        device: Where that lies; None where it may lie anywhere.
    """
    if not isinstance(result, Tensor) or tuple(result.shape) != shape:
        return f"returns {_kind(result)}; expected a tensor of shape {shape}"
    if device is not None and result.device != device:
        return f"returns a tensor on {result.device}; expected it on {device}, as what it is given"
    if result.dtype != torch.float32:
        return f"returns {result.dtype}; expected float32 whatever the dtype of the arithmetic"
    # One pass without a temporary; NaN is both the least and the largest.
    if all(math.isfinite(end) for end in result.detach().aminmax()):
        return None
    count = int((~result.isfinite()).sum())
    return f"returns {count} values that are not finite on {shape}; expected NaN and infinity nowhere"


def _kind(result: object) -> str:
    return f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__


class _Copies:
    """Copies of what a model is given.

    Attributes:
        x: Of the state; the scan itself where the caller's is.
        condition: With copies of its tensors.
    """

    def __init__(self, x: Tensor, condition: Condition) -> None:
        self.x = x.clone()
        image = self.x if condition.image is x else condition.image.clone()
        gain = None if condition.gain is None else condition.gain.clone()
        self.condition = replace(condition, image=image, gain=gain)
        pairs = {"x": (x, self.x), "condition.image": (condition.image, image)}
        if condition.image is x:
            del pairs["x"]
        if condition.gain is not None and gain is not None:
            pairs["condition.gain"] = (condition.gain, gain)
        self._pairs = pairs

    def changed(self) -> list[str]:
        """Return the names of what is no longer as it was."""
        return [name for name, (original, copy) in self._pairs.items() if not _same(original, copy)]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


class _Parts:
    """Parts of a stream on their way to a model: copied, and compared when the next is asked for.

    Attributes:
        shapes: Of the parts that no estimate was returned of.
        device: Where the last part lies; None before there was one.
        failure: What went wrong on the way, None where nothing did.
    """

    def __init__(
        self, parts: Iterable[tuple[Tensor, Condition]], check_unchanged: Callable[[_Copies], None]
    ) -> None:
        self.shapes: deque[tuple[int, ...]] = deque()
        self.device: torch.device | None = None
        self.failure: BaseException | None = None
        self._parts = iter(parts)
        self._check_unchanged = check_unchanged
        self._last: _Copies | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, Condition]]:
        return self

    def __next__(self) -> tuple[Tensor, Condition]:
        try:
            self.check()
            x, condition = next(self._parts)
            self._last = _Copies(x, condition)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.shapes.append(tuple(x.shape))
        self.device = x.device
        return self._last.x, self._last.condition

    def check(self) -> None:
        """Compare the part that was given last with its original."""
        last, self._last = self._last, None
        if last is not None:
            self._check_unchanged(last)
