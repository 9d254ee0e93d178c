"""Analyses that need no reconstruction: virtual images and the centre of mass."""
