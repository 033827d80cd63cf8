"""Memory and time that a restoration will take, from what this machine was measured to need."""
