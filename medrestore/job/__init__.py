"""One scan from file to files: what the command line, Python, a batch and a node all call."""
