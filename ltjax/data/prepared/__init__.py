"""Data sets whose images are decoded once: reading them, writing them."""
