"""Measurements of medrestore beside other methods; run as modules from the root of the repository."""
