"""What a scan says of its own noise: level, map, band and colour, distribution, spikes."""

from medrestore.noise.measure import measure_noise
from medrestore.noise.model import AxisNoise, Certainty, Distribution, NoiseModel, Spike

__all__ = ["AxisNoise", "Certainty", "Distribution", "NoiseModel", "Spike", "measure_noise"]
