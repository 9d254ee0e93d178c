"""Calibrations measured from patterns and maps: pixels, disk, descan, shifts, and the corrections they ask for."""
