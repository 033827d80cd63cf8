"""Diffusion: forward noise, schedules, preconditioning and samplers, as functions over a callable."""

from medrestore.diffusion.denoiser import Condition, Denoiser, StreamingDenoiser
from medrestore.diffusion.noise import add_noise, volume_noise
from medrestore.diffusion.precondition import TwoMeasurementDenoiser
from medrestore.diffusion.samplers import SamplerStep, euler, heun, one_step_mean, stochastic
from medrestore.diffusion.schedules import geometric_levels, karras_levels

__all__ = [
    "Condition",
    "Denoiser",
    "SamplerStep",
    "StreamingDenoiser",
    "TwoMeasurementDenoiser",
    "add_noise",
    "euler",
    "geometric_levels",
    "heun",
    "karras_levels",
    "one_step_mean",
    "stochastic",
    "volume_noise",
]
