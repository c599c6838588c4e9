"""Metrics with intervals, and the report of a run: host-side NumPy, nothing heavy at import."""
