"""Calibrations: their kinds, how each is measured, how long and for what it holds."""
