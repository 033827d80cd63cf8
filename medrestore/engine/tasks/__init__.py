"""What each task measures of a scan, and on which grid it is restored."""
