"""What this machine has: memory and devices."""
