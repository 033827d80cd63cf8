"""DICOM: files to headers, headers to a plan, a plan to volumes; and the series derived from them."""
