"""BIDS data sets: which scans, which names, which derivative."""
