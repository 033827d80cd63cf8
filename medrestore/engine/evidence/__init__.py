"""What a restoration is accompanied by: its record, its scores, its residual."""
