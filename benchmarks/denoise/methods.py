"""The filters that are compared. Each imports its own library, and only when it is asked for."""

# ruff: noqa: PLC0415  a filter's process must hold its own library alone, or peak memory means nothing

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from medrestore_classical.filters import (
    NLM_BLOCK,
    NLM_PATCH,
    TV_EPS,
    TV_WEIGHT,
    high_signal_corrected,
    nlm,
    tv,
)


@dataclass
class Scan:
    """What a filter is given.

    Attributes:
        voxels: (X, Y, Z), float32.
        affine: (4, 4), voxel to RAS+ mm.
        sigma: True noise level, in the unit of the voxels.
        rician: Rician noise; otherwise Gaussian.
        model: Name or folder of the model that medrestore runs; empty for its default.
        gain: (X, Y, Z) true map of the noise relative to `sigma`; None where it is constant.
        psd: (X, Y, Z) true power spectrum of the noise, that of `coloured.spectrum`; None where it is white.
        notes: A filter may leave facts about its run here.
    """

    voxels: np.ndarray
    affine: np.ndarray
    sigma: float
    rician: bool
    model: str = ""
    gain: np.ndarray | None = None
    psd: np.ndarray | None = None
    notes: dict[str, float | str] = field(default_factory=dict)


Filter = Callable[[Scan], np.ndarray]


@dataclass(frozen=True)
class Method:
    """A filter with its name in the tables; `load` imports what it needs and returns it."""

    title: str
    package: str
    settings: str
    load: Callable[[], Filter]


def _nothing() -> Filter:
    return lambda scan: scan.voxels


def _ours(*, given: bool = False, noise_map: str = "auto", ensemble: int | None = None) -> Filter:
    import medrestore
    from medrestore.geometry import Geometry

    restore = medrestore.restore  # loaded on first use, with torch; not to be counted as filtering

    def run(scan: Scan) -> np.ndarray:
        volume = medrestore.Volume(
            scan.voxels, Geometry(scan.voxels.shape, scan.affine), medrestore.Modality.MR
        )
        options = medrestore.RestoreOptions(
            model=scan.model or None,
            noise=scan.sigma if given else "auto",
            noise_map=noise_map,
            ensemble=ensemble,
            force=True,
        )
        result = restore(volume, options)
        for phase, seconds in result.record.timings.items():
            scan.notes[f"timing {phase}"] = seconds
        for key, value in result.record.noise.items():
            scan.notes[f"noise {key}"] = value if isinstance(value, int | float) else str(value)
        scan.notes["model"] = result.record.model.name
        return result.volume.array

    return run


def _ours_told() -> Filter:
    import torch

    from medrestore.diffusion import Condition
    from medrestore.engine import RestoreOptions, load_model
    from medrestore.engine.cost.budget import predict
    from medrestore.engine.run import tiled_denoiser
    from medrestore.engine.sampling.posterior import posterior_mean
    from medrestore.physics.kspace import colour_details
    from medrestore.types import Modality

    def run(scan: Scan) -> np.ndarray:
        options = RestoreOptions(model=scan.model or None)
        model = load_model(options, Modality.MR)
        bright = np.float32(np.percentile(scan.voxels, 99))
        image = torch.from_numpy(scan.voxels / bright)[None, None]
        gain = None if scan.gain is None else torch.from_numpy(scan.gain)[None, None]
        details = colour_details((0.0, 0.0, 0.0)) if model.spec.colour else ()
        condition = Condition(image, float(scan.sigma / bright), gain, details)
        budget = predict(scan.voxels.shape, options, model=model)
        mean = posterior_mean(tiled_denoiser(model, options, budget), condition)
        scan.notes["model"] = model.ref.name
        return np.maximum(mean[0, 0].numpy() * bright, 0)

    return run


def _nlm(patch: int, block: int) -> Filter:
    return lambda scan: nlm(scan.voxels, scan.sigma, rician=scan.rician, patch=patch, block=block)


def _tv() -> Filter:
    return lambda scan: tv(scan.voxels, scan.sigma, rician=scan.rician)


