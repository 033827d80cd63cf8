"""The training loop: resumable to the step, because every batch is a function of the seed and the step."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medrestore.diffusion.precondition import network_inputs
from medrestore.engine.machine.device import has_native_bfloat16
from medrestore.errors import ModelError
from medrestore.plugin.extensions.networks import build_network, check_network
from medrestore.training.checkpoint import CHECKPOINT, save_checkpoint
from medrestore.training.divergence import check_score, check_step, check_weights
from medrestore.training.log import append_row, start_log
from medrestore.training.optim import make_optimisers
from medrestore.training.patches import Batch, PatchSampler, draw_batches
from medrestore.training.recipe import LoopOptions, TrainConfig


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told after every step."""

    step: int
    steps: int
    loss: float
    seconds: float
    validation_psnr: float | None = None


class LevelWeights:
    """Weights that make every noise level count alike.

    What a model cannot know makes most of the loss, and its share falls with the noise, so that an unweighted
    loss is deaf to the high levels. Dividing by a running mean of the loss at each level turns it into a mean
    of logarithms: a decibel gained counts the same everywhere. Compare Karras et al., Analyzing and Improving
    the Training Dynamics of Diffusion Models (CVPR 2024), eq. 4, which learns the same quantity.
    """

    EDGES = np.log(np.geomspace(0.005, 0.5, 17))

    def __init__(self, decay: float = 0.98) -> None:
        self.decay = decay
        self.mean = np.ones(len(self.EDGES) + 1)

    def __call__(self, log_k: Tensor, loss: Tensor) -> Tensor:
        """Return the weighted mean of (B,) losses at (B,) logarithms of k, and take note of them."""
        bins = np.digitize(log_k.detach().cpu().numpy(), self.EDGES)
        for index, value in zip(bins, loss.detach().cpu().numpy(), strict=True):
            self.mean[index] = self.decay * self.mean[index] + (1 - self.decay) * float(value)
        weights = torch.as_tensor(1 / self.mean[bins], dtype=loss.dtype, device=loss.device)
        return (weights * loss).mean()


def learning_rate(step: int, options: LoopOptions) -> float:
    """Rise linearly, hold, and fall to zero along a cosine."""
    rise = min(1.0, (step + 1) / max(options.warmup, 1))
    start = options.hold * options.steps
    fall = max(0.0, (step - start) / max(options.steps - start, 1))
    return options.rate * rise * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


