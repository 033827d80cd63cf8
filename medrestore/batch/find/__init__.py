"""The cases of a folder or a list, and the names of their results."""
