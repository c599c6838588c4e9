"""The version, on the ground, where all may read it."""

__version__ = '0.2.0'
