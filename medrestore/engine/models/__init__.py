"""Models as the engine runs them: found, checked, loaded."""
