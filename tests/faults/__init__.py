"""Faults of the matrix in docs/reliability.md, injected into real parts."""