def draw_levels(scan: Tensor, options: LoopOptions, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw the state levels of a batch whose scans have the levels `scan`, (B,), and drop some scans.

    Returns:
        (B,) levels of the state and of the scan; never both infinite.
    """
    count = len(scan)
    # Around the scan's own level: far above it the state says nothing, far below it the scan does not.
    state = scan * torch.from_numpy(np.exp(rng.uniform(-3.0, 1.5, count)).astype(np.float32))
    dropped = torch.from_numpy(rng.random(count) < options.unconditional)
    alone = torch.from_numpy(rng.random(count) < options.mean) & ~dropped
    return state.masked_fill(alone, math.inf), scan.masked_fill(dropped, math.inf)


class Trainer:
    """Trains one network; everything that a checkpoint must hold is in `state_dict`."""

    def __init__(self, config: TrainConfig, device: str = "cpu") -> None:
        self.options = config.loop
        self.device = torch.device(device)
        requested = self.options.bfloat16
        self.bfloat16 = has_native_bfloat16(device) if requested is None else requested
        torch.manual_seed(self.options.seed)
        network = build_network(config.network.name, config.network.options)
        check_network(network, config.network.name, config.network.options.get("details", 0))
        self.network = network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average: nn.Module = copy.deepcopy(self.network).eval().requires_grad_(False)
        if self.options.compile:
            self.network.compile()  # in place: the names of its weights stay
        self.optimisers = make_optimisers(self.network, self.options.rate)
        self.weights = LevelWeights()
        self.step = 0
        self.origin: str | None = None
        self.identity: dict[str, str] = {}
        """What is learnt from and how, which a checkpoint is to agree with; see `checkpoint.identity`."""

    def start_from(self, weights: dict[str, Tensor], model: str) -> None:
        """Begin with the weights of a trained model rather than with random ones; its card will say so.

        Raises:
            ModelError: They are the weights of another network.
        """
        self.origin = model
        try:
            for network in (self.network, self.average):
                getattr(network, "load_compatible_weights", network.load_state_dict)(weights)
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelError(
                f"{model} is of another network than that of the configuration; start from a model whose "
                "model.toml has the same [network]"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if there had been no break."""
        return {
            "step": self.step,
            "origin": self.origin,
            "identity": self.identity,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "level_means": torch.from_numpy(self.weights.mean),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.step = state["step"]
        self.origin = state.get("origin", self.origin)  # the origin of this call has no effect any more
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.weights.mean = state["level_means"].numpy().copy()

    def train_step(self, batch: Batch) -> tuple[float, float]:
        """Make one update.

        Args:
            batch: That of this step.

        Returns:
            The mean squared error in units of k^2 and the norm of the gradient.
        """
        options = self.options
        rng = np.random.default_rng((options.seed, self.step, 1))
        log_k, error = self._errors(batch, *draw_levels(batch.sigma, options, rng), rng)
        self.weights(log_k, error).backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.step, options)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return error.mean().item(), norm.item()

    def _errors(
        self, batch: Batch, state: Tensor, scan: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return (B,) logarithms of k and (B,) mean squared errors in units of k^2."""
        clean, image, gain, details, state, scan = (
            part.to(self.device, non_blocking=True)
            for part in (batch.clean, batch.scan, batch.gain, batch.details, state, scan)
        )
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        finite = torch.nan_to_num(state, posinf=0.0)[:, None, None, None, None]
        noisy = clean * (finite > 0) + finite * noise
        mean, k, inputs, levels = network_inputs(noisy, state, image, scan, gain, details)
        # What a network draws itself, by dropout, say, is a function of the seed and the step as well.
        torch.manual_seed(int(rng.integers(2**63)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            predicted = self.network(inputs, levels)
        error = (predicted - (clean - mean) / k).square().mean(dim=(1, 2, 3, 4))
        return levels[:, 0], error

    def check_weights(self) -> None:
        """Refuse weights that are not finite.

        Raises:
            TrainingError: There are some.
        """
        for network in (self.network, self.average):
            check_weights(self.step, network.state_dict())

    @torch.no_grad()
    def _update_average(self) -> None:
        # A short memory at first: the early weights are far from anything worth remembering.
        decay = min(self.options.ema, self.step / (self.step + 10))
        for average, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(value, 1 - decay)
        # Buffers are no weights: the statistics of a batch normalisation, say, which are a mean already.
        for kept, found in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(found)


def run(
    trainer: Trainer,
    sampler: PatchSampler,
    folder: Path,
    validate: Callable[[nn.Module], float] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Train to the last step.

    Args:
        trainer: A new trainer, or one that goes on from a checkpoint.
        sampler: Draws its batches.
        folder: Where `checkpoint.pt` and `log.csv` live; it is there.
        validate: Score of the averaged weights in dB, called every `validate_steps`.
        progress: Called after every step.

    Raises:
        OutputError: The folder cannot be written to.
        TrainingError: It diverges; the checkpoint is one from before that, if there is one.
    """
    options = trainer.options
    checkpoint = folder / CHECKPOINT
    log = folder / "log.csv"
    start_log(log, trainer.step)
    saved = time.monotonic()
    batches = draw_batches(sampler, options, trainer.step, pin=trainer.device.type == "cuda")
    while trainer.step < options.steps:
        start = time.monotonic()
        rate = learning_rate(trainer.step, options)
        loss, norm = trainer.train_step(next(batches))
        seconds = time.monotonic() - start
        last = trainer.step == options.steps
        due = options.validate_steps and (last or trainer.step % options.validate_steps == 0)
        saving = last or time.monotonic() - saved > 60 * options.checkpoint_minutes
        check_step(trainer.step, loss, norm)
        if saving or due:
            trainer.check_weights()
        score = validate(trainer.average) if validate and due else None
        check_score(trainer.step, score)
        row = (trainer.step, f"{loss:.5f}", f"{rate:.3e}", f"{norm:.4f}", f"{seconds:.3f}")
        append_row(log, (*row, "" if score is None else f"{score:.3f}"))
        if saving:
            save_checkpoint(trainer, checkpoint)
            saved = time.monotonic()
        if progress:
            progress(Progress(trainer.step, options.steps, loss, seconds, score))
