"""What predictions are worth, with intervals: host-side NumPy, nothing heavy at import."""
