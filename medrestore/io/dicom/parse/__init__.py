"""One DICOM file: its header, its frames, its values."""
