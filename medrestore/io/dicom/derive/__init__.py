"""A derived series: the DICOM series that is written of a result."""
