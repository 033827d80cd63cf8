"""CT anatomy that is computed: bodies, heads around a brain, and the corner of a head that is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage.filters import threshold_multiotsu

import medrestore
from benchmarks.harness.common import CH2, ROOT
from medrestore.testing import phantoms
from medrestore.training import anatomy
from medrestore.types import Modality
from medrestore.volume import Volume

LABELS = ROOT.parent / "shared" / "data" / "labels"
BRAIN = CH2.with_name("ch2bet.nii.gz")
"""Colin27 without its skull."""

CORNER = 96
"""Voxels along each axis of a drawn head."""


def label_map(number: int) -> Path:
    """Return where the label map of a head lies; the models of CT have seen most, if in other contrast."""
    return LABELS / f"head{number}_labels.nii.gz"


def body(seed: int) -> Volume:
    """Return a slab of a chest or an abdomen."""
    return _volume(anatomy.torso(np.random.default_rng(seed)))


def head(brain: Path, seed: int) -> Volume:
    """Return a head around a brain.

    Args:
        brain: A label map, or a T1-weighted scan without its skull, whose tissues are told by brightness.
        seed: Of the skull, the scalp and lesions.
    """
    array = medrestore.read(brain).array
    labels = array.astype(np.uint8) if brain.parent == LABELS else tissues(array)
    return _volume(anatomy.head(labels, np.random.default_rng(seed)))


def corner(seed: int) -> Volume:
    """Return the corner of a head, drawn without a label map."""
    return Volume.from_array(phantoms.head(CORNER, True, seed).voxels, np.eye(4), Modality.CT)


def tissues(brain: np.ndarray) -> np.ndarray:
    """Return the labels of fluid, grey and white matter of a T1 scan without its skull; 0 elsewhere."""
    edges = threshold_multiotsu(brain[brain > 0], 3)
    return np.where(brain > 0, np.array([4, 3, 2], np.uint8)[np.digitize(brain, edges)], np.uint8(0))


def _volume(made: anatomy.Phantom) -> Volume:
    return Volume.from_array(made.hu, np.diag([*made.spacing, 1.0]), modality=Modality.CT)
