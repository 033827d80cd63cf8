"""Training: patches with simulated degradation, the loop, the export of a model folder."""
