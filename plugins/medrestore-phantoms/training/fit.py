"""Train one of the two networks for a number of minutes, on a processor with bfloat16.

python training/fit.py ALIGNED first 80 OUT    # 8 mm, the whole field at once
python training/fit.py ALIGNED finer 80 OUT    # 4 mm of 8, and 1.5 to 2 mm of 4, in patches
python training/fit.py --join OUT              # both into medrestore_phantoms/phantoms.safetensors

Training goes on from the weights that are in OUT already, with the rate of a new run.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import corpus
import numpy as np
import torch
import torch.nn.functional as F
from medrestore_phantoms.cascade import (
    COARSE,
    FINE,
    FIRST_MM,
    finer_details,
    finer_network,
    part,
)
from medrestore_phantoms.population import FirstNetwork, Population, typical
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medrestore.diffusion.precondition import network_inputs

BATCH, SIDE, PEAK, WARM_UP, EVERY = 8, 32, 1.5e-3, 60, 100
POOL, RANK = 1800, 80
"""Changed subjects of each kind that a population is measured on, and its principal components."""

LEAST_DEVIATION = 0.02
LEAST_DETAIL, DRAWS = 0.03, 100
"""Least deviation of a finer volume from a coarser one, and how many volumes of a kind it is measured on."""

MIDDLE, WIDTH = 0.7, 1.2
"""Median of the level in units of the deviation of the baseline, and deviation of its logarithm."""

HEADS = {"first": 0.58, "finer": 0.55}
COARSE_SHARE = 0.5
"""Share of the patches of 4 mm."""

EACH = (-1, 1, 1, 1, 1)


class Training(Protocol):
    """What is trained: a network, its loss on something drawn at random, and what is written beside it."""

    network: nn.Module

    def loss(self) -> Tensor:
        """Return the mean squared error over levels, in the unit of what is not known at each."""
        ...

    def beside(self) -> Mapping[str, Tensor]:
        """Return further tensors for the file."""
        ...


class People:
    """Subjects by kind, one of them drawn at a time."""

    def __init__(self, folder: Path, rng: np.random.Generator, heads: float) -> None:
        found = corpus.load(folder)
        self.kinds = {kind: [one for one in found if one.kind == kind] for kind in ("brain", "head")}
        self.rng, self._heads = rng, heads

    def kind(self) -> str:
        """Draw a kind."""
        return "head" if self.rng.random() < self._heads else "brain"

    def one(self, kind: str) -> corpus.Subject:
        """Draw a subject."""
        return self.kinds[kind][self.rng.integers(len(self.kinds[kind]))]


def levels(typical: Tensor) -> Tensor:
    """Draw a level for each of a batch, in strata: every step sees high levels and low ones."""
    places = (torch.arange(BATCH) + torch.rand(BATCH)) / BATCH
    return typical * (math.log(MIDDLE) + WIDTH * torch.special.ndtri(places.clamp(1e-3, 1 - 1e-3))).exp()


class First:
    """The first stage, on whole fields of one kind."""

    def __init__(self, people: People) -> None:
        self.people, self.network = people, FirstNetwork(torch.bfloat16)
        self.populations = {
            kind: Population(_measured(subjects, people.rng)) for kind, subjects in people.kinds.items()
        }

    def loss(self) -> Tensor:
        """See `Training`."""
        kind, rng = self.people.kind(), self.people.rng
        population = self.populations[kind]
        clean = torch.stack([corpus.whole(self.people.one(kind), FIRST_MM, rng) for _ in range(BATCH)])
        sigma = levels(torch.tensor(population.typical))
        state = clean + sigma.reshape(EACH) * torch.randn(clean.shape)
        estimate, k = self.network(state, sigma, population)
        error: Tensor = ((estimate - clean) / k).square().mean()
        return error

    def beside(self) -> Mapping[str, Tensor]:
        """See `Training`."""
        return {
            f"{kind}.{name}": one
            for kind, population in self.populations.items()
            for name, one in population.state_dict().items()
        }


def _measured(subjects: Sequence[corpus.Subject], rng: np.random.Generator) -> dict[str, Tensor]:
    """Return the parts of a `Population`, rounded as they will be stored."""
    drawn = [corpus.whole(subjects[i % len(subjects)], FIRST_MM, rng) for i in range(POOL)]
    flat, shape = torch.stack(drawn).flatten(1), drawn[0].shape
    mean, deviation = flat.mean(0), flat.std(0)
    inside = deviation > LEAST_DEVIATION
    centred = (flat - mean)[:, inside]
    squares, vectors = torch.linalg.eigh(centred @ centred.T)
    squares, vectors = squares.flip(0)[:RANK], vectors.flip(1)[:, :RANK]
    basis = ((centred.T @ vectors) / squares.sqrt()).T.contiguous()
    parts = {
        "mean": mean.reshape(shape),
        "deviation": deviation.clamp(min=LEAST_DEVIATION).reshape(shape),
        "basis": basis,
        "power": squares / POOL,
        "rest": (centred - (centred @ basis.T) @ basis).square().mean(0),
    }
    return {**{name: one.half().float() for name, one in parts.items()}, "inside": inside}


class Finer:
    """The finer stages, on patches."""

    def __init__(self, people: People) -> None:
        self.people, self.network = people, finer_network()
        self.detail = {
            f"{kind}.{which}": _detail(subjects, people.rng, coarse=which == COARSE)
            for kind, subjects in people.kinds.items()
            for which in (COARSE, FINE)
        }

    def loss(self) -> Tensor:
        """See `Training`."""
        clean, baseline, deviation, gain, details = [], [], [], [], []
        for _ in range(BATCH):
            coarse, kind = self.people.rng.random() < COARSE_SHARE, self.people.kind()
            patch = corpus.patch(self.people.one(kind), SIDE, self.people.rng, coarse=coarse)
            detail = self.detail[f"{kind}.{COARSE if coarse else FINE}"]
            clean.append(patch.clean)
            baseline.append(patch.baseline)
            deviation.append(typical(detail))
            here = corpus.look_up(detail, FIRST_MM, patch.where).clamp(min=LEAST_DETAIL)
            gain.append(here / deviation[-1])
            details.append(finer_details(patch.spacing, patch.noise))
        target, level = torch.stack(clean), torch.tensor(deviation)
        sigma = levels(level)
        state = target + sigma.reshape(EACH) * torch.randn(target.shape)
        mean, k, inputs, told = network_inputs(
            state, sigma, torch.stack(baseline), level, torch.stack(gain), torch.tensor(details)
        )
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.network(inputs, told)
        error: Tensor = (predicted.float() - (target - mean) / k).square().mean()
        return error

    def beside(self) -> Mapping[str, Tensor]:
        """See `Training`."""
        return self.detail


def _detail(subjects: Sequence[corpus.Subject], rng: np.random.Generator, *, coarse: bool) -> Tensor:
    """Return the deviation of whole fields from what coarser voxels show, rounded as it will be stored."""
    fields = [
        corpus.whole_patch(one, rng, coarse=coarse) for one in subjects for _ in range(DRAWS // len(subjects))
    ]
    squares = torch.stack([(one.clean - one.baseline).square() for one in fields]).mean(0)
    mean = F.avg_pool3d(squares, int(FIRST_MM / fields[0].spacing))
    smooth = F.avg_pool3d(F.pad(mean[None], (1,) * 6, mode="replicate"), 3, 1)[0]
    return smooth.sqrt().clamp(min=LEAST_DETAIL).half().float()


def train(training: Training, minutes: float, out: Path) -> None:
    """Train until the minutes are over; the mean over the last weights is written now and then."""
    network = training.network
    if out.exists():
        network.load_state_dict(part(load_file(out), out.stem))
    optimiser = torch.optim.AdamW(network.parameters(), PEAK, weight_decay=1e-2, betas=(0.9, 0.99))
    averaged = {name: one.detach().clone() for name, one in network.state_dict().items()}
    begin, step, lost = time.time(), 0, 0.0
    while (done := (time.time() - begin) / 60 / minutes) < 1:
        for group in optimiser.param_groups:
            group["lr"] = PEAK * min(1, (step + 1) / WARM_UP) * (0.49 * (1 + math.cos(math.pi * done)) + 0.02)
        loss = training.loss()
        lost += loss.item()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        for name, one in network.state_dict().items():
            averaged[name].lerp_(one.detach(), 1 - min(0.998, step / (step + 10)))
        if step % EVERY == 0:
            print(step, round(lost / EVERY, 4), flush=True)
            lost = 0.0
            _save(out, averaged, training.beside())
    _save(out, averaged, training.beside())


def _save(path: Path, weights: Mapping[str, Tensor], beside: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(exist_ok=True)
    named = {f"{path.stem}.{name}": one for name, one in weights.items()}
    save_file({name: one.contiguous() for name, one in {**named, **beside}.items()}, path)


def join(out: Path) -> None:
    """Write both networks and the populations in half precision, and print the sha256 for `SHA256`."""
    both = {**load_file(out / "first.safetensors"), **load_file(out / "finer.safetensors")}
    stored = {name: one.half() if one.is_floating_point() else one for name, one in both.items()}
    target = Path(__file__).resolve().parents[1] / "medrestore_phantoms" / "phantoms.safetensors"
    save_file({name: one.contiguous() for name, one in stored.items()}, target)
    print(hashlib.sha256(target.read_bytes()).hexdigest())


def main(folder: Path, stage: str, minutes: float, out: Path) -> None:
    """Train a stage."""
    seed = 1 if stage == "first" else 2
    torch.manual_seed(seed)
    people = People(folder, np.random.default_rng(seed), HEADS[stage])
    train(First(people) if stage == "first" else Finer(people), minutes, out / f"{stage}.safetensors")


if __name__ == "__main__":
    if sys.argv[1] == "--join":
        join(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
