"""Data sets, splits, streams of batches and augmentations."""
