"""FDA's low-contrast phantom: are faint inserts as easy to find after denoising as before?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medrestore.testing.low_contrast import (
    Images,
    Insert,
    area_change,
    area_of,
    observed,
    read_doses,
    read_inserts,
    region_of,
    restored_images,
)
from medrestore.testing.processes import Source
from medrestore.testing.trial import DRAWS, Trial, TrialOptions


def measure(folder: Path, model: str, seed: int) -> list[dict[str, Any]]:
    """Look for every insert at every dose, before and after."""
    source = Source(model)
    trial = Trial(source, source.load(), TrialOptions(seed=seed))
    inserts, runs = read_inserts(folder), []
    region = region_of(inserts)
    for dose, images in read_doses(folder).items():
        restored = restored_images(trial, images, region)
        for insert in inserts:
            runs.append({"dose": dose, "contrast": insert.contrast} | compare(images, restored, insert, seed))
    return runs


def compare(before: Images, after: Images, insert: Insert, seed: int) -> dict[str, Any]:
    """Return areas, contrasts and noise of an insert, and the interval of the change of the area."""
    scores = [observed(images, insert) for images in (before, after)]
    rng = np.random.default_rng(seed)
    _, (low, high) = area_change(scores[:1], scores[1:], rng, DRAWS)
    inside = insert.template > insert.template.max() / 2
    found: dict[str, Any] = {"images": len(scores[0][0]), "low": low, "high": high}
    for name, images, seen in zip(("before", "after"), (before, after), scores, strict=True):
        absent, present = (images[kind][:, *insert.box] for kind in (False, True))
        found[name] = {
            "area": area_of(seen),
            "contrast": float(present[:, inside].mean() - absent[:, inside].mean()),
            "noise": float(absent.std(axis=0).mean()),
        }
    return found
