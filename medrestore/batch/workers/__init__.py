"""Processes that restore the cases of a batch, here or on other machines."""
