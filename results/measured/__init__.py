"""Speeds measured by `benchmarks/`, as CSV; each file name says device, dtype and torch version."""
