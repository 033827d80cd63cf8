"""Intervals for every voxel of a result, and bounds for its quality: split conformal prediction.

`features` is what is known of a voxel's error after one evaluation, `scale` the size that it lets expect,
`conformal` the quantiles of errors over that size, `calibration` the file that keeps them, `fit` how it is
made and `predict` how it is used.
"""
