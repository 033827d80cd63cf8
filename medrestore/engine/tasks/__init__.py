"""What each task measures of a scan, and on which grid the scan is restored."""