def _ants() -> Filter:
    import ants

    def run(scan: Scan) -> np.ndarray:
        spacing = tuple(float(length) for length in np.linalg.norm(scan.affine[:3, :3], axis=0))
        image = ants.from_numpy(scan.voxels, spacing=spacing)
        return ants.denoise_image(image, noise_model="Rician" if scan.rician else "Gaussian").numpy()

    return run


def load_bm4d() -> Callable[[np.ndarray, float | np.ndarray], np.ndarray]:
    """Return BM4D, called with voxels and their noise: its deviation, or its power spectrum."""
    from bm4d import bm4d

    if not hasattr(np, "trapz"):  # bm4d 4.2.5 calls it so; NumPy 2.4 has it as trapezoid alone
        np.trapz = np.trapezoid  # noqa: NPY201
    return bm4d


def _bm4d_corrected(*, coloured: bool = False) -> Filter:
    bm4d = load_bm4d()

    def run(scan: Scan) -> np.ndarray:
        if coloured and scan.psd is None:
            raise ValueError("no spectrum of the noise was given")
        peak = float(scan.voxels.max())
        told = scan.psd / peak**2 if coloured else scan.sigma / peak
        filtered = bm4d(scan.voxels / peak, told) * peak
        return high_signal_corrected(filtered, scan.sigma) if scan.rician else filtered

    return run


def _bm4d_stabilised() -> Filter:
    bm4d = load_bm4d()

    from benchmarks.denoise.rician_vst import RicianVST

    def run(scan: Scan) -> np.ndarray:
        if not scan.rician:
            raise ValueError("a Rician transform has no use in Gaussian noise")
        transform = RicianVST(scan.sigma, float(scan.voxels.max()))
        stable = transform.forward(scan.voxels)
        peak = float(stable.max())
        return transform.inverse(bm4d(stable / peak, 1.0 / peak) * peak)

    return run


def _nlm_method(title: str, patch: int, block: int) -> Method:
    settings = f"true sigma, rician, blockwise, patch radius {patch}, block radius {block}"
    return Method(title, "dipy", settings, lambda: _nlm(patch, block))


_CORRECTED = "then sqrt(max(a^2 - sigma^2, 0))"
METHODS: dict[str, Method] = {
    "noisy": Method("noisy input", "numpy", "no filter", _nothing),
    "ours-auto": Method("medrestore", "medrestore", "noise level estimated from the scan", _ours),
    "ours": Method("medrestore, sigma given", "medrestore", "true sigma", lambda: _ours(given=True)),
    "ours-8": Method(
        "medrestore, 8 estimates",
        "medrestore",
        "noise level estimated from the scan, mean over eight estimates, --ensemble 8",
        lambda: _ours(ensemble=8),
    ),
    "ours-constant": Method(
        "medrestore, no map",
        "medrestore",
        "noise level estimated from the scan, taken to be constant",
        lambda: _ours(noise_map="constant"),
    ),
    "ours-told": Method(
        "medrestore, told the map", "medrestore", "true sigma and true map of the noise", _ours_told
    ),
    "nlm": _nlm_method("DIPY NLM", NLM_PATCH, NLM_BLOCK),
    "nlm-small": _nlm_method("DIPY NLM, radii 1 and 2", 1, 2),
    "nlm-default": _nlm_method("DIPY NLM, its default radii", 1, 5),
    "tv": Method(
        "scikit-image TV",
        "scikit-image",
        f"Chambolle, weight {TV_WEIGHT:g} sigma, eps {TV_EPS:g}, {_CORRECTED}",
        _tv,
    ),
    "ants": Method(
        "ANTs DenoiseImage",
        "antspyx",
        "Rician model, defaults p = 1, r = 2; takes no sigma, estimates its own",
        _ants,
    ),
    "bm4d": Method("BM4D", "bm4d", f"true sigma, profile np, {_CORRECTED}", _bm4d_corrected),
    "bm4d-vst": Method(
        "BM4D in a Rician VST",
        "bm4d",
        "stabilised by rician_vst.py, exact unbiased inverse",
        _bm4d_stabilised,
    ),
}

# Not among those that are compared in white noise.
COLOURED_METHODS: dict[str, Method] = {
    "bm4d-psd": Method(
        "BM4D, told the spectrum",
        "bm4d",
        f"true power spectrum of the noise, profile np, {_CORRECTED}",
        lambda: _bm4d_corrected(coloured=True),
    ),
}
