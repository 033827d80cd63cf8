"""What plugins declare beside models: found by name, and held to its contract while it runs."""
