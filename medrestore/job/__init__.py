"""One scan from file to files: called by the command line, Python, a batch and a node."""
