"""Benchmarks: ratios of things that were measured in the same run; `python -m benchmarks`."""
