"""Faults: real runs of methods on tiny data that are killed, starved and damaged, and must end with the same bits."""
