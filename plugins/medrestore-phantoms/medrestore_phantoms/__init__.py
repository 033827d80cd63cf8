"""Heads and brains of nobody, made of noise: `medrestore generate phantoms/head -o head.nii.gz`.

This module is imported whenever plugins are listed, so it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from medrestore import LoadContext, Modality, hookimpl
from medrestore.plugin import GeneratorSpec, Stage

WEIGHTS = Path(__file__).with_name("phantoms.safetensors")
SHA256 = "e33cef706b62219374963838b3a71626c78d2a9983a0f39f6ddab122550392d6"

TITLES = {
    "head": "T1-weighted MR of a head above the skull base, without a face",
    "brain": "T1-weighted MR of a brain, its skull taken off",
}


@hookimpl
def medrestore_generators() -> list[GeneratorSpec]:
    """Declare both kinds; they share their weights."""
    return [
        GeneratorSpec(
            name=kind,
            title=title,
            modality=Modality.MR,
            licence="Apache-2.0",
            reference="README.md of medrestore-phantoms",
            spacing_mm=(1.5, 2.0),
            field_mm=(192.0, 224.0, 192.0),
            load=partial(load, kind),
            scale=1000.0,
            weights=WEIGHTS,
            sha256=SHA256,
        )
        for kind, title in TITLES.items()
    ]


def load(kind: str, context: LoadContext) -> Sequence[Stage]:
    """Load the stages of one kind; torch is imported here."""
    from medrestore_phantoms.cascade import load_cascade

    return load_cascade(context.weights or WEIGHTS, SHA256, kind, context.device)
