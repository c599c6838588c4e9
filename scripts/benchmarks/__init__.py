"""What scripts/benchmark.py measures: a module a family of cases, and PyTorch's side of those that have one."""
