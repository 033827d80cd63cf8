"""What a scan says of its own noise: level, map, band and colour, distribution, spikes."""

from medrestore.noise.hints import sampling_hints
from medrestore.noise.measure import measure_noise
from medrestore.noise.model import (
    AxisNoise,
    Certainty,
    Distribution,
    NoiseModel,
    SamplingHints,
    Spike,
    Verdict,
)

__all__ = [
    "AxisNoise",
    "Certainty",
    "Distribution",
    "NoiseModel",
    "SamplingHints",
    "Spike",
    "Verdict",
    "measure_noise",
    "sampling_hints",
]
