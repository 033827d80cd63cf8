"""The denoiser over a whole volume: tiles, views of the scan, samples of the posterior."""
