"""Iterative single-slice ptychography: object, probe and positions from overlapping patterns."""
