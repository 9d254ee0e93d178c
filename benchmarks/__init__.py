"""Measurements against limits and peers: ``python -m benchmarks``; not part of the distribution."""
